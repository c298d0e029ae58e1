"""Values of stored objects that a browser asks for: none comes as something that it would run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.viewing.frames import value_at

OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("application/pdf", "application/pdf"),
        ("Application/PDF ", "application/pdf"),
        ("model/stl", "model/stl"),
        ("text/html", OCTETS),
        ("text/javascript", OCTETS),
        ("image/svg+xml", OCTETS),
        ("text/xml", OCTETS),
        ("application/pdf\r\nX-Other: 1", OCTETS),
        ('application/pdf"; boundary=x', OCTETS),
        ("", OCTETS),
    ],
)
def test_an_enclosed_document_is_what_it_says_only_where_nothing_in_it_runs(
    tmp_path: Path, said: str, told: str
) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.104.1", "2.25.1"
    dataset.EncapsulatedDocument, dataset.EncapsulatedDocumentLength = b"<b>\0", 3
    dataset.add_new("MIMETypeOfEncapsulatedDocument", "LO", said)
    dataset.save_as(tmp_path / "document.dcm", enforce_file_format=True)
    found = value_at(tmp_path / "document.dcm", "00420011")
    assert (found.media_type, found.content) == (told, b"<b>")
