"""The analysed and the produced series as FHIR ImagingStudy.

It is created only if the EHR has none for the study, because PACS or RIS may own it. The totals (numberOfSeries,
numberOfInstances) are left out: they count the whole study, of which the node may have seen a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import whole_objects
from dicom_node.analysis.written import WrittenObject
from dicom_node.fhir.builders.dicom_values import source_text
from dicom_node.fhir.builders.facts import ReportFacts, conditional_create
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM, URI_SYSTEM, dicom_uid, query
from dicom_node.fhir.builders.terms import DCM
from dicom_node.fhir.json_types import Json, without_empty

#: unsignedInt of FHIR R4.
_LARGEST_UNSIGNED = 2_147_483_647


def imaging_study_entry(
    facts: ReportFacts, sources: Sequence[Dataset], written: Sequence[WrittenObject], *, has_endpoint: bool
) -> Json:
    """Return the ImagingStudy with the series of `sources` first, then those of the written objects."""
    identifier = dicom_uid(facts.study_instance_uid)
    shown = [(dataset, "") for dataset in whole_objects(sources)]
    shown += [(item.dataset, item.description) for item in written]
    series = _series(shown)
    study = without_empty(
        {
            "resourceType": "ImagingStudy",
            "identifier": [
                {"use": "official", **identifier},
                *([facts.accession] if facts.accession else []),
                {"system": JOB_SYSTEM, "value": facts.job_key},
            ],
            "status": "available",
            "modality": _distinct(one["modality"] for one in series),
            "subject": facts.subject,
            "started": facts.started,
            "basedOn": facts.based_on,
            "endpoint": [facts.reference("Endpoint")] if has_endpoint else [],
            "description": source_text(sources[0], "StudyDescription"),
            "series": series,
        }
    )
    return conditional_create(facts.full_url("ImagingStudy"), study, query(identifier))


def _series(shown: Iterable[tuple[Dataset, str]]) -> list[Json]:
    """Group instances by series, series in order of first appearance."""
    found: dict[str, Json] = {}
    for dataset, title in shown:
        series = found.setdefault(source_text(dataset, "SeriesInstanceUID"), _series_head(dataset))
        series["instance"].append(_instance(dataset, title))
    return list(found.values())


def _series_head(dataset: Dataset) -> Json:
    head = {
        "uid": source_text(dataset, "SeriesInstanceUID"),
        "number": _unsigned(dataset, "SeriesNumber"),
        "modality": {"system": DCM, "code": source_text(dataset, "Modality") or "OT"},
        "description": source_text(dataset, "SeriesDescription"),
    }
    return {**without_empty(head), "instance": []}


def _instance(dataset: Dataset, title: str) -> Json:
    sop_class = {"system": URI_SYSTEM, "code": f"urn:oid:{source_text(dataset, 'SOPClassUID')}"}
    instance = {
        "uid": source_text(dataset, "SOPInstanceUID"),
        "sopClass": sop_class,
        "number": _unsigned(dataset, "InstanceNumber"),
        "title": title,
    }
    return without_empty(instance)


def _unsigned(dataset: Dataset, keyword: str) -> int | None:
    """Return a number FHIR can hold, or `None`; pydicom raises on an IS that is no integer."""
    try:
        text = source_text(dataset, keyword)
    except (TypeError, ValueError):
        return None
    return int(text) if text.isdecimal() and int(text) <= _LARGEST_UNSIGNED else None


def _distinct(codings: Iterable[Json]) -> list[Json]:
    return list({one["code"]: one for one in codings}.values())
