"""Reconcile a bundle with what the EHR holds: update what is there under its version, leave what a person decided.

A conditional update would replace whatever it finds at the moment of writing, which may be what a physician has signed
since the node looked. So nothing is updated by search. What is absent is created on the condition that it still is;
what is there is updated by id on the condition that it is the version that was looked at (If-Match, R4 http 3.1.0.5).
A report of a later run is not replaced by an earlier one that was delayed, and Observations of the earlier run that
this one does not repeat are marked entered-in-error, because nothing else would take them back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.identifiers import DICOM_UID_SYSTEM, JOB_SYSTEM, URI_SYSTEM
from dicom_node.fhir.builders.resources.provenance import former_reports, revising
from dicom_node.fhir.builders.retraction import ENTERED_IN_ERROR
from dicom_node.fhir.builders.verification import VERIFIED, is_sealed
from dicom_node.fhir.client.answers import NOT_FOR_US
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import child, children, identity, place, text, version, without_version
from dicom_node.fhir.client.searching import find, find_by_identifiers
from dicom_node.fhir.json_types import Json

#: The node may replace a report or Observation only while nobody else has decided about it (see `is_open`).
OPEN = frozenset({"registered", "partial", "preliminary", "unknown"})
_DECIDED = frozenset({"final", "amended", "corrected", "appended", "cancelled", "entered-in-error"})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What to write, in order.

    `newer` is the place of a report of a later run, or empty. `references` say for each fullUrl that is not written
    what to refer to instead; `looked` holds, by fullUrl, the version of each resource that an entry updates.
    """

    entries: tuple[Json, ...] = ()
    references: Mapping[str, Json] = field(default_factory=dict)
    looked: Mapping[str, Json] = field(default_factory=dict)
    newer: str = ""


def reconcile_with_server(exchange: Exchange, bundle: Json, unsent: Collection[str] = ()) -> Reconciled:
    """Look what is there. Entries of the types in `unsent` are read and not written.

    Raises `DeliveryRefused` when a person has decided about the report, or there are several.
    """
    ours = report_entry(bundle)
    there, is_renewed = _look_for_report(exchange, ours, _replaced(bundle))
    same_job = there is not None and job_of(there) == job_of(ours["resource"])
    if there is not None and not same_job and _issued(there) > _issued(ours["resource"]):
        return Reconciled(newer=place(there))
    observations = _observations_there(exchange, bundle)
    standing = {**observations, **({ours["fullUrl"]: there} if there else {})}
    former_jobs = former_reports(_replaced(bundle))[0]
    shared = {entry["fullUrl"]: _shared(exchange, entry, former_jobs) for entry in bundle["entry"] if _is_shared(entry)}
    left_alone = {url: one for url, one in observations.items() if not is_open(one)}
    references = {url: {"reference": place(one)} for url, one in left_alone.items()}
    references |= {url: one.reference for url, one in shared.items() if not one.is_written(is_repeated=same_job)}
    conditions = {url: "" for url, one in shared.items() if not one.is_searchable}
    renewed = [url for url, one in shared.items() if one.is_renewed] + ([ours["fullUrl"]] if is_renewed else [])
    conditions |= dict.fromkeys(renewed, f"identifier={JOB_SYSTEM}|{job_of(ours['resource'])}")
    former = _former(exchange, there, job_of(ours["resource"])) if there else None
    sent = [entry for entry in bundle["entry"] if entry["resource"]["resourceType"] not in unsent]
    wanted = [_known_as_before(entry, there) for entry in sent if entry["fullUrl"] not in references]
    entries = [_reconciled(_revising(entry, former), standing, conditions) for entry in wanted]
    retracted = _retractions(exchange, former, observations.values())
    looked = {url: one for url, one in standing.items() if url not in left_alone}
    looked |= {entry["fullUrl"]: one for entry, one in retracted}
    return Reconciled((*entries, *(entry for entry, _ in retracted)), references, looked)


def replaces_what_is_not_there(bundle: Json, reconciled: Reconciled) -> bool:
    """Tell whether the report follows an earlier one that the EHR does not have as a report."""
    return bool(former_reports(_replaced(bundle))[0]) and report_entry(bundle)["fullUrl"] not in reconciled.looked


def report_entry(bundle: Json) -> Json:
    """Return the entry of the DiagnosticReport."""
    entry: Json = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    return entry


def is_brought(exchange: Exchange, bundle: Json, kinds: Iterable[str]) -> bool:
    """Tell whether the report of this very run is there, or one of a later run, for which it is left alone.

    An earlier one has the same number, and proves nothing.
    """
    ours = report_entry(bundle)
    search = search_of(ours)
    found = [one for kind in kinds for one in find(exchange, kind, search) if not is_withdrawn_report(one, search)]
    return any(job_of(ours["resource"]) in jobs_of(one) or _issued(one) > _issued(ours["resource"]) for one in found)


def report_there(exchange: Exchange, entry: Json) -> Json | None:
    """Return the report that the EHR holds; those that the node has withdrawn are history.

    Raises `DeliveryRefused` for several, and for one that is decided.
    """
    return _look_for_report(exchange, entry, {})[0]


def _replaced(bundle: Json) -> Json:
    """Return the Provenance of a bundle, which names what the report replaces; empty where there is none."""
    provenances = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Provenance")
    return next(provenances, {})


def _look_for_report(exchange: Exchange, entry: Json, provenance: Json) -> tuple[Json | None, bool]:
    """Return the report that is there, and whether one is there that the node has withdrawn."""
    there = find(exchange, "DiagnosticReport", search_of(entry))
    found = [one for one in there if not is_withdrawn_report(one, search_of(entry))]
    found = found or _under_former_identifier(exchange, provenance)
    if len(found) > 1:
        raise DeliveryRefused(
            f"The EHR holds {len(found)} DiagnosticReports with the identifier of this report; "
            "remove all but one, then retry the delivery."
        )
    if found and not _is_earlier(entry["resource"], found[0]):
        check_open(found[0], entry["resource"])
    return found[0] if found else None, len(found) < len(there)


def _is_earlier(ours: Json, there: Json) -> bool:
    """Tell a report of an earlier run from the later one that the node has verified there: it was only late."""
    return is_sealed(there) and job_of(there) != job_of(ours) and _issued(there) > _issued(ours)


def _under_former_identifier(exchange: Exchange, provenance: Json) -> list[Json]:
    """Return what this node, up to version 0.2.0, reported under an identifier that any node could have given.

    Whose it is, its job tells.
    """
    jobs, tokens = former_reports(provenance)
    searches = [f"identifier={token}" for token in sorted(tokens)]
    found = [(one, search) for search in searches for one in find(exchange, "DiagnosticReport", search)]
    return [one for one, search in found if job_of(one) in jobs and not is_withdrawn_report(one, search)]


def is_open(resource: Json) -> bool:
    """Tell what nobody has decided about, or what is final by the node's own word and as the node has told it."""
    return text(resource, "status") in OPEN or is_sealed(resource)


def check_open(resource: Json, ours: Json) -> None:
    """Raise `DeliveryRefused` unless the node may replace this report by `ours`: a verified one only by another."""
    status = text(resource, "status")
    if is_sealed(resource) and text(ours, "status") not in VERIFIED:
        raise DeliveryRefused(
            f"{place(resource)} of this study and model was verified by a reviewer, and the new result has not been "
            "reviewed. Review the new result: then its report takes the place of the verified one."
        )
    if not is_open(resource):
        told = status if status in _DECIDED else "unknown to the node"
        raise DeliveryRefused(
            f"{place(resource)} of this study and model has status {told}: a person has "
            "decided about it and the node does not overwrite it. Reopen it in the EHR, or discard this delivery."
        )


def is_withdrawn_report(report: Json, search: str) -> bool:
    """Tell a report that the node itself took back: its number is marked as no longer in use (R4 identifier-use)."""
    token = search.partition("=")[2]
    numbers = (one for one in children(report, "identifier") if f"{text(one, 'system')}|{text(one, 'value')}" == token)
    is_old = any(text(one, "use") == "old" for one in numbers)
    return is_old and text(report, "status") == ENTERED_IN_ERROR


def search_of(entry: Json) -> str:
    """Return the search that finds what an entry is about: ``identifier=system|value``."""
    request = entry["request"]
    return str(request.get("ifNoneExist") or request["url"].partition("?")[2])


def job_of(report: Json) -> str:
    """Return the key of the job that made this version of a report."""
    return next(iter(jobs_of(report)), "")


def jobs_of(resource: Json) -> list[str]:
    """Return the keys of the jobs that made a resource, or had a hand in it."""
    return [text(one, "value") for one in children(resource, "identifier") if text(one, "system") == JOB_SYSTEM]


def _issued(report: Json) -> datetime:
    """Return when a report was issued, or the document that stands for it was made; without a zone, or unreadable, it
    counts as the oldest: R4 demands the zone."""
    try:
        issued = datetime.fromisoformat(text(report, "issued") or text(report, "date"))
    except ValueError:
        return _LONG_AGO
    return issued if issued.tzinfo else _LONG_AGO


def _reconciled(entry: Json, standing: Mapping[str, Json], conditions: Mapping[str, str]) -> Json:
    """Return the entry as an update of what stands there, or else as a creation under the condition that nothing does.

    `conditions` are other searches than the entry's own, by fullUrl: none where the server does not search, and that
    for the job where it holds a withdrawn resource with the same number.
    """
    kind, there = entry["resource"]["resourceType"], standing.get(entry["fullUrl"])
    if there is None:
        search = conditions.get(entry["fullUrl"], search_of(entry))
        return {**entry, "request": {"method": "POST", "url": kind, **({"ifNoneExist": search} if search else {})}}
    resource = {**entry["resource"], "id": identity(there)}
    return {**entry, "resource": resource, "request": update_of(there)}


def _known_as_before(entry: Json, report: Json | None) -> Json:
    """Return the report with the former identifiers of the one that it replaces; any other entry as it is."""
    resource = entry["resource"]
    if report is None or resource["resourceType"] != "DiagnosticReport":
        return entry
    known = {text(one, "value") for one in children(resource, "identifier")}
    more = [one for one in children(report, "identifier") if text(one, "system") == URI_SYSTEM]
    former = [{**one, "use": "old"} for one in more if text(one, "value") not in known]
    return {**entry, "resource": {**resource, "identifier": [*resource["identifier"], *former]}}


def update_of(there: Json) -> Json:
    """Return the request that replaces a resource under the version that was looked at, where it has one."""
    condition = {"ifMatch": f'W/"{version(there)}"'} if version(there) else {}
    return {"method": "PUT", "url": place(there), **condition}


def _revising(entry: Json, former: Json | None) -> Json:
    """Return the Provenance with the version of the report that this job replaces; any other entry as it is."""
    if entry["resource"]["resourceType"] != "Provenance":
        return entry
    return {**entry, "resource": revising(entry["resource"], _version_reference(former) if former else {})}


def _former(exchange: Exchange, report: Json, job: str) -> Json | None:
    """Return the newest version of a report that another job made; `None` where the server does not show it.

    It may lie before the present one: an attempt that ended right after the report was replaced has not yet taken back
    what the former one said.
    """
    if job_of(report) != job:
        return report
    asked = "the history of the report"
    try:
        history = exchange.read(f"{place(report)}/_history", asked, {"_count": "10"})
    except NOT_FOR_US:
        return None
    versions = (child(entry, "resource") for entry in children(history, "entry"))
    return next((one for one in versions if place(one) == place(report) and job_of(one) not in {"", job}), None)


def _version_reference(report: Json) -> Json:
    """Return a reference to this very version (R4 references 2.3.0.1), and to the job that made it."""
    at_version = f"/_history/{version(report)}" if version(report) else ""
    identifier = {"system": JOB_SYSTEM, "value": job_of(report)} if job_of(report) else None
    return {"reference": f"{place(report)}{at_version}", **({"identifier": identifier} if identifier else {})}


# --- Observations ----------------------------------------------------------------------------------------------------


def _observations_there(exchange: Exchange, bundle: Json) -> dict[str, Json]:
    """Return by fullUrl those of the bundle that the EHR holds already, of an earlier attempt perhaps half done."""
    wanted = {e["fullUrl"]: search_of(e) for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation"}
    tokens = {url: query.partition("=")[2] for url, query in wanted.items()}
    found = {uid: one for one in find_by_identifiers(exchange, "Observation", [*tokens.values()]) for uid in _uids(one)}
    uids = {url: token.partition("|")[2] for url, token in tokens.items()}
    return {url: found[uid] for url, uid in uids.items() if uid in found}


def _retractions(exchange: Exchange, report: Json | None, repeated: Iterable[Json]) -> list[tuple[Json, Json]]:
    """Return the entries that take back what the earlier report said and this one does not, each with what it found."""
    known = {place(one) for one in repeated}
    observations = observations_of(exchange, report)
    gone = [one for one in observations if is_open(one) and place(one) not in known]
    return [(retraction_of(exchange.base_url, one), one) for one in gone]


def observations_of(exchange: Exchange, report: Json | None) -> list[Json]:
    """Return the Observations that a report refers to and the EHR holds."""
    references = (text(one, "reference") for one in children(report, "result"))
    return [one for one in (_read_observation(exchange, reference) for reference in references) if one]


def _read_observation(exchange: Exchange, reference: str) -> Json | None:
    found = {"resourceType": "Observation", "id": reference.rpartition("/")[2]}
    is_observation = reference.rpartition("/")[0].endswith("Observation")
    if not is_observation or not place(found):
        return None
    read = exchange.read(place(found), "the request for an Observation of the earlier report")
    return read if place(read) == place(found) else None


def retraction_of(base_url: str, there: Json) -> Json:
    """Return the entry that marks a resource as entered in error, under the version that was looked at."""
    return {
        "fullUrl": f"{base_url}/{place(there)}",
        "resource": {**without_version(there), "status": ENTERED_IN_ERROR},
        "request": update_of(there),
    }


def _uids(resource: Json) -> set[str]:
    return {text(one, "value") for one in children(resource, "identifier") if text(one, "system") == DICOM_UID_SYSTEM}


# --- what others may own: Device, Endpoint, ImagingStudy, and the Provenance of a run --------------------------------


@dataclass(frozen=True, slots=True)
class _Shared:
    """What to refer to instead of creating it (nothing: create it), and whether the server lets the node look.

    `is_renewed`: the server holds only such as were entered in error.
    """

    reference: Json = field(default_factory=dict)
    is_searchable: bool = True
    is_renewed: bool = False

    def is_written(self, *, is_repeated: bool) -> bool:
        """Tell whether to create it; what cannot be looked for went along with an earlier attempt."""
        return not self.reference and (self.is_searchable or not is_repeated)


def _is_shared(entry: Json) -> bool:
    return entry["resource"]["resourceType"] not in {"DiagnosticReport", "Observation"}


def _shared(exchange: Exchange, entry: Json, former_jobs: Collection[str]) -> _Shared:
    """Look for one that is there; where the server lets nobody look, it is referred to by its identifier.

    Of several any will do, and the same at every attempt; but one that the node has made, since it names its results.
    One that belongs to another patient will not, unless a job of `former_jobs` made it: then the study was corrected.
    """
    resource = entry["resource"]
    try:
        found = find(exchange, resource["resourceType"], search_of(entry))
    except NOT_FOR_US:
        # Not offered or not allowed: such a resource stands beside the report and must not cost it.
        return _Shared(by_identifier(resource), is_searchable=False)
    standing = [one for one in found if text(one, "status") != ENTERED_IN_ERROR]
    if not standing:
        return _Shared(is_renewed=bool(found) and resource["resourceType"] == "ImagingStudy")
    usable = sorted(
        (not is_of_same_patient(one, resource), not jobs_of(one), place(one))
        for one in standing
        if is_of_same_patient(one, resource) or set(former_jobs) & set(jobs_of(one))
    )
    return _Shared({"reference": usable[0][2], "type": resource["resourceType"]} if usable else by_identifier(resource))


def by_identifier(resource: Json) -> Json:
    """Return a logical reference to a resource; empty where it has no identifier."""
    identifiers = children(resource, "identifier")
    return {"type": resource["resourceType"], "identifier": identifiers[0]} if identifiers else {}


def is_of_same_patient(there: Json, ours: Json) -> bool:
    """Tell whether two resources are of one Patient, as far as both say."""
    wanted, found = text(child(ours, "subject"), "reference"), text(child(there, "subject"), "reference")
    return not wanted or not found or found.endswith(wanted)
