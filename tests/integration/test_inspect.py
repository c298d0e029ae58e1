"""`dicom-node inspect` on objects of ours, of other makers, and on files made to break it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.analysis.answer import Saliency
from dicom_node.analysis.context import WithdrawnObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import UnreadableObject
from dicom_node.core.outputs.artifact_kinds import OutputSet, SegmentationType
from dicom_node.inspect import ContentItem, Inspected, Inspector, InspectRequest
from dicom_node.sr_writer import to_part10, write_objects
from tests.support import needs
from tests.support.results import analysis_examples as examples

EVERYTHING = OutputSet(presentation_state=True, key_objects=True, encapsulated_pdf=True, rejection_note=True)
WITHDRAWN = WithdrawnObject(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid="1.2.3.4.5.6.7.8.9", series_instance_uid="1.2.3",
    output_keys=(EVERYTHING.key,),
)  # fmt: skip
OTHERS = "derived_objects_ref"


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    inspector = Inspector()
    yield inspector
    inspector.close()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ArtifactKind], Path]:
    """One object of every kind, from a radiograph and from a volume."""
    folder = tmp_path_factory.mktemp("ours")
    context = examples.context(output_sets=(EVERYTHING,), withdrawn=(WITHDRAWN,))
    paths = {}
    for name, answer in (("radiograph", examples.radiograph_analysis()), ("volume", examples.ct_analysis())):
        for one in write_objects(answer, context):
            path = folder / f"{name}-{one.kind.value}.dcm"
            path.write_bytes(to_part10(one.dataset))
            paths[name, one.kind] = path
    return paths


def told(inspected: Inspected) -> str:
    """Return everything that is said, one line each."""
    description = inspected.description
    lines = [description.kind, *(f"{name}: {text}" for name, text in description.facts), *description.notes]
    lines += [" | ".join(row) for table in description.tables for row in table.rows]
    return "\n".join([*lines, *(_lines(description.tree) if description.tree else [])])


def _lines(node: ContentItem, depth: int = 0) -> Iterator[str]:
    yield f"{'  ' * depth}{node.name}: {node.value}".rstrip(": ") + (f" [{node.template}]" if node.template else "")
    for child in node.children:
        yield from _lines(child, depth + 1)


# --- ours ---


def test_our_report_reads_as_findings_with_answers_scores_and_regions(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    text = told(inspector.look(InspectRequest(path=ours["radiograph", ArtifactKind.STRUCTURED_REPORT])))
    for line in (
        "Structured report",
        f"made by: DICOM AI Node Project dicom-ai-node {__version__}",
        f"algorithm: DICOM AI Node Project cxr-pneumonia 1.0.0, {'9f' * 32}",
        "state: COMPLETE, UNVERIFIED, PRELIMINARY",
        "Imaging Measurement Report [TID 1500 Measurement Report]",
        "Finding: Pleural effusion",
    ):
        assert line in text.splitlines() or f"      {line}" in text
    assert "POLYLINE, 5 points, 56..126 x 90..210 px" in text
    assert "Score of the model: 83.2 %" in text


def test_our_segmentation_reads_as_a_table_with_volumes_that_are_those_of_the_masks(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    description = inspector.look(InspectRequest(path=ours["volume", ArtifactKind.SEGMENTATION])).description
    (table,) = description.tables
    for row, segment in zip(table.rows, examples.ct_analysis().segments, strict=True):
        number, label, kind, algorithm, color, frames, volume = row
        assert (int(number), label) == (segment.number, segment.label)
        assert kind == f"{label.split()[0]} Lung"
        assert algorithm == "automatic ct-lung-density"
        stored = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
        assert np.abs(np.subtract(stored, segment.color_rgb)).max() <= 2  # CIELab and back
        assert int(frames) == np.count_nonzero(segment.mask.any(axis=(1, 2)))
        assert float(volume.removesuffix(" ml")) == pytest.approx(segment.mask.sum() * 0.8 * 0.8 * 2.5 / 1000, rel=5e-3)
    facts = dict(description.facts)
    assert facts["geometry"] == "64 x 64 pixels, 14 frames, 0.8 x 0.8 x 2.5 mm"
    assert facts["orientation"] == "rows to L, columns to P"


def test_our_label_map_reads_like_the_segmentation_it_could_have_been(inspector: Inspector, tmp_path: Path) -> None:
    tables = []
    variants: tuple[SegmentationType, ...] = ("binary", "labelmap")
    for variant in variants:
        wanted = OutputSet(segmentation=variant, structured_report="off", secondary_capture=False)
        (one,) = write_objects(examples.ct_analysis(), examples.context(output_sets=(wanted,)))
        (tmp_path / f"{variant}.dcm").write_bytes(to_part10(one.dataset))
        seen = inspector.look(InspectRequest(path=tmp_path / f"{variant}.dcm", picture=True))
        tables.append((seen.description.tables, seen.picture_rgb))
    assert tables[0][0] == tables[1][0]
    assert np.array_equal(tables[0][1], tables[1][1])


def test_our_parametric_map_reads_as_a_quantity_with_its_range(inspector: Inspector, tmp_path: Path) -> None:
    volume = examples.ct_volume()
    heat = np.zeros((64, 64), np.float32)
    heat[20:40, 10:30] = 0.75
    saliency = Saliency(
        finding_key="left-lung", sop_instance_uid=str(volume[3].SOPInstanceUID), map=heat, method="occlusion"
    )
    wanted = OutputSet(parametric_map=True, segmentation="off", structured_report="off", secondary_capture=False)
    analysis = examples.ct_analysis(volume, saliencies=(saliency,))
    (one,) = write_objects(analysis, examples.context(output_sets=(wanted,)))
    (tmp_path / "map.dcm").write_bytes(to_part10(one.dataset))
    seen = inspector.look(InspectRequest(path=tmp_path / "map.dcm", picture=True))
    assert seen.description.kind == "Parametric map"
    assert dict(seen.description.facts)["quantity"] == "Visual explanation"
    assert dict(seen.description.facts)["values"] == "0 to 0.75"
    assert seen.picture_rgb is not None
    assert np.array_equal(seen.picture_rgb[..., 0] == 255, heat > 0)


def test_our_other_objects_read_as_what_they_are(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    expected = {
        ArtifactKind.SECONDARY_CAPTURE: ("Secondary capture", "burned-in annotation: YES", "NOT VERIFIED"),
        ArtifactKind.PRESENTATION_STATE: ("Presentation state", "label: AI"),
        ArtifactKind.KEY_OBJECTS: (
            "Key objects",
            "Of Interest [TID 2010 Key Object Selection]",
            "Key Object Description",
        ),
        ArtifactKind.ENCAPSULATED_PDF: ("Encapsulated PDF", "conformance: PDF/A, for archives", "application/pdf"),
        ArtifactKind.REJECTION_NOTE: (
            "Rejection note",
            "Secondary Capture ….5.6.7.8.9",
            "Rejected for Quality Reasons",
        ),
    }
    for kind, sentences in expected.items():
        text = told(inspector.look(InspectRequest(path=ours["radiograph", kind])))
        assert text.startswith(sentences[0])
        for sentence in sentences:
            assert sentence in text, (kind, text)


def test_the_graphics_of_a_presentation_state_are_listed_with_their_place_and_image(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    (table,) = inspector.look(
        InspectRequest(path=ours["radiograph", ArtifactKind.PRESENTATION_STATE])
    ).description.tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    graphics = [row for row in rows if row["what"] == "graphic"]
    assert any(row["where"] == "56..126 x 90..210" for row in graphics), graphics
    assert any("Pleural effusion" in row["text or shape"] for row in rows if row["what"] == "text")
    assert all("Computed Radiography" in row["on"] for row in rows)


def test_pictures_are_the_pixels_the_masks_and_the_graphics(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    def picture(name: str, kind: ArtifactKind) -> np.ndarray:
        seen = inspector.look(InspectRequest(path=ours[name, kind], picture=True)).picture_rgb
        assert seen is not None
        return seen

    capture = ours["radiograph", ArtifactKind.SECONDARY_CAPTURE]
    assert np.array_equal(picture("radiograph", ArtifactKind.SECONDARY_CAPTURE), dcmread(capture).pixel_array)
    right, left = examples.ct_analysis().segments
    fullest = int((right.mask.sum(axis=(1, 2)) + left.mask.sum(axis=(1, 2))).argmax())
    drawn = picture("volume", ArtifactKind.SEGMENTATION)
    assert np.array_equal(drawn.any(axis=2), right.mask[fullest] | left.mask[fullest])
    assert np.abs(drawn[left.mask[fullest]].astype(int) - left.color_rgb).max() <= 2
    assert picture("radiograph", ArtifactKind.PRESENTATION_STATE).any()


def test_the_enclosed_document_comes_out_as_it_went_in(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    document = inspector.look(InspectRequest(path=ours["radiograph", ArtifactKind.ENCAPSULATED_PDF])).document
    assert document is not None
    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")


def test_a_reader_sees_no_patient_unless_asked(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path]
) -> None:
    for path in ours.values():
        hidden = told(inspector.look(InspectRequest(path=path)))
        assert not any(secret in hidden for secret in ("Müller", "Jörg", "PID-0001", "ACC-77", "19700102"))
        shown = told(inspector.look(InspectRequest(path=path, show_patient=True)))
        assert "patient name: Müller^Jörg" in shown
        assert "patient ID: PID-0001" in shown


# --- of others ---


def test_a_report_of_another_maker_reads_as_a_tree(inspector: Inspector) -> None:
    path = needs.real_data(OTHERS) / "sr_document_with_multiple_groups.dcm"
    text = told(inspector.look(InspectRequest(path=path)))
    for line in (
        "  Procedure reported: CT unspecified body region",
        "    Measurement Group [TID 1501]",
        "      Intensity Histogram Mean: -119.07385253906 HU",
        "      Finding: Nodule",
        "      Diameter: 10.0 mm",
        "      Image Region: CIRCLE, 2 points, 45..45 x 55..65 px",
        "        Original Source: CT …2730.12322",
        "      Volume: 200.0 mm3",
        "      Volume Surface: POINT, 1 point, 123.5..123.5 x 234.1..234.1 x -23.7..-23.7 mm",
        "  Person Observer Name: (hidden; --show-patient shows it)",
    ):
        assert line in text.splitlines(), text


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("seg_image_ct_binary", "BINARY", [("first segment", "Bone", "3")]),
        ("seg_image_ct_binary_overlap", "BINARY", [("first segment", "Bone", "4"), ("second segment", "Spine", "4")]),
        ("seg_image_ct_binary_fractional", "FRACTIONAL probability", [("first segment", "Bone", "3")]),
        ("seg_image_ct_true_fractional", "FRACTIONAL probability", [("first segment", "Bone", "3")]),
    ],
)
def test_segmentations_of_another_maker_read_as_tables(
    name: str, kind: str, rows: list[tuple[str, str, str]], inspector: Inspector
) -> None:
    path = needs.real_data(OTHERS) / f"{name}.dcm"
    seen = inspector.look(InspectRequest(path=path, picture=True))
    (table,) = seen.description.tables
    assert [(row[1], row[2], row[5]) for row in table.rows] == rows
    assert dict(seen.description.facts)["segmentation type"] == kind
    stored = dcmread(path)
    highest = int(stored.get("MaximumFractionalValue", 1))
    voxel_ml = (
        float(np.prod([*stored.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing, 1.25])) / 1000
    )
    told_ml = sum(float(row[6].removesuffix(" ml")) for row in table.rows)
    assert told_ml == pytest.approx(float(stored.pixel_array.sum()) / highest * voxel_ml, rel=0.02)
    assert seen.picture_rgb is not None
    assert seen.picture_rgb.shape == (16, 16, 3)


@pytest.mark.parametrize("folder", ["mr_brain_t1_enhanced_xa30", "us_multiframe_and_colour", "cxr", "mammo_ct_sc_wg04"])
def test_images_of_other_makers_read_as_images_with_a_picture(folder: str, inspector: Inspector) -> None:
    seen = 0
    for path in sorted(needs.real_data(folder).rglob("*")):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM" and seen < 3:
            header = dcmread(path, stop_before_pixels=True)
            if not isinstance(header.get("BitsAllocated"), int):
                continue
            inspected = inspector.look(InspectRequest(path=path, picture=True))
            assert f"{header.Columns} x {header.Rows} pixels" in dict(inspected.description.facts)["size"]
            assert inspected.picture_rgb is not None
            assert inspected.picture_rgb.std() > 5
            seen += 1
    assert seen


def test_everything_pydicom_is_tested_with_is_told_or_refused_in_words(inspector: Inspector) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in {".dcm", ""}]
    kinds, refused = set(), []
    for path in paths:
        try:
            kinds.add(inspector.look(InspectRequest(path=path)).description.kind)
        except UnreadableObject as error:
            refused.append(str(error))
    assert len(paths) > 60
    assert {"CT image", "MR image", "Structured report", "Secondary capture"} <= kinds
    assert len(refused) < len(paths) / 4
    assert all("broke its reader" not in text for text in refused), refused


# --- made to break it ---


def damaged(path: Path, ours: Path) -> Iterator[tuple[str, Path]]:
    whole = ours.read_bytes()
    cases = {"empty": b"", "text": b"no DICOM at all\n" * 40, "head": whole[:132], "preamble": b"\0" * 128 + b"DICM"}
    cases |= {f"cut-{share}": whole[: len(whole) * share // 10] for share in range(1, 10)}
    noise = np.random.default_rng(5)
    for number in range(12):
        bytes_ = bytearray(whole)
        for place in noise.integers(132, len(whole), 60):
            bytes_[place] = int(noise.integers(256))
        cases[f"noise-{number}"] = bytes(bytes_)
    for name, content in cases.items():
        file = path / f"{name}.dcm"
        file.write_bytes(content)
        yield name, file


@pytest.mark.parametrize("kind", [ArtifactKind.STRUCTURED_REPORT, ArtifactKind.SEGMENTATION])
def test_a_damaged_file_is_told_as_far_as_it_goes_or_refused_in_words(
    kind: ArtifactKind, inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path
) -> None:
    refused = {}
    for name, path in damaged(tmp_path, ours["volume", kind]):
        try:
            inspector.look(InspectRequest(path=path, picture=kind is ArtifactKind.SEGMENTATION))
        except UnreadableObject as error:
            refused[name] = str(error)
    assert {"empty", "text", "head", "preamble"} <= set(refused)
    assert all("Traceback" not in text and "Müller" not in text for text in refused.values())


def test_a_file_that_is_not_there_and_a_folder_are_refused_by_name(inspector: Inspector, tmp_path: Path) -> None:
    with pytest.raises(UnreadableObject, match=r"nothing\.dcm cannot be read: No such file"):
        inspector.look(InspectRequest(path=tmp_path / "nothing.dcm"))
    with pytest.raises(UnreadableObject, match="Is a directory"):
        inspector.look(InspectRequest(path=tmp_path))


def test_a_pipe_and_a_device_without_end_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    started = time.monotonic()
    done = run(str(tmp_path / "pipe"), "/dev/zero")
    assert done.returncode == 1
    assert [line.partition(" cannot be read: ")[2].partition(";")[0] for line in done.stderr.splitlines()] == [
        "It is a pipe or a device",
        "It is a pipe or a device",
    ]
    assert time.monotonic() - started < 60


def test_names_of_files_cannot_move_the_cursor(ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path) -> None:
    good, bad = tmp_path / "\x1b[2Jgood\udcff.dcm", tmp_path / "\x1b[2Jbad\u202e.dcm"
    shutil.copy(ours["radiograph", ArtifactKind.STRUCTURED_REPORT], good)
    bad.write_bytes(b"no DICOM")
    done = run(str(good), str(bad), str(tmp_path / "\x1b[2Jnone"))
    assert "Structured report: ?[2Jgood?.dcm" in done.stdout
    assert "?[2Jbad?.dcm is no DICOM object" in done.stderr
    assert "?[2Jnone cannot be read" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_texts_cannot_move_the_cursor(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path
) -> None:
    dataset = dcmread(ours["radiograph", ArtifactKind.SECONDARY_CAPTURE])
    dataset.SeriesDescription = "\x1b[2J\x1b]0;owned\x07 \u202egnp.\u2066"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    path = tmp_path / "escape.dcm"
    dataset.save_as(path)
    text = told(inspector.look(InspectRequest(path=path)))
    assert "?[2J?]0;owned" in text
    assert not any(sign in text for sign in "\x1b\x07\u202e\u2066")


def test_a_tree_without_end_and_a_count_without_measure_end_in_words(
    inspector: Inspector, ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path
) -> None:
    deep = item = dcmread(ours["radiograph", ArtifactKind.STRUCTURED_REPORT])
    item.ContentSequence = []
    for _ in range(600):
        below = Dataset()
        below.ValueType = "CONTAINER"
        item.ContentSequence = [below]
        item = below
    sys.setrecursionlimit(20_000)
    (tmp_path / "deep.dcm").write_bytes(to_part10(deep))
    sys.setrecursionlimit(1000)
    with pytest.raises(UnreadableObject, match="damaged or is not what it says"):
        inspector.look(InspectRequest(path=tmp_path / "deep.dcm"))
    many = dcmread(ours["volume", ArtifactKind.SEGMENTATION])
    many.NumberOfFrames = 2_000_000_000
    many.save_as(tmp_path / "many.dcm")
    assert "cannot be decoded" in told(inspector.look(InspectRequest(path=tmp_path / "many.dcm")))


# --- the command ---


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "inspect", *arguments]
    return subprocess.run(command, cwd=needs.REPOSITORY, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_prints_a_tree_and_goes_on_after_a_file_it_cannot_read(
    ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"no DICOM")
    done = run(str(broken), str(ours["radiograph", ArtifactKind.STRUCTURED_REPORT]), "--codes")
    assert done.returncode == 1
    assert done.stderr == f"dicom-node: {broken} is no DICOM object: it does not say of what SOP class it is.\n"
    assert "├── " in done.stdout
    assert "Finding (121071 DCM): Pneumonia (233604007 SCT; contains CODE)" in done.stdout


def test_the_command_writes_json_a_picture_and_the_document(
    ours: dict[tuple[str, ArtifactKind], Path], tmp_path: Path
) -> None:
    png, pdf = tmp_path / "masks.png", tmp_path / "report.pdf"
    done = run(str(ours["volume", ArtifactKind.SEGMENTATION]), "--json", "--picture", str(png))
    assert (done.returncode, done.stderr) == (0, "")
    (one,) = json.loads(done.stdout)
    assert one["kind"] == "Segmentation"
    assert [row["label"] for row in one["tables"][0]["rows"]] == ["Right lung", "Left lung"]
    with Image.open(png) as picture:
        assert picture.size == (64, 64)
    done = run(str(ours["volume", ArtifactKind.ENCAPSULATED_PDF]), "--document", str(pdf))
    assert done.returncode == 0
    assert pdf.read_bytes().startswith(b"%PDF-")


def test_the_command_draws_with_half_blocks_and_says_when_there_is_nothing_to_draw(
    ours: dict[tuple[str, ArtifactKind], Path],
) -> None:
    done = run(str(ours["volume", ArtifactKind.SEGMENTATION]), "--draw")
    assert done.stdout.count("▀" * 40) > 20
    done = run(str(ours["volume", ArtifactKind.STRUCTURED_REPORT]), "--draw")
    assert done.returncode == 1
    assert done.stderr == "dicom-node: There is no picture in this object: Structured report.\n"
