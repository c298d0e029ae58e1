"""Files sent in another uncompressed transfer syntax than they are kept in say the same, value by value."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID, ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.core.uids import derived_uid
from dicom_node.dimse.dicom_file import read_dicom_file, transcoded


def report() -> Dataset:
    """A report with what is hard to re-encode: long codes, URN codes, unknown and private elements, long texts."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = ComprehensiveSRStorage
    dataset.SOPInstanceUID = derived_uid("test-transcoding")
    dataset.PatientName = "Иванов^Пётр"
    dataset.add_new(0x00090010, "LO", "A PRIVATE CREATOR")
    dataset.add_new(0x00091001, "UN", b"\x00\x01\x02\xff")
    dataset.add_new(0x00091002, "UN", bytes(range(256)) * 300)
    item, long_code, urn = Dataset(), Dataset(), Dataset()
    long_code.LongCodeValue = "1234567890" * 12
    long_code.CodingSchemeDesignator, long_code.CodeMeaning = "SCT", "A post-coordinated expression"
    urn.URNCodeValue = "urn:oid:2.16.840.1.113883.6.96"
    item.ConceptNameCodeSequence, item.ConceptCodeSequence = [long_code], [urn]
    item.ValueType, item.TextValue = "TEXT", "x" * 70_001
    item.FloatingPointValue = 0.1
    item.GraphicData = [1.0, 2.5, 3.25, 4.0]
    dataset.ContentSequence = [item, Dataset()]
    return dataset


@pytest.mark.parametrize(("kept", "sent"), [
    (ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
])  # fmt: skip
def test_a_report_re_encoded_says_the_same(tmp_path: Path, kept: str, sent: str) -> None:
    path, dataset = tmp_path / "report.dcm", report()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(kept)
    dataset.save_as(path, enforce_file_format=True)

    buffer = transcoded(read_dicom_file(path), sent)

    there = read_dataset(BytesIO(buffer.getvalue()), sent == ImplicitVRLittleEndian, True)
    there.set_original_encoding(sent == ImplicitVRLittleEndian, True, "utf-8")
    here = dcmread(path)
    assert [element.tag for element in there.iterall()] == [element.tag for element in here.iterall()]
    both = zip(here.iterall(), there.iterall(), strict=True)
    assert [one.tag for one, other in both if one.VR != "SQ" and one.value != other.value] == []
