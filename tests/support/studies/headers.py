"""Objects that are nothing but a header with a patient."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.headers.demographics import Demographics


def portrait(path: Path, patient: Demographics) -> None:
    """Write an object that says who its patient is."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName, header.PatientID, header.IssuerOfPatientID = patient.name, patient.patient_id, patient.issuer
    header.PatientBirthDate, header.PatientSex = patient.birth_date, patient.sex
    header.AccessionNumber = patient.accession_number
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
