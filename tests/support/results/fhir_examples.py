"""Answers made by hand for the FHIR tests: a chest radiograph with findings, and one that was declined."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.codes import HOUNSFIELD_UNIT, LEFT, LUNG, MEAN, MILLILITER, VOLUME
from dicom_node.core.entities import ArtifactKind, Code, Finding, Measurement, ModelIdentity, Presence
from dicom_node.fhir.options import FhirOptions

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SR_UID = "1.2.826.0.1.3680043.8.498.1.9.1"
NODE_UID = "1.2.826.0.1.3680043.8.498.77"
PATIENT_SYSTEM = "urn:oid:1.2.3.99"
PATIENT_ID = "PID-4711"
JOB_KEY = "a" * 64
STARTED_AT = datetime(2026, 11, 20, 9, 12, 10, 123456, tzinfo=UTC)

PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
EMPHYSEMA = Code("87433001", "SCT", "Pulmonary emphysema")

MODEL = ModelIdentity(
    name="cxr-pneumonia",
    version="1.2.0",
    manufacturer="DICOM AI Node Project",
    digest="0f" * 32,
    device_uid="2.25.123456789",
    parameters=("threshold=0.5",),
    intended_use="Decision support for adults.",
    limits="Not for children.",
)
OPTIONS = FhirOptions(
    patient_system=PATIENT_SYSTEM,
    accession_system="urn:oid:1.2.3.77",
    dicomweb_url="https://pacs.example/dicom-web",
    organization="Example Hospital",
    time_zone=timezone(timedelta(hours=1)),
)
CONTEXT = ReportContext(
    job_key=JOB_KEY, route_name="chest-radiograph", started_at=STARTED_AT, ae_title="AINODE", node_uid=NODE_UID
)


def radiograph(**changes: object) -> Dataset:
    """Return the header of one chest radiograph; keyword arguments set or (with `None`) remove attributes."""
    values: dict[str, object] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": f"{STUDY_UID}.1.1",
        "SeriesInstanceUID": f"{STUDY_UID}.1",
        "StudyInstanceUID": STUDY_UID,
        "Modality": "DX",
        "PatientName": "Doe^Jane",
        "PatientID": PATIENT_ID,
        "AccessionNumber": "ACC1",
        "StudyDate": "20261120",
        "StudyTime": "101000",
        "AcquisitionDate": "20261120",
        "AcquisitionTime": "101010.5",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "StudyDescription": "Chest PA",
        **changes,
    }
    dataset = Dataset()
    with disable_value_validation():
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
    return dataset


def written_objects() -> tuple[WrittenObject, ...]:
    """Return what the DICOM builders made: a heatmap and the SR that refers to it."""
    heatmap = radiograph(
        SOPClassUID=SecondaryCaptureImageStorage,
        SOPInstanceUID=f"{STUDY_UID}.8.1",
        SeriesInstanceUID=f"{STUDY_UID}.8",
        Modality="OT",
    )
    report = radiograph(
        SOPClassUID=ComprehensiveSRStorage,
        SOPInstanceUID=SR_UID,
        SeriesInstanceUID=f"{STUDY_UID}.9",
        Modality="SR",
    )
    return (
        WrittenObject(
            kind=ArtifactKind.SECONDARY_CAPTURE, dataset=heatmap, order=1, description="Influence map: Pneumonia"
        ),
        WrittenObject(kind=ArtifactKind.STRUCTURED_REPORT, dataset=report, order=2, description="AI report"),
    )


FINDINGS = (
    Finding(
        key="pneumonia", label="Pneumonia", code=PNEUMONIA, site=LUNG, laterality=LEFT,
        presence=Presence.PRESENT, probability=0.8349, threshold=0.5,
    ),
    Finding(
        key="effusion", label="Pleural effusion", code=EFFUSION, site=LUNG,
        presence=Presence.ABSENT, probability=0.12, threshold=0.5,
    ),
    Finding(key="emphysema", label="Emphysema", code=EMPHYSEMA, site=LUNG, presence=Presence.UNDETERMINED),
    Finding(
        key="left-lung", label="Left lung", code=LUNG, site=LUNG, laterality=LEFT,
        measurements=(Measurement(VOLUME, 2150.0, MILLILITER), Measurement(MEAN, -843.2, HOUNSFIELD_UNIT)),
    ),
)  # fmt: skip


def analysis(*, sources: tuple[Dataset, ...] = (), findings: tuple[Finding, ...] = FINDINGS) -> Analysis:
    """Return an answer with every kind of finding."""
    return Analysis(model=MODEL, sources=sources or (radiograph(),), findings=findings)


def not_analysed() -> NotAnalysed:
    """Return a declined study."""
    return NotAnalysed(
        model=MODEL, sources=(radiograph(),), reason="PATIENT_TOO_YOUNG", message="The patient is under 18 years old."
    )
