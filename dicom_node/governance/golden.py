"""Ask a model the questions whose answers are known, on this machine, and set what it says beside what it should."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.analysis import SourceFile
from dicom_node.errors import InferenceError, SettingsError
from dicom_node.governance.asking import Asker
from dicom_node.governance.golden_cases import Expected, ExpectedFinding, GoldenCase, load_cases
from dicom_node.inference.cards.card import ModelCard

#: Makes the images of a phantom from the arguments of a golden study.
Phantom = Callable[..., Sequence[Dataset]]


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """What became of one golden study: no difference means that the answer was the expected one."""

    name: str
    file: str
    differences: Sequence[str]
    answer: Mapping[str, Any]


def run_golden(card: ModelCard, phantoms: Mapping[str, Phantom], asker: Asker) -> Sequence[GoldenOutcome]:
    """Ask every golden study of a model. Raises `SettingsError` for a study that cannot be made."""
    return [_run(case, phantoms, asker) for case in load_cases(card)]


def _run(case: GoldenCase, phantoms: Mapping[str, Phantom], asker: Asker) -> GoldenOutcome:
    with tempfile.TemporaryDirectory(prefix="golden-") as made:
        files = list(_files(case, phantoms, Path(made)))
        out_dir = Path(made, "out")
        out_dir.mkdir()
        try:
            answer = asker.ask(files, case.parameters, out_dir)
        except InferenceError as error:
            return GoldenOutcome(case.name, case.file, [str(error)], {})
    return GoldenOutcome(case.name, case.file, list(differences(case, answer)), answer)


def _files(case: GoldenCase, phantoms: Mapping[str, Phantom], folder: Path) -> Iterator[SourceFile]:
    if case.folder is not None:
        yield from files_in(case.folder)
        return
    if case.phantom not in phantoms:
        raise SettingsError(f"{case.file}: there is no phantom {case.phantom!r}; there are {', '.join(phantoms)}.")
    try:
        datasets = phantoms[case.phantom](**case.arguments)
    except TypeError as error:
        raise SettingsError(f"{case.file}: phantom {case.phantom} cannot be made: {error}.") from error
    for dataset in datasets:
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        yield SourceFile(
            path=path,
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
        )


def files_in(folder: Path) -> Iterator[SourceFile]:
    """Return the DICOM images of a folder and those below it; other files are passed over."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"], stop_before_pixels=True)
        except InvalidDicomError:
            continue
        yield SourceFile(
            path=path,
            sop_instance_uid=str(header.get("SOPInstanceUID", "")),
            series_instance_uid=str(header.get("SeriesInstanceUID", "")),
        )


# --- comparing ---------------------------------------------------------------------------------------------------


def differences(case: GoldenCase, answer: Mapping[str, Any]) -> Iterator[str]:
    """Tell of everything in an answer that is not as expected."""
    if answer["state"] != case.state:
        yield f"state is {answer['state']}{_because(answer)}, expected {case.state}"
        return
    if case.reason and answer.get("reason") != case.reason:
        yield f"reason is {answer.get('reason')}, expected {case.reason}"
    found = {finding["key"]: finding for finding in answer["findings"]}
    for expected in case.findings:
        if expected.key not in found:
            yield f"there is no finding {expected.key}; there are {', '.join(found) or 'none'}"
        else:
            yield from _finding_differences(expected, found[expected.key])


def _because(answer: Mapping[str, Any]) -> str:
    return f" ({answer['reason']}: {answer['message']})" if answer.get("reason") else ""


def _finding_differences(expected: ExpectedFinding, found: Mapping[str, Any]) -> Iterator[str]:
    if expected.presence is not None and found["presence"] != expected.presence:
        yield f"{expected.key} is {found['presence']}, expected {expected.presence}"
    if expected.probability is not None:
        yield from _number(f"{expected.key} probability", expected.probability, found["probability"])
    measured = {one["label"]: one["value"] for one in found["measurements"]}
    for label, number in expected.measurements.items():
        yield from _number(f"{expected.key} {label}", number, measured.get(label))


def _number(what: str, expected: Expected, found: float | None) -> Iterator[str]:
    if found is None:
        yield f"{what} was not given, expected {expected.value:g} ± {expected.tolerance:g}"
    elif not expected.holds(found):
        yield f"{what} is {found:g}, expected {expected.value:g} ± {expected.tolerance:g}"
