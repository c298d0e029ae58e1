"""What tells two files of one instance apart: what they say and show, not how they are encoded."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.core.received.rewritten import REWRITTEN
from dicom_node.core.received.versions import Difference, PixelVerdict
from dicom_node.headers.comparison import compare
from tests.support.studies.data_factories import small_chest_ct

CHANGED, EQUAL, UNKNOWN = PixelVerdict.CHANGED, PixelVerdict.EQUAL, PixelVerdict.UNKNOWN


@pytest.fixture
def image() -> Dataset:
    one = copy.deepcopy(small_chest_ct()[0][0])
    one.PatientName, one.SpecificCharacterSet = "Muster^Änne", "ISO_IR 100"
    one.add_new(0x00190010, "LO", "MAKER")
    one.add_new(0x00191001, "LO", "own")
    return one


def written(image: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    image = copy.deepcopy(image)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in (JPEGLSLossless, RLELossless):
        image.compress(syntax, generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = io.BytesIO()
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dcmwrite(buffer, image, enforce_file_format=True, little_endian=little, implicit_vr=implicit)
    path.write_bytes(buffer.getvalue())
    return path


def differ(image: Dataset, change: Callable[[Dataset], object], folder: Path) -> Difference | None:
    other = copy.deepcopy(image)
    change(other)
    return compare((written(image, folder / "old"), written(other, folder / "new")))


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, ImplicitVRLittleEndian])
def test_another_encoding_is_no_difference(image: Dataset, syntax: str, tmp_path: Path) -> None:
    del image[0x00190010], image[0x00191001]  # without VR nobody can tell a private text from bytes
    old, new = written(image, tmp_path / "old"), written(image, tmp_path / "new", syntax)
    assert old.read_bytes() != new.read_bytes()
    found = compare((old, new))
    assert found == Difference()
    assert found.is_encoding_only


def spelled_in_utf_8(image: Dataset) -> None:
    image.PatientName = str(image.PatientName)
    image.SpecificCharacterSet = "ISO_IR 192"


@pytest.mark.parametrize(
    "change",
    [
        spelled_in_utf_8,
        lambda image: setattr(image, "RetrieveAETitle", "ARCHIVE"),
        lambda image: setattr(image, "PatientComments", ""),
        lambda image: setattr(image, "RescaleSlope", "1.0"),
    ],
    ids=["character set", "where it is kept", "an attribute without value", "spelling of a number"],
)
def test_what_means_the_same_is_no_difference(
    image: Dataset, change: Callable[[Dataset], object], tmp_path: Path
) -> None:
    assert differ(image, change, tmp_path) == Difference()


def renamed(image: Dataset) -> None:
    image.PatientID, image.PatientName = "NEW", "New"


@pytest.mark.parametrize(
    ("change", "keywords"),
    [
        (renamed, ("PatientID", "PatientName")),
        (lambda i: setattr(i, "PatientAge", "003Y"), ("PatientAge",)),
        (lambda i: i.pop("PatientID"), ("PatientID",)),
        (lambda i: setattr(i, "SpecificCharacterSet", "ISO_IR 101"), ()),
        (lambda i: setattr(i, "PhotometricInterpretation", "MONOCHROME1"), ("PhotometricInterpretation",)),
        (lambda i: setattr(i[0x00191001], "value", "other"), ("(0019,1001)",)),
    ],
    ids=["identity", "age", "one less", "a set that spells alike", "polarity", "private"],
)
def test_what_a_header_says_differently_is_named_without_its_values(
    image: Dataset, change: Callable[[Dataset], object], keywords: tuple[str, ...], tmp_path: Path
) -> None:
    found = differ(image, change, tmp_path)
    assert found == Difference(keywords, is_other_patient=change is renamed)


def test_a_name_whose_bytes_stay_and_whose_character_set_changes_is_another_name(
    image: Dataset, tmp_path: Path
) -> None:
    old = written(image, tmp_path / "old")
    raw = old.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 144")
    (tmp_path / "new").write_bytes(raw)
    assert compare((old, tmp_path / "new")) == Difference(("PatientName",))


def other_pixels(image: Dataset) -> None:
    image.PixelData = bytes(len(image.PixelData))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_other_pixels_are_seen_in_every_encoding(image: Dataset, syntax: str, tmp_path: Path) -> None:
    other = copy.deepcopy(image)
    other_pixels(other)
    pair = (written(image, tmp_path / "old"), written(other, tmp_path / "new", syntax))
    assert compare(pair) == Difference(pixels=CHANGED)


def test_bits_that_are_not_the_pictures_do_not_count(image: Dataset, tmp_path: Path) -> None:
    assert (image.BitsAllocated, image.BitsStored, image.HighBit) == (16, 12, 11)

    def with_overlay(other: Dataset) -> None:
        stored = np.frombuffer(other.PixelData, "<u2") | 0x8000
        other.PixelData = stored.tobytes()

    assert differ(image, with_overlay, tmp_path) == Difference()


def test_pixels_that_nobody_can_decode_are_unknown(image: Dataset, tmp_path: Path) -> None:
    def cut_off(other: Dataset) -> None:
        other.PixelData = other.PixelData[:100]

    assert differ(image, cut_off, tmp_path) == Difference(pixels=UNKNOWN)


def test_a_file_that_cannot_be_read_is_not_compared(image: Dataset, tmp_path: Path) -> None:
    old = written(image, tmp_path / "old")
    (tmp_path / "new").write_bytes(b"no DICOM file")
    assert compare((old, tmp_path / "new")) is None
    assert compare((old, tmp_path / "missing")) is None


def test_what_a_pacs_may_write_anew_are_attributes_of_the_standard_and_no_content() -> None:
    """A word that is spelled wrongly would be told of each time; a word too many would hide what was changed."""
    assert [one for one in sorted(REWRITTEN) if tag_for_keyword(one) is None] == []
    content = {
        "ContentSequence", "VerificationFlag", "CompletionFlag", "VerifyingObserverSequence", "SOPClassUID",
        "StudyInstanceUID", "SeriesInstanceUID", "ReferencedSeriesSequence", "PredecessorDocumentsSequence",
        "SegmentSequence", "CurrentRequestedProcedureEvidenceSequence", "ConceptNameCodeSequence",
    }  # fmt: skip
    assert REWRITTEN & content == set()
