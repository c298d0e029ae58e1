"""No value of a header may cost the result: it is ignored, or it is named as the reason, and the word always goes out.

Every attribute that the code reads is mangled in every way in a chest CT and in a radiograph. The list is made from the
tables of the code itself.
"""

from __future__ import annotations

import ast
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.analysis.answer import Analysis, NotAnalysed, SourceFile, WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs import OutputSet
from dicom_node.core.reasons import REASONS
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.headers.file_meta import file_head
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import to_part10, write_result
from tests.support.needs import REPOSITORY
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import encoded, request_for_files, small_chest_ct

#: Attribute, what is done to it, and in which images.
Case = tuple[str, str, slice]

LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
MODEL = SHIPPED_MODELS / "ct-lung-density"
#: By these a study is found at all: reception refuses an object without them.
UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def _read_by_the_code() -> tuple[str, ...]:
    """Return every DICOM keyword that stands as a string or an attribute in the packages that read headers."""
    words: set[str] = set()
    for package in ("inference/images", "inference/lungs", "sr_writer", "fhir/builders"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.add(node.value)
                elif isinstance(node, ast.Attribute):
                    words.add(node.attr)
    return tuple(sorted(word for word in words if word and word[0].isupper() and _is_of_an_image(word)))


def _is_of_an_image(word: str) -> bool:
    tag = tag_for_keyword(word)
    return tag is not None and dictionary_has_tag(tag) and Tag(tag).group not in {0x0002, 0x7FE0} and word not in UIDS


ATTRIBUTES = _read_by_the_code()
#: What stands on the wire in place of the value: its VR ("" for the right one) and its bytes.
MANGLES: dict[str, tuple[str, bytes]] = {
    "another VR": ("UT", b"1 "),
    "another VR of numbers": ("FD", b"\0\0\0\0\0\0\xf8\x7f"),
    "bytes": ("OB", b"\1\2\3\4"),
    "two values": ("", b"1\\2 "),
    "many values": ("", b"\\".join([b"1"] * 8) + b" "),
    "comma": ("", b"5,00"),
    "text": ("", b"not a value "),
    "empty": ("", b""),
    "blank": ("", b"  "),
    "no date": ("", b"00010101"),
    "last date": ("", b"99991231"),
    "no day": ("", b"20260231"),
    "NUL": ("", b"A\0B\0"),
    "control": ("", b"A\1\x1b$B"),
    "long": ("", b"1" * 70),
    "very long": ("", b"Ab" * 6000),
    "letters of no set": ("", b"\xff\xfe\x81\x30"),
    "infinite": ("", b"inf "),
    "negative": ("", b"-1"),
    "odd length": ("", b"123"),
}


class Wire:
    """Images as they are on the wire, element by element, so that single values can be replaced by any bytes."""

    def __init__(self, images: Sequence[Dataset]) -> None:
        self.uids = [(str(one.SOPInstanceUID), str(one.SeriesInstanceUID)) for one in images]
        self._heads = [file_head(one.SOPClassUID, one.SOPInstanceUID, ExplicitVRLittleEndian) for one in images]
        self._elements = [{element.tag: _on_the_wire(element) for element in one} for one in images]

    def write(self, folder: Path, keyword: str, mangle: str, which: slice) -> list[SourceFile]:
        """Write the images as files; those of `which` have the mangled value."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        touched = set(range(len(self.uids))[which])
        for number, (uid, series_uid) in enumerate(self.uids):
            elements = dict(self._elements[number])
            if number in touched:
                elements[Tag(keyword)] = _mangled(keyword, mangle)
            path = folder / f"{number:04}.dcm"
            path.write_bytes(self._heads[number] + b"".join(elements[tag] for tag in sorted(elements)))
            files.append(SourceFile(path=path, sop_instance_uid=uid, series_instance_uid=series_uid))
        return files


def _on_the_wire(element: DataElement) -> bytes:
    alone = Dataset()
    alone.add(element)
    return encoded(alone)


def _mangled(keyword: str, mangle: str) -> bytes:
    vr, value = MANGLES[mangle]
    tag = Tag(keyword)
    due = dictionary_VR(tag).split(" ")[0]
    vr = vr or ("LO" if due == "SQ" else due)
    head = struct.pack("<HH2s", tag.group, tag.element, vr.encode())
    length = struct.pack("<HL", 0, len(value)) if vr in LONG_VRS else struct.pack("<H", len(value))
    return head + length + value


def _told(wire: Wire, case: Case, folder: Path, **wanted: Any) -> tuple[Analysis | NotAnalysed, WrittenResult]:
    """Run the whole chain on the mangled images."""
    request = request_for_files(wire.write(folder, *case), MODEL, folder)
    context = examples.context(output_sets=(OutputSet(**wanted),))
    answer = run_model(request)
    written = write_result(answer, context)
    bundle = build_bundle(written.answer, context, written.objects, FhirOptions())
    assert bundle["entry"]
    return answer, written


def _numbers(answer: Analysis) -> list[float]:
    return [measurement.value for finding in answer.findings for measurement in finding.measurements]


def _check(case: Case, answer: Analysis | NotAnalysed, written: WrittenResult, whole: list[float]) -> None:
    if isinstance(answer, NotAnalysed):
        assert answer.reason in {one.code for one in REASONS} - {"ANALYSIS_FAILED", "UNREADABLE_FILE"}
        assert case[0] in answer.message, f"{case}: {answer.reason}: {answer.message}"
    else:
        assert _numbers(answer) == whole, case


def _check_objects(written: WrittenResult, folder: Path) -> None:
    assert any(one.kind is ArtifactKind.STRUCTURED_REPORT for one in written.objects)
    for one in written.objects:
        path = folder / f"out-{one.order}.dcm"
        path.write_bytes(to_part10(one.dataset))
        assert [str(element.value) for element in dcmread(path).iterall()]


@pytest.fixture(scope="module")
def chest() -> Wire:
    return Wire(small_chest_ct()[0])
