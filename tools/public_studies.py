"""What the node says to public studies: every series of a folder of real data, by every shipped model, as a table.

Run ``python -m tools.public_studies [FOLDER_OF_MODELS …]`` to see it; ``--write`` puts it into
docs/explanation/public-studies.md.
The data lie where `tests.support.needs.REAL_DATA` looks (DICOM_NODE_TEST_DATA); any
folder of folders of DICOM files does.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.misc import is_dicom
from pydicom.uid import UID

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import SourceFile
from dicom_node.core.entities import Finding
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.uids import derived_uid
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.cards.folders import find_models
from dicom_node.inference.images.volume import read_volume
from dicom_node.inference.model_run import SourceImage, read_dataset
from dicom_node.inference.runner import run_model
from dicom_node.ingest.picture import wrap
from dicom_node.ingest.wrapping import PictureRequest
from tests.support.needs import REAL_DATA
from tests.support.studies.data_factories import request_for_files
from tools.generated_docs import DOCS, with_part

PART = "public studies"
_NAME_CHARACTERS = 34
_FINDINGS_SHOWN = 3
_UNITS = {"[hnsf'U]": "HU", "1": ""}


@dataclass(frozen=True)
class Offered:
    """One series of a folder: the name of its first file, what it is, and all its files."""

    folder: str
    name: str
    what: str
    files: tuple[SourceFile, ...]


def offered(root: Path, scratch: Path) -> Iterator[Offered]:
    """Yield the series of every folder; pictures are wrapped as an upload would."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        pictures = [_wrapped(path, scratch) for path in sorted(folder.rglob("*.png"))]
        others = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path)]
        series: dict[str, list[Path]] = defaultdict(list)
        for path in [*others, *pictures]:
            header = dcmread(path, stop_before_pixels=True)
            key = str(path) if path in pictures else str(header.get("SeriesInstanceUID") or path)
            series[key].append(path)
        for paths in series.values():
            yield Offered(folder.name, paths[0].name, _described(paths), tuple(map(_source, paths)))


def table(root: Path, extra_models: Sequence[Path] = ()) -> str:
    """Run every model on every series; return a Markdown table. Series of a folder that are alike share a row."""
    cards = find_models(extra_models)
    lines = ["| folder | series | as a volume | " + " | ".join(f"`{name}`" for name in sorted(cards)) + " |"]
    lines.append("|" + "---|" * (len(cards) + 3))
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        for one in offered(root, Path(scratch)):
            said = [_outcome(one.files, cards[name].folder, Path(scratch)) for name in sorted(cards)]
            alike[one.folder, one.what, (_as_volume(one.files), *said)].append(one.name)
    lines += [
        f"| {folder} | {_named(names)}{what} | {' | '.join(said)} |" for (folder, what, said), names in alike.items()
    ]
    return "\n".join(lines)


def _named(names: Sequence[str]) -> str:
    if len(names) > 1:
        return f"{len(names)} series: "
    return f"`{names[0] if len(names[0]) <= _NAME_CHARACTERS else names[0][: _NAME_CHARACTERS - 1] + '…'}`: "


def _as_volume(files: Sequence[SourceFile]) -> str:
    """Say what the gate makes of a series for a model that takes any volume."""
    try:
        images = [SourceImage(one.path, read_dataset(one.path, pixels=False)) for one in files]
        volume = read_volume(images, Gate(), [])
    except NotAnalysable as refusal:
        return f"`{refusal.reason}`"
    shape = " × ".join(map(str, volume.values_zyx.shape))
    return f"{shape}, {' × '.join(f'{mm:.3g}' for mm in volume.spacing_zyx_mm)} mm"


def _outcome(files: Sequence[SourceFile], model: Path, scratch: Path) -> str:
    answer = run_model(request_for_files(files, model, scratch / "out"))
    if isinstance(answer, NotAnalysed):
        return f"`{answer.reason}`"
    told = "; ".join(_told(finding) for finding in answer.findings[:_FINDINGS_SHOWN])
    return f"{'partial: ' if answer.partial else ''}{told} ({len(answer.sources)} images){_withheld(answer)}"


def _told(finding: Finding) -> str:
    parts = [finding.presence.value.lower()] if finding.presence is not None else []
    parts += [f"{finding.probability:.2f}"] if finding.probability is not None else []
    parts += [f"{m.value:g} {_UNITS.get(m.unit.value, m.unit.value)}".strip() for m in finding.measurements[:2]]
    return f"{finding.label} {', '.join(parts)}"


def _withheld(answer: Analysis) -> str:
    kept_back = [note for note in answer.notes if "not reported" in note]
    return "; " + " ".join(kept_back).replace("|", "/") if kept_back else ""


def _described(paths: Sequence[Path]) -> str:
    header = dcmread(paths[0], stop_before_pixels=True)
    sop_class = UID(str(header.get("SOPClassUID") or "")).name.removesuffix(" Storage").removesuffix(" Image")
    frames = header.get("NumberOfFrames")
    count = f"{len(paths)} files" if len(paths) > 1 else "1 file"
    kind = sop_class.removesuffix(" Image Storage - For Presentation") or "no SOP class"
    return f"{header.get('Modality') or '?'}, {kind}, {count}{f' of {frames} frames' if frames else ''}"


def _source(path: Path) -> SourceFile:
    header = dcmread(path, stop_before_pixels=True)
    uids = [str(header.get(keyword) or path.name) for keyword in ("SOPInstanceUID", "SeriesInstanceUID")]
    return SourceFile(path=path, sop_instance_uid=uids[0], series_instance_uid=uids[1])


def _wrapped(picture: Path, scratch: Path) -> Path:
    target = scratch / f"{picture.stem}.dcm"
    attributes = {"Modality": "DX", "PatientName": "Public^Picture", "PatientID": picture.stem}
    wrap(
        PictureRequest(
            picture=picture,
            target=target,
            attributes=attributes,
            study_instance_uid=derived_uid("public-picture", picture.stem),
            instance_number=1,
            max_megapixels=100,
        )
    )
    return target


def main() -> None:
    """Print the table, or write it into the page."""
    warnings.simplefilter("ignore")
    models = [Path(argument) for argument in sys.argv[1:] if argument != "--write"]
    found = table(REAL_DATA, models)
    if "--write" in sys.argv:
        page = DOCS / "explanation" / "public-studies.md"
        page.write_text(with_part(page.read_text(encoding="utf-8"), PART, found), encoding="utf-8")
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main()
