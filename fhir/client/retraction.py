"""Take a report back: what the EHR holds of the node's own becomes entered-in-error, and nothing that is not.

Nothing is sent that the EHR did not hold: a report that never arrived, or has been replaced, needs no withdrawal. What
a physician has decided about stays, and a person is told. An ImagingStudy to which results of other runs, models or
nodes contributed that still stand stays in use, and says which of its objects are withdrawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM, URI_SYSTEM
from dicom_node.fhir.builders.retraction import ENTERED_IN_ERROR, is_retraction
from dicom_node.fhir.client.answers import NOT_FOR_US, NotOffered
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.imaging_study import IN_USE, WITHDRAWN, marked
from dicom_node.fhir.client.reading import children, place, text, without_version
from dicom_node.fhir.client.reconciliation import (
    Reconciled,
    is_brought,
    is_open,
    jobs_of,
    observations_of,
    report_entry,
    retraction_of,
    search_of,
)
from dicom_node.fhir.client.searching import find, find_by_identifiers
from dicom_node.fhir.client.writing import put
from dicom_node.fhir.json_types import Json

#: What the node says of its own report that it takes back; all else stays as the EHR has it.
_SAID = ("status", "text", "conclusion", "issued")
#: A document that a report has taken the place of says so, and is not shown as a result either.
_SETTLED = frozenset({ENTERED_IN_ERROR, "superseded"})
_UNSAID = ("conclusionCode", "presentedForm")


def reconcile_retraction(exchange: Exchange, bundle: Json) -> Reconciled:
    """Look what is there to take back. Raises `DeliveryRefused` when a physician has decided about the report."""
    found = [*_reports(exchange, bundle)]
    found += [(one, retraction_of(exchange.base_url, one)) for one in _observations(exchange, bundle, found)]
    found += _studies(exchange, bundle)
    looked = {entry["fullUrl"]: there for there, entry in found}
    return Reconciled(tuple(entry for _, entry in found), {}, looked)


def is_settled(exchange: Exchange, bundle: Json, kinds: Sequence[str]) -> bool:
    """Tell whether what a bundle is to bring about holds at the server, as far as it is found in these types.

    A report that is taken back must not stand there any more; that it never did is as good.
    """
    if not is_retraction(bundle):
        return is_brought(exchange, bundle, kinds)
    made_by = set(jobs_of(report_entry(bundle)["resource"]))
    found = [one for kind in kinds for one in _known_as(exchange, report_entry(bundle)["resource"], kind)]
    return not any(made_by & set(jobs_of(one)) and text(one, "status") not in _SETTLED for one in found)


def _reports(exchange: Exchange, bundle: Json) -> Iterator[tuple[Json, Json]]:
    ours = report_entry(bundle)
    made_by = set(jobs_of(ours["resource"]))
    for there in _known_as(exchange, ours["resource"]):
        if not made_by & set(jobs_of(there)) or text(there, "status") == ENTERED_IN_ERROR:
            continue
        if not is_open(there):
            raise DeliveryRefused(
                f"{place(there)} rests on a withdrawn AI result and has status {text(there, 'status')}: a physician "
                "has decided about it and the node does not change it. Tell the physician that the result was "
                "withdrawn; when it is put right in the EHR, discard this delivery."
            )
        yield there, _withdrawn(exchange, there, ours["resource"])


def _known_as(exchange: Exchange, ours: Json, kind: str = "DiagnosticReport") -> list[Json]:
    """Return the reports with any of the identifiers that this one has, or had in former versions."""
    numbers = [one for one in children(ours, "identifier") if text(one, "system") == URI_SYSTEM]
    tokens = dict.fromkeys(f"{text(one, 'system')}|{text(one, 'value')}" for one in numbers)
    found = find_by_identifiers(exchange, kind, [*tokens])
    return list({place(one): one for one in found}.values())


def _withdrawn(exchange: Exchange, there: Json, ours: Json) -> Json:
    entry = retraction_of(exchange.base_url, there)
    kept = {key: value for key, value in entry["resource"].items() if key not in _UNSAID}
    ended = [one for one in children(ours, "identifier") if text(one, "use") == "old"]
    numbers = [next((old for old in ended if _same(one, old)), one) for one in children(there, "identifier")]
    said = {key: ours[key] for key in _SAID if key in ours}
    return {**entry, "resource": {**kept, **said, "identifier": numbers}}


def _same(one: Json, other: Json) -> bool:
    return (text(one, "system"), text(one, "value")) == (text(other, "system"), text(other, "value"))


def _observations(exchange: Exchange, bundle: Json, reports: list[tuple[Json, Json]]) -> list[Json]:
    """Return those that the bundle names and those that the reports refer to."""
    entries = [one for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation"]
    tokens = [search_of(one).partition("=")[2] for one in entries]
    found = [*find_by_identifiers(exchange, "Observation", tokens)]
    found += [one for there, _ in reports for one in observations_of(exchange, there)]
    by_place = {place(one): one for one in found if is_open(one)}
    return list(by_place.values())


def take_back_observations(exchange: Exchange, bundle: Json) -> None:
    """Mark as entered in error the Observations of a bundle whose report the server does not take."""
    try:
        left = _observations(exchange, bundle, [])
    except NotOffered:
        return
    for one in left:
        put(exchange, retraction_of(exchange.base_url, one))


def _studies(exchange: Exchange, bundle: Json) -> list[tuple[Json, Json]]:
    """Return the ImagingStudies that the node has made; that of a PACS or RIS is not the node's to judge."""
    sent = [one for one in bundle["entry"] if one["resource"]["resourceType"] == "ImagingStudy"]
    found = {
        place(there): there
        for entry in sent
        for there in _found_study(exchange, entry)
        if _is_ours(there, entry["resource"])
    }
    ours = [entry["resource"] for entry in sent]
    withdrawn = [
        (there, _withdrawn_study(there, ours, jobs_of(report_entry(bundle)["resource"]))) for there in found.values()
    ]
    return [
        (there, {**retraction_of(exchange.base_url, there), "resource": without_version(told)})
        for there, told in withdrawn
        if told != there
    ]


def _withdrawn_study(there: Json, ours: Sequence[Json], jobs: Collection[str]) -> Json:
    """Return an ImagingStudy that says which objects are withdrawn: in error as a whole when no result is left in it.

    The objects of results have a title in what was sent, the images themselves have none.
    """
    numbers = [_no_longer_used(one, jobs) for one in children(there, "identifier")]
    in_use = [one for one in numbers if text(one, "system") == JOB_SYSTEM and text(one, "use") != "old"]
    is_over = not in_use and all(text(one, "status") == ENTERED_IN_ERROR for one in ours)
    instances = (one for study in ours for series in children(study, "series") for one in children(series, "instance"))
    withdrawn = {text(one, "uid") for one in instances if text(one, "title")}
    status = {"status": ENTERED_IN_ERROR} if is_over else {}
    numbered = {"identifier": numbers} if numbers else {}
    return {**marked(there, withdrawn, WITHDRAWN), **numbered, **status}


def _no_longer_used(number: Json, jobs: Collection[str]) -> Json:
    is_theirs = text(number, "system") == JOB_SYSTEM and text(number, "value") in jobs
    return {**number, "use": "old"} if is_theirs else number


def _found_study(exchange: Exchange, entry: Json) -> list[Json]:
    try:
        return find(exchange, "ImagingStudy", search_of(entry))
    except NOT_FOR_US:
        return []  # not offered: then none was looked for when the report was sent, and none can be told from others


def _is_ours(there: Json, ours: Json) -> bool:
    is_made_here = bool(jobs_of(there)) or there.get("series") == ours.get("series")
    return is_made_here and text(there, "status") in IN_USE
