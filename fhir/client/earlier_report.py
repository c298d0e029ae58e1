"""What the EHR already holds for the same study, model and route, and what that means for this bundle.

A conditional update would replace whatever it finds. So first: what a person has decided about is never touched; a
report of a later run is not replaced by an earlier one that was delayed; and Observations of the earlier run that
this one does not repeat are marked entered-in-error, because nothing else would take them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.identifiers import DICOM_UID_SYSTEM, JOB_SYSTEM
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.json_types import Json

#: The node may replace a report or Observation only while nobody has decided about it.
_OPEN = {"registered", "partial", "preliminary", "unknown"}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """`newer` is the location of a report of a later run, or empty; `retractions` are entries to add."""

    newer: str = ""
    retractions: tuple[Json, ...] = ()


def look_for_earlier_report(exchange: Exchange, bundle: Json) -> EarlierReport:
    """Compare with what is there. Raises `DeliveryRefused` when a person has decided about it, or there are several."""
    entry = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    found = find(exchange, "DiagnosticReport", entry["request"]["url"].partition("?")[2])
    if not found:
        return EarlierReport()
    if len(found) > 1:
        raise DeliveryRefused(
            f"The EHR holds {len(found)} DiagnosticReports with the identifier of this report; "
            "remove all but one, then retry the delivery."
        )
    there, ours = found[0], entry["resource"]
    if there.get("status") not in _OPEN:
        raise DeliveryRefused(
            f"DiagnosticReport/{there['id']} of this study and model has status {there.get('status')}: a person has "
            "decided about it and the node does not overwrite it. Reopen it in the EHR, or discard this delivery."
        )
    if _job(there) == _job(ours):
        return EarlierReport()
    if _issued(there) > _issued(ours):
        return EarlierReport(newer=f"DiagnosticReport/{there['id']}")
    return EarlierReport(retractions=tuple(_retractions(exchange, there, _tracking_uids(bundle))))


def _retractions(exchange: Exchange, report: Json, repeated: set[str]) -> list[Json]:
    observations = (_read_observation(exchange, one.get("reference", "")) for one in report.get("result", []))
    return [
        _retraction(exchange.base_url, observation)
        for observation in observations
        if observation and observation.get("status") in _OPEN and not _uids(observation) & repeated
    ]


def _read_observation(exchange: Exchange, reference: str) -> Json | None:
    kind, _, identity = reference.rpartition("/")
    if not kind.endswith("Observation"):
        return None
    return exchange.read(f"Observation/{identity}", "the request for an Observation of the earlier report")


def _retraction(base_url: str, observation: Json) -> Json:
    meta = {key: value for key, value in observation.get("meta", {}).items() if key not in {"versionId", "lastUpdated"}}
    resource = {key: value for key, value in observation.items() if key != "meta"} | ({"meta": meta} if meta else {})
    place = f"Observation/{observation['id']}"
    return {
        "fullUrl": f"{base_url}/{place}",
        "resource": {**resource, "status": "entered-in-error"},
        "request": {"method": "PUT", "url": place},
    }


def _tracking_uids(bundle: Json) -> set[str]:
    resources = (entry["resource"] for entry in bundle["entry"])
    return {uid for one in resources if one["resourceType"] == "Observation" for uid in _uids(one)}


def _uids(resource: Json) -> set[str]:
    return {one["value"] for one in resource.get("identifier", []) if one.get("system") == DICOM_UID_SYSTEM}


def _job(report: Json) -> str:
    jobs = (one["value"] for one in report.get("identifier", []) if one.get("system") == JOB_SYSTEM)
    return next(jobs, "")


def _issued(report: Json) -> datetime:
    return datetime.fromisoformat(report["issued"]) if "issued" in report else _LONG_AGO
