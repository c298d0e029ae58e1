"""Reports of radiologists on a study, searched at the EHR; what machines have written is left out.

R4 has no search by study. So the reports of radiology on the study's Patient are asked for, and those are taken that
name the study: by its accession number, or by an ImagingStudy with its Study Instance UID.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.core.entities import ReportStatus
from dicom_node.fhir.builders.identifiers import dicom_uid
from dicom_node.fhir.builders.terms import AI_ASSERTED
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.patient import patient_on_server
from dicom_node.fhir.client.reading import child, children, identity, text
from dicom_node.fhir.client.searching import find_of_patient
from dicom_node.fhir.json_types import Json

_STATUSES = {
    "final": ReportStatus.FINAL, "amended": ReportStatus.CORRECTED, "corrected": ReportStatus.CORRECTED,
    "appended": ReportStatus.CORRECTED, "cancelled": ReportStatus.CANCELLED,
    "entered-in-error": ReportStatus.CANCELLED,
}  # fmt: skip
#: Radiology by the two code systems that reports are filed under.
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/v2-0074|RAD,http://loinc.org|LP29684-5"
#: So many further resources are read to find out which study reports are about.
_MOST_READ = 20
_LONGEST_TEXT = 100_000
_PLACE = re.compile(r"(?:^|/)((?:ServiceRequest|ImagingStudy|Binary)/[A-Za-z0-9\-.]{1,64})(?:/_history/.*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoughtStudy:
    """Which study's report is wanted, and whose it is; the systems are those of the site."""

    study_instance_uid: str
    patient_system: str
    patient_number: str
    accession_system: str = ""
    accession_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundReport:
    """A report at the EHR; `stated_at` is when the server got this state of it."""

    number: str
    status: ReportStatus
    stated_at: datetime
    text: str


def reports_on(exchange: Exchange, study: SoughtStudy) -> list[FoundReport]:
    """Return the reports of people on a study. Raises `DeliveryDeferred` or `DeliveryRefused`."""
    patient = patient_on_server(exchange, study.patient_system, study.patient_number)
    asked = {"category": _CATEGORIES, "status": ",".join(_STATUSES)}
    found = find_of_patient(exchange, "DiagnosticReport", patient, asked)
    search = _Search(exchange, study)
    return [report for one in found if (report := search.report_of(one)) is not None]


class _Search:
    """Tells of each report whether it is about the study; what is read for that is read once."""

    def __init__(self, exchange: Exchange, study: SoughtStudy) -> None:
        self._exchange = exchange
        self._study = study
        self._read: dict[str, Json] = {}

    def report_of(self, resource: Json) -> FoundReport | None:
        """Return a report; `None` for what is about another study, has no text, or was written by a machine."""
        status = _STATUSES.get(text(resource, "status"))
        stated_at = _moment(text(child(resource, "meta"), "lastUpdated")) or _moment(text(resource, "issued"))
        if status is None or stated_at is None or _is_by_a_machine(resource) or not self._is_about_study(resource):
            return None
        words = "" if status is ReportStatus.CANCELLED else self._text(resource)
        if not words and status is not ReportStatus.CANCELLED:
            return None
        return FoundReport(number=identity(resource), status=status, stated_at=stated_at, text=words)

    def _is_about_study(self, resource: Json) -> bool:
        if any(map(self._is_accession, children(resource, "identifier"))):
            return True
        for name, kind in (("basedOn", "ServiceRequest"), ("imagingStudy", "ImagingStudy")):
            for reference in children(resource, name):
                numbers = [child(reference, "identifier"), *self._identifiers_at(reference, kind)]
                if any(map(self._is_accession, numbers)) or any(map(self._is_uid, numbers)):
                    return True
        return False

    def _is_accession(self, identifier: Json) -> bool:
        """Tell the study's accession number; a number of another system is another's."""
        study = self._study
        is_equal = bool(study.accession_number) and text(identifier, "value") == study.accession_number
        return is_equal and bool(study.accession_system) and text(identifier, "system") == study.accession_system

    def _is_uid(self, identifier: Json) -> bool:
        wanted = dicom_uid(self._study.study_instance_uid)
        return (text(identifier, "system"), text(identifier, "value")) == (wanted["system"], wanted["value"])

    def _identifiers_at(self, reference: Json, kind: str) -> list[Json]:
        place = _PLACE.search(text(reference, "reference"))
        if place is None or not place[1].startswith(f"{kind}/"):
            return []
        return children(self._resource(place[1]), "identifier")

    def _resource(self, place: str) -> Json:
        if place not in self._read and len(self._read) < _MOST_READ:
            self._read[place] = self._exchange.read(place, "what a report is about") or {}
        return self._read.get(place, {})

    def _text(self, resource: Json) -> str:
        """Return the words of a report: plain text that is attached, then its conclusion under a heading."""
        parts = [one for form in children(resource, "presentedForm") if (one := self._attached(form))]
        if conclusion := text(resource, "conclusion"):
            parts.append(f"IMPRESSION:\n{conclusion}")
        return "\n\n".join(parts)[:_LONGEST_TEXT]

    def _attached(self, attachment: Json) -> str:
        if not text(attachment, "contentType").lower().startswith("text/plain"):
            return ""
        data = text(attachment, "data")
        place = _PLACE.search(text(attachment, "url"))
        if not data and place is not None and place[1].startswith("Binary/"):
            data = text(self._resource(place[1]), "data")
        try:
            return base64.b64decode(data, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return ""


def _is_by_a_machine(resource: Json) -> bool:
    """Whether a report says of itself that artificial intelligence asserts it, as the node's own do."""
    return AI_ASSERTED["code"] in _security(resource)


def _security(resource: Json) -> Iterator[str]:
    return (text(one, "code") for one in children(child(resource, "meta"), "security"))


def _moment(stated: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(stated)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else None
