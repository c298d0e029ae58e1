"""What takes back a result that holds no longer: a report that says so, and the note that has its objects hidden.

Both are made of nothing but the node's own objects as they were kept: they carry the patient and study of what they
take back, which is the point where those were wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind, ModelIdentity
from dicom_node.core.outputs.artifact_kinds import IMAGE_CLASSES
from dicom_node.sr_writer.documents.key_objects import (
    REJECTION_SERIES_NUMBER,
    Selected,
    Selection,
    key_object_selection,
)
from dicom_node.sr_writer.identity import ResultIdentity, code_item, local_time, stamp
from dicom_node.sr_writer.report.document import SERIES_NUMBER
from dicom_node.sr_writer.text import ascii_text, long_string

#: Titles of a rejection note (PS3.16 CID 7011): both have a viewer hide what is rejected (IHE RAD TF-2 4.66), and the
#: second says that it was filed under another patient or order than it is of.
_FOR_PATIENT_SAFETY: Code = dictionary.DCM.RejectedForPatientSafetyReasons
_FILED_WRONGLY: Code = dictionary.DCM.IncorrectModalityWorklistEntry
#: What tells whose object it is, and of which order.
_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "AccessionNumber")
_TEXT_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What one destination is told: which model's result by which route, why and since when it holds no longer.

    `objects` are headers of the result's own objects that the destination shows; `source` is that of an image of the
    study as it is now, `None` where there is none any more.
    """

    job_key: str
    model: str
    route: str
    reason: str
    at: datetime
    ae_title: str
    intended_use: str
    time_zone_name: str
    objects: Sequence[Dataset] = field(default_factory=tuple)
    source: Dataset | None = None


def withdrawal_report(told: Withdrawal, sop_class_uid: str) -> WrittenObject:
    """Return the report that follows those withdrawn (PS3.3 C.17.2.3), in a series of theirs as its newest instance."""
    reports = [one for one in told.objects if one.get("Modality") == "SR"]
    identity = _identity(told)
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = identity.uid("withdrawal", sop_class_uid, *_uids(told))
    series = [int(one.get("InstanceNumber") or 0) for one in reports]
    dataset.SeriesInstanceUID = reports[0].SeriesInstanceUID if reports else identity.uid("withdrawal-series")
    dataset.SeriesNumber, dataset.InstanceNumber = SERIES_NUMBER, max(series, default=0) + 1
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence, dataset.PerformedProcedureCodeSequence = [], []
    dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    dataset.CompletionFlagDescription = long_string(f"AI result withdrawn: {told.reason}")
    if reports:
        dataset.PredecessorDocumentsSequence = [_predecessors(reports)]
    if reports and "ReferencedRequestSequence" in reports[0]:
        dataset["ReferencedRequestSequence"] = copy.deepcopy(reports[0]["ReferencedRequestSequence"])
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code_item(dictionary.LN.DiagnosticImagingReport)]
    dataset.ContentSequence = [*_observer(identity), _text(f"{identity.marking}. {_sentence(told)}")]
    stamp(dataset, identity, f"WITHDRAWN {identity.model.name}")
    return WrittenObject(
        kind=ArtifactKind.STRUCTURED_REPORT, dataset=dataset, order=1,
        description=f"Withdrawal of {len(told.objects)} objects",
    )  # fmt: skip


def withdrawal_note(told: Withdrawal) -> WrittenObject:
    """Return the rejection note (IHE IOCM) that names every object withdrawn."""
    identity = _identity(told)
    title = rejection_title(told)
    selection = Selection(
        role=("withdrawal-note", title.value),
        title=title,
        description=_sentence(told),
        series_description=f"withdrawn results {identity.model.name}",
        series_number=REJECTION_SERIES_NUMBER,
        selected=[_selected(one) for one in told.objects],
    )
    return WrittenObject(
        kind=ArtifactKind.REJECTION_NOTE, dataset=key_object_selection(selection, identity), order=2,
        description=f"Rejection note: {len(told.objects)} withdrawn objects",
    )  # fmt: skip


def rejection_title(told: Withdrawal) -> Code:
    """Return why the objects are rejected: filed wrongly, where patient or order are not those of the images now."""
    if told.source is None or not told.objects:
        return _FILED_WRONGLY if told.source is None else _FOR_PATIENT_SAFETY
    same = all(_value(told.source, keyword) == _value(told.objects[0], keyword) for keyword in _IDENTITY)
    return _FOR_PATIENT_SAFETY if same else _FILED_WRONGLY


def _value(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip().rstrip("^")


def _sentence(told: Withdrawal) -> str:
    return (
        f"WITHDRAWN: the AI result of {told.model} ({len(told.objects)} objects of the node in this study) "
        f"does not hold any more and must not be used. Reason: {told.reason}"
    )


def _identity(told: Withdrawal) -> ResultIdentity:
    own = told.objects[0]
    equipment = next(iter(own.get("ContributingEquipmentSequence") or ()), Dataset())
    versions = equipment.get("SoftwareVersions") or ("", "")
    model = ModelIdentity(
        name=str(equipment.get("ManufacturerModelName") or told.model),
        version=str(versions[0]),
        manufacturer=str(equipment.get("Manufacturer") or own.get("Manufacturer") or ""),
        digest=str(versions[-1]),
        device_uid=str(own.get("DeviceUID") or own.SeriesInstanceUID),
    )
    context = ReportContext(
        job_key=told.job_key, route_name=told.route, started_at=told.at, ae_title=told.ae_title,
        node_uid=str(own.get("DeviceSerialNumber") or ""), institution=str(own.get("InstitutionName") or ""),
        intended_use=told.intended_use, time_zone_name=told.time_zone_name,
    )  # fmt: skip
    return ResultIdentity(source=own, model=model, context=context, made_at=local_time(context, own))


def _uids(told: Withdrawal) -> Iterator[str]:
    return (str(one.SOPInstanceUID) for one in told.objects)


def _selected(own: Dataset) -> Selected:
    return Selected(
        sop_class_uid=str(own.SOPClassUID), sop_instance_uid=str(own.SOPInstanceUID),
        series_instance_uid=str(own.SeriesInstanceUID), is_image=own.SOPClassUID in IMAGE_CLASSES,
    )  # fmt: skip


def _predecessors(reports: Collection[Dataset]) -> Dataset:
    study = Dataset()
    study.StudyInstanceUID = next(iter(reports)).StudyInstanceUID
    by_series: dict[str, list[Dataset]] = {}
    for one in reports:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        by_series.setdefault(str(one.SeriesInstanceUID), []).append(reference)
    study.ReferencedSeriesSequence = [_series(uid, references) for uid, references in by_series.items()]
    return study


def _series(uid: str, references: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = uid, references
    return series


def _observer(identity: ResultIdentity) -> Iterator[Dataset]:
    """Say that a device speaks (TID 1002)."""
    kind = _item("HAS OBS CONTEXT", "CODE", dictionary.DCM.ObserverType)
    kind.ConceptCodeSequence = [code_item(dictionary.DCM.Device)]
    uid = _item("HAS OBS CONTEXT", "UIDREF", dictionary.DCM.DeviceObserverUID)
    uid.UID = identity.model.device_uid
    yield from (kind, uid)


def _text(sentence: str) -> Dataset:
    item = _item("CONTAINS", "TEXT", dictionary.DCM.Comment)
    item.TextValue = ascii_text(sentence)[:_TEXT_LIMIT]
    return item


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    return item
