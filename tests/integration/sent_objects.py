"""Small DICOM objects to send, made in code, and the artifacts that stand for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.core.entities import Artifact, ArtifactKind
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.outgoing import Outgoing

SOP_CLASSES = {
    ArtifactKind.SECONDARY_CAPTURE: SecondaryCaptureImageStorage,
    ArtifactKind.SEGMENTATION: SegmentationStorage,
    ArtifactKind.STRUCTURED_REPORT: ComprehensiveSRStorage,
}


def dicom_file(
    folder: Path, name: str, sop_class_uid: str = SecondaryCaptureImageStorage, syntax: UID = ExplicitVRLittleEndian
) -> Path:
    """Write a small object whose UIDs come from `name`."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = derived_uid("test", name)
    dataset.StudyInstanceUID = derived_uid("test", "study")
    dataset.SeriesInstanceUID = derived_uid("test", "series", sop_class_uid)
    dataset.PatientID = "TEST-1"
    dataset.PatientName = "Test^One"
    dataset.Modality = "OT"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.arange(32 * 32, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{name}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def outgoing(
    folder: Path, name: str, kind: ArtifactKind = ArtifactKind.SECONDARY_CAPTURE, **changes: object
) -> Outgoing:
    """Write a small object of this kind and return it as the outbox would hand it over."""
    path = dicom_file(folder, name, SOP_CLASSES[kind])
    content = path.read_bytes()
    values: dict[str, object] = {
        "uid": derived_uid("test", name),
        "kind": kind,
        "media_type": "application/dicom",
        "object_key": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "order": 0,
        "sop_class_uid": SOP_CLASSES[kind],
    }
    return Outgoing(Artifact(**{**values, **changes}), path)  # type: ignore[arg-type]
