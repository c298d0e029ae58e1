"""Write what was reconciled with the server: in one transaction, or one by one; and look what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import takewhile
from typing import Any

from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.core.uids import derived_uuid
from dicom_node.fhir.builders.verification import is_sealed
from dicom_node.fhir.client.answers import (
    NOT_FOR_US,
    ConditionNotMet,
    HttpAnswer,
    NotOffered,
    error_for_status,
    in_brackets,
    is_unknown_here,
)
from dicom_node.fhir.client.exchange import CONDITIONAL_CREATE, Exchange
from dicom_node.fhir.client.reading import child, children, place, text, version, version_of_etag, without_version
from dicom_node.fhir.client.reconciliation import (
    OPEN,
    Reconciled,
    by_identifier,
    is_open,
    job_of,
    report_entry,
    report_there,
)
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.json_types import Json

_LOCATION = re.compile(r"(?:^|/)([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?$")
#: What a report can do without; refused, it is referred to by identifier, or left out.
_BESIDE = {"Device", "DocumentReference", "Endpoint", "ImagingStudy", "Provenance"}
#: Where it stands what a person has decided, if not in `status`.
_DECIDED_BY = {"DocumentReference": "docStatus"}
#: What a physician decides about by its status.
_DECIDABLE = {"DiagnosticReport", "Observation"}


@dataclass(frozen=True, slots=True)
class Written:
    """Where a resource lies now, and which version it is; each empty when the server does not say."""

    place: str
    version: str = ""


def transact(exchange: Exchange, bundle: Json, reconciled: Reconciled) -> dict[str, Written]:
    """Post the transaction and return by fullUrl what was written; an answer that is not clearly a success is an error.

    Raises `NotOffered` when the server takes no transactions, `ConditionNotMet` when it no longer holds what was
    looked at, `DeliveryDeferred` or `DeliveryRefused`.
    """
    asked = "the report transaction"
    _look_again(exchange, reconciled)
    entries = [_referring(entry, reconciled.references) for entry in reconciled.entries]
    answer = _transacted(exchange, bundle, entries)
    if answer.status == HTTPStatus.NOT_FOUND:  # the address has answered before
        raise NotOffered(f"The FHIR server {answer.host} has nothing that takes transactions (404).")
    answer = exchange.succeeded(answer, asked)
    if not answer.content.strip():
        return _shown_by_the_report(exchange, bundle)
    responses = [child(entry, "response") for entry in children(exchange.json(answer, asked), "entry")]
    for response, entry in zip(responses, entries, strict=False):
        _check_entry(exchange, response, entry["resource"]["resourceType"])
        _check_written(entry, text(response, "status"))
    if len(responses) != len(entries):
        return _shown_by_the_report(exchange, bundle)
    written = {
        e["fullUrl"]: _written(text(r, "location"), text(r, "etag")) for e, r in zip(entries, responses, strict=True)
    }
    _check_nothing_lost(exchange, reconciled, written)
    return written


def write_one_by_one(exchange: Exchange, reconciled: Reconciled) -> dict[str, Written]:
    """Write every entry and return by fullUrl what was written.

    Not all or nothing: a failure in between leaves the first entries. Sending the bundle again finds them and goes on.
    Raises `ConditionNotMet`, `DeliveryDeferred` or `DeliveryRefused`.
    """
    references = dict(reconciled.references)
    written: dict[str, Written] = {}
    for entry in reconciled.entries:
        try:
            one = write_entry(exchange, _referring(entry, references))
        except NOT_FOR_US:
            if entry["resource"]["resourceType"] not in _BESIDE:
                raise
            references[entry["fullUrl"]] = by_identifier(entry["resource"])
            continue
        references[entry["fullUrl"]] = {"reference": one.place, "type": entry["resource"]["resourceType"]}
        written[entry["fullUrl"]] = one
    _check_nothing_lost(exchange, reconciled, written)
    return written


def write_entry(exchange: Exchange, entry: Json) -> Written:
    """Create or replace one resource, and return what was written. Raises as `write_one_by_one` does, and `NotOffered`
    where the server takes none of its type."""
    if entry["request"]["method"] == "PUT":
        _check_unchanged(exchange, entry)
        return put(exchange, entry)
    kind, query = entry["resource"]["resourceType"], entry["request"].get("ifNoneExist", "")
    answer = _created(exchange, entry)
    _check_written(entry, str(answer.status))
    written = _written(answer.headers.get("Location", ""), answer.headers.get("ETag", ""))
    named = written.place or place(answer.json())
    return Written(named or _found_after(exchange, kind, query), written.version)


def _created(exchange: Exchange, entry: Json) -> HttpAnswer:
    """Create a resource on the condition that it is absent; where the server takes no condition, look right before."""
    query = entry["request"].get("ifNoneExist", "")
    if query and CONDITIONAL_CREATE not in exchange.refusals:
        try:
            return _posted(exchange, entry, {"If-None-Exist": query})
        except NotOffered:
            answer = _created_without_condition(exchange, entry)
            exchange.refusals.note(CONDITIONAL_CREATE)
            return answer
    return _created_without_condition(exchange, entry)


def _created_without_condition(exchange: Exchange, entry: Json) -> HttpAnswer:
    """Create under an id of the node's own where the server lets it: an attempt that is repeated meets itself."""
    resource, query = entry["resource"], entry["request"].get("ifNoneExist", "")
    kind = resource["resourceType"]
    if query and _appeared(exchange, kind, query):
        raise ConditionNotMet(f"A {kind} with this identifier appeared in the EHR meanwhile; retry the delivery.")
    if query and kind in exchange.chosen_ids:
        chosen = own_id(kind, query)
        asked = f"the creation of {kind} under an id of the node's own"
        return exchange.send("PUT", f"{kind}/{chosen}", {**resource, "id": chosen}, asked, {})
    return _posted(exchange, entry, {})


def own_id(kind: str, query: str) -> str:
    """Return the id that a resource found by this search always gets where the node may choose it."""
    return derived_uuid("fhir", "client-assigned-id", kind, query).urn.removeprefix("urn:uuid:")


def _appeared(exchange: Exchange, kind: str, query: str) -> bool:
    try:
        return bool(find(exchange, kind, query))
    except NOT_FOR_US:
        return False  # not offered: then none was looked for before


def _posted(exchange: Exchange, entry: Json, conditions: dict[str, str]) -> HttpAnswer:
    kind = entry["resource"]["resourceType"]
    answer = exchange.attempt("POST", kind, entry["resource"], conditions)
    if is_unknown_here(answer):
        raise NotOffered(f"The FHIR server {answer.host} has no address for a new {kind} (404).")
    return exchange.succeeded(answer, f"the creation of {kind}")


def put(exchange: Exchange, entry: Json) -> Written:
    """Replace the version that was looked at. Raises `ConditionNotMet` when it is another by now."""
    resource, url = entry["resource"], entry["request"]["url"]
    tag = _condition(exchange, entry)
    answer = exchange.attempt("PUT", url, resource, {"If-Match": tag} if tag else {})
    other = _other_spelling(exchange, entry, tag) if answer.status in _MAY_BE_SPELLING else ""
    if other:
        answer = exchange.attempt("PUT", url, resource, {"If-Match": other})
        _check_spelling(exchange, answer, entry, other)
    exchange.succeeded(answer, f"an update of {resource['resourceType']}")
    return Written(url, version_of_etag(answer.headers.get("ETag", "")))


def _found_after(exchange: Exchange, kind: str, query: str) -> str:
    """Return where a resource lies whose creation was answered without a word."""
    found = find(exchange, kind, query) if query else []
    if not found:
        raise DeliveryDeferred(
            f"The FHIR server took the {kind} without saying where it lies, and does not find it yet. "
            "It will be tried again."
        )
    return place(found[0])


def _shown_by_the_report(exchange: Exchange, bundle: Json) -> dict[str, Written]:
    """Return where the report lies after a success without an account of it."""
    ours = report_entry(bundle)
    there = report_there(exchange, ours)
    if there is None or job_of(there) != job_of(ours["resource"]):
        raise DeliveryDeferred(
            "The FHIR server answered the transaction as a success, without an account of every entry, and does not "
            "show the report. It will be tried again, which is safe."
        )
    return {ours["fullUrl"]: Written(place(there), version(there))}


def _check_entry(exchange: Exchange, response: Json, kind: str) -> None:
    status = text(response, "status")[:3]
    if status.startswith("2"):
        return
    number = int(status) if re.fullmatch(r"[1-5]\d\d", status) else 0
    why = in_brackets(response.get("outcome"), exchange.elements)
    said = f"The FHIR server answered {number or 'nothing'} for the {kind} in the transaction{why}."
    raise error_for_status(number or 400, said)


def _check_written(entry: Json, status: str) -> None:
    """Raise `ConditionNotMet` for a report that another created meanwhile: 200, not 201, and ours not kept."""
    if _is_report(entry["resource"]) and entry["request"]["method"] == "POST" and status.startswith("200"):
        raise ConditionNotMet("Another report with this identifier appeared in the EHR meanwhile; retry the delivery.")


def _is_report(resource: Json) -> bool:
    """Tell the report, or the document that stands for it, from a document that is beside it."""
    return resource["resourceType"] == "DiagnosticReport" or "docStatus" in resource


def _written(location: str, etag: str) -> Written:
    found = _LOCATION.search(location)
    if found is None:
        return Written("", version_of_etag(etag))
    return Written(found.group(1), version_of_etag(etag) or found.group(2) or "")


def _referring(node: Any, references: Mapping[str, Json]) -> Any:
    """Put references to what the server holds in the place of those inside the bundle; drop those to nothing."""
    if isinstance(node, list):
        return [_referring(item, references) for item in node]
    if not isinstance(node, dict):
        return node
    inside = node.get("reference")
    if isinstance(inside, str) and inside in references:
        return {**{k: v for k, v in node.items() if k != "reference"}, **references[inside]}
    return {key: _referring(value, references) for key, value in node.items()}


# --- If-Match, as the server wants it spelt ------------------------------------------------------------------------

#: What servers answer to an If-Match that they cannot read, and to much else.
_MAY_BE_SPELLING = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}


def _transacted(exchange: Exchange, bundle: Json, entries: list[Json]) -> HttpAnswer:
    """Post the transaction; a second time where the conditions hold and the server may want them spelt otherwise."""
    tags = {entry["fullUrl"]: _condition(exchange, entry) for entry in entries}
    answer = exchange.attempt("POST", "", {**bundle, "entry": [_under(entry, tags) for entry in entries]}, {})
    conditional = [entry for entry in entries if tags[entry["fullUrl"]]]
    if not conditional or answer.status not in _MAY_BE_SPELLING:
        return answer
    others = {one["fullUrl"]: _other_spelling(exchange, one, tags[one["fullUrl"]]) for one in conditional}
    if not all(others.values()):
        return answer
    answer = exchange.attempt("POST", "", {**bundle, "entry": [_under(one, tags | others) for one in entries]}, {})
    for entry in conditional:
        _check_spelling(exchange, answer, entry, others[entry["fullUrl"]])
    return answer


def _condition(exchange: Exchange, entry: Json) -> str:
    """Return the If-Match for what an entry replaces; empty for a creation, and where nothing names the version."""
    request = entry["request"]
    if request["method"] != "PUT":
        return ""
    return exchange.etags.condition(request["url"], version_of_etag(request.get("ifMatch", "")))


def _under(entry: Json, tags: Mapping[str, str]) -> Json:
    tag = tags[entry["fullUrl"]]
    return {**entry, "request": {**entry["request"], "ifMatch": tag}} if tag else entry


def _other_spelling(exchange: Exchange, entry: Json, tag: str) -> str:
    """Return how the If-Match `tag` could be spelt otherwise; empty when the version is another one by now."""
    url, looked = entry["request"]["url"], version_of_etag(entry["request"].get("ifMatch", ""))
    there = exchange.read(url, "the request for what the server would not update") if tag and looked else None
    if there is None or version(there) != looked:
        return ""
    spellings = (exchange.etags.condition(url, looked), f'W/"{looked}"', f'"{looked}"')
    return next((one for one in spellings if one != tag), "")


def _check_spelling(exchange: Exchange, answer: HttpAnswer, entry: Json, tag: str) -> None:
    """Remember a spelling that was taken. Raises `DeliveryRefused` where none is, although the condition holds."""
    if answer.is_success:
        exchange.etags.learn(version_of_etag(entry["request"]["ifMatch"]), tag)
    if answer.status == HTTPStatus.PRECONDITION_FAILED:
        raise DeliveryRefused(
            f"The FHIR server {answer.host} holds the very version that the node would replace, and refuses If-Match "
            'both as W/"version" and as "version" (412). Without it a physician\'s word could be overwritten. Find out '
            "which ETag it wants and whether a proxy between changes the header, then retry the delivery."
        )


# --- a person may decide between look and write; some servers ignore If-Match ----------------------------------------


def _look_again(exchange: Exchange, reconciled: Reconciled) -> None:
    for entry in reconciled.entries:
        if entry["request"]["method"] == "PUT":
            _check_unchanged(exchange, entry)


def _check_unchanged(exchange: Exchange, entry: Json) -> None:
    """Read a report once more right before it is replaced; raises `ConditionNotMet` if it changed."""
    if not _is_report(entry["resource"]):
        return
    there = exchange.read(entry["request"]["url"], "the request for the report before it is replaced")
    looked, now = version_of_etag(entry["request"].get("ifMatch", "")), version(there)
    # Some servers tell the version in one kind of answer and not in another.
    is_another = bool(looked and now) and looked != now
    if there is None or _is_decided(there) or is_another:
        raise ConditionNotMet(
            "The report changed in the EHR while the node was about to replace it; retry the delivery."
        )


def _is_decided(there: Json) -> bool:
    """Tell whether a person has decided about a report, or about the document that stands for it."""
    if text(there, "resourceType") in _DECIDED_BY:
        return text(there, _DECIDED_BY[text(there, "resourceType")]) not in OPEN and not is_sealed(there)
    return not is_open(there)


def _check_nothing_lost(exchange: Exchange, reconciled: Reconciled, written: Mapping[str, Written]) -> None:
    """Find out, for each update, whether a person's version lies between the one looked at and ours."""
    decidable = {url: one for url, one in reconciled.looked.items() if text(one, "resourceType") in _DECIDABLE}
    for url, looked in decidable.items():
        after = written.get(url, Written("")).version
        if not _follows(version(looked), after):
            _put_back_decided(exchange, looked, after)


def _follows(before: str, after: str) -> bool:
    """Tell whether the version ids are numbers without another between them."""
    return before.isdecimal() and after.isdecimal() and int(after) == int(before) + 1


def _put_back_decided(exchange: Exchange, looked: Json, after: str) -> None:
    """Restore what a person decided while the node wrote, and refuse; no history, nothing to restore from."""
    decided = next((one for one in _between(exchange, looked, after) if not is_open(one)), None)
    if decided is None:
        return
    asked = "putting back a version that a person decided about"
    tag = exchange.etags.condition(place(looked), after)
    exchange.send("PUT", place(looked), without_version(decided), asked, {"If-Match": tag} if tag else {})
    raise DeliveryRefused(
        f"{place(looked)} was decided about by a person while the node wrote, and the FHIR server ignored If-Match. "
        "The node has put the person's version back; look at its history in the EHR, then discard this delivery."
    )


def _between(exchange: Exchange, looked: Json, after: str) -> list[Json]:
    """Return the versions after `looked` and before ours, newest first; none where that cannot be told."""
    asked = "the history of a resource that was updated"
    try:
        history = exchange.read(f"{place(looked)}/_history", asked, {"_count": "10"})
    except NOT_FOR_US:
        return []
    versions = [child(entry, "resource") for entry in children(history, "entry")]
    versions = [one for one in versions if place(one) == place(looked)]
    is_ours = bool(versions) and after in {"", version(versions[0])}
    if not is_ours or not version(looked) or version(looked) not in {version(one) for one in versions}:
        return []
    return list(takewhile(lambda one: version(one) != version(looked), versions[1:]))
