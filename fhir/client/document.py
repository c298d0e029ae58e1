"""Bring a report as a document, in place of an earlier one, and take it back; a person's word stands here too."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM
from dicom_node.fhir.builders.resources.document import document_entry
from dicom_node.fhir.builders.retraction import ENTERED_IN_ERROR
from dicom_node.fhir.builders.verification import is_sealed
from dicom_node.fhir.client.answers import NOT_FOR_US
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import identity, place, text, without_version
from dicom_node.fhir.client.reconciliation import is_withdrawn_report, job_of, jobs_of, search_of, update_of
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.client.writing import write_entry
from dicom_node.fhir.json_types import Json

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def send_document(exchange: Exchange, bundle: Json) -> tuple[str, bool]:
    """Return where the document lies, and whether it was left alone because one of a later run is there.

    Raises `ConditionNotMet` when it changed while it was written, `NotOffered` where the server takes none,
    `DeliveryDeferred`, or `DeliveryRefused` when a person has decided about it.
    """
    entry = document_entry(bundle)
    found = find(exchange, "DocumentReference", search_of(entry))
    there = _standing(found, entry)
    if there is None:
        is_renewed = bool(found)
        return write_entry(exchange, _creation(entry, is_renewed=is_renewed)).place, False
    is_same_job = job_of(there) == job_of(entry["resource"])
    if not is_same_job and _date(there) > _date(entry["resource"]):
        return place(there), True
    _check_open(there)
    _check_verified_by_verified(there, entry["resource"])
    resource = {**entry["resource"], "id": identity(there)}
    return write_entry(exchange, {**entry, "resource": resource, "request": update_of(there)}).place, False


def withdraw_document(exchange: Exchange, bundle: Json) -> list[str]:
    """Mark as entered in error what the node has brought there of these jobs; return where it lies. Raises as above."""
    entry = document_entry(bundle)
    jobs = set(jobs_of(entry["resource"]))
    there = [
        one
        for one in find(exchange, "DocumentReference", search_of(entry))
        if jobs & set(jobs_of(one)) and text(one, "status") != ENTERED_IN_ERROR
    ]
    for one in there:
        _check_open(one)
        kept = {key: value for key, value in without_version(one).items() if key != "text"}
        said = {key: entry["resource"][key] for key in _SAID if key in entry["resource"]}
        write_entry(exchange, {"resource": {**kept, **said}, "request": update_of(one)})
    return [place(one) for one in there]


def supersede_document(exchange: Exchange, bundle: Json) -> None:
    """Mark as superseded the document that stood for the report while the server took no reports.

    One that a person has decided about stays, and so does all where the server does not let the node look or write.
    """
    entry = document_entry(bundle)
    with suppress(*NOT_FOR_US):
        for one in find(exchange, "DocumentReference", search_of(entry)):
            if text(one, "status") == "current" and (text(one, "docStatus") == "preliminary" or is_sealed(one)):
                write_entry(exchange, {"resource": {**without_version(one), "status": "superseded"},
                                       "request": update_of(one)})  # fmt: skip


_SAID = ("status", "docStatus", "text", "content", "date", "identifier")


def _standing(found: list[Json], entry: Json) -> Json | None:
    there = [one for one in found if not is_withdrawn_report(one, search_of(entry))]
    if len(there) > 1:
        raise DeliveryRefused(
            f"The EHR holds {len(there)} DocumentReferences with the identifier of this report; "
            "remove all but one, then retry the delivery."
        )
    return there[0] if there else None


def _creation(entry: Json, *, is_renewed: bool) -> Json:
    """Return the entry as a creation; beside a withdrawn document with its number it is known by its job."""
    search = f"identifier={JOB_SYSTEM}|{job_of(entry['resource'])}" if is_renewed else search_of(entry)
    return {**entry, "request": {"method": "POST", "url": "DocumentReference", "ifNoneExist": search}}


def _check_open(there: Json) -> None:
    is_own = text(there, "docStatus") in {"preliminary", ""} or is_sealed(there)
    if text(there, "status") != "current" or not is_own:
        raise DeliveryRefused(
            f"{place(there)} of this study and model is no longer a preliminary document in use: a person has decided "
            "about it and the node does not overwrite it. Reopen it in the EHR, or discard this delivery."
        )


def _check_verified_by_verified(there: Json, ours: Json) -> None:
    if is_sealed(there) and text(ours, "docStatus") == "preliminary":
        raise DeliveryRefused(
            f"{place(there)} of this study and model was verified by a reviewer, and the new result has not been "
            "reviewed. Review the new result: then its document takes the place of the verified one."
        )


def _date(document: Json) -> datetime:
    try:
        at = datetime.fromisoformat(text(document, "date"))
    except ValueError:
        return _LONG_AGO
    return at if at.tzinfo else _LONG_AGO
