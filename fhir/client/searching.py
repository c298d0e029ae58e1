"""Searches that trust no server blindly: every page is read, and a hit must carry what was searched for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

import httpx

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.client.answers import HttpAnswer
from dicom_node.fhir.client.exchange import POSTED_SEARCH, Exchange
from dicom_node.fhir.client.reading import child, children, place, text
from dicom_node.fhir.json_types import Json

#: A search of the node finds one resource, rarely two; who answers with more pages did not search.
_MOST_PAGES = 20
#: Identifiers in one search for several resources; the address stays shorter than any server's limit.
_MOST_AT_ONCE = 20
#: How a server marks what it shows beside the matches, which `total` does not count.
_NO_MATCH = {"include", "outcome"}
#: A refusal of search by POST that a search by GET would share, or that passes.
_NOT_ABOUT_POST = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What lies on the pages of one searchset; `total` is how many the server says it found, if it does.

    `are_all` tells whether it shows as many as it says.
    """

    resources: tuple[Json, ...]
    total: int | None
    are_all: bool

    def only(self, hits: Iterable[Json]) -> Found:
        """Return those that carry what was searched for."""
        return replace(self, resources=tuple(hits))


def find(exchange: Exchange, resource_type: str, query: str) -> list[Json]:
    """Return the resources that match ``identifier=system|value`` or ``_tag=system|value``.

    Raises `DeliveryDeferred` or `DeliveryRefused`; a hit without usable id counts as none.
    """
    parameter, _, token = query.partition("=")
    return _find(exchange, resource_type, parameter, [token])


def find_by_identifiers(exchange: Exchange, resource_type: str, tokens: Sequence[str]) -> list[Json]:
    """Return the resources that carry any of these ``system|value``."""
    groups = [tokens[start : start + _MOST_AT_ONCE] for start in range(0, len(tokens), _MOST_AT_ONCE)]
    return [one for group in groups for one in _find_any(exchange, resource_type, group)]


def _find_any(exchange: Exchange, resource_type: str, tokens: Sequence[str]) -> list[Json]:
    """Search for all at once, or one after another where the server takes no list (R4 search 3.1.1.4.0.1)."""
    try:
        return _find(exchange, resource_type, "identifier", tokens)
    except DeliveryRefused:
        if len(tokens) == 1:
            raise
    return [one for token in tokens for one in _find(exchange, resource_type, "identifier", [token])]


def find_patients(exchange: Exchange, system: str, value: str) -> list[Json]:
    """Return the Patients with this identifier; searched by POST, which keeps the number out of addresses and logs.

    Raises `DeliveryRefused` when the server names more than it shows: another could be among the rest.
    """
    pages = find_by_number(exchange, "Patient", system, value)
    if not pages.are_all:
        raise DeliveryRefused(
            f"The EHR says it has {pages.total} Patients with the study's PatientID in identifier system {system} and "
            f"shows {len(pages.resources)}; exactly one is needed. Merge them in the EHR, then retry the delivery."
        )
    return list(pages.resources)


def find_by_number(exchange: Exchange, kind: str, system: str, value: str) -> Found:
    """Return the resources with an identifier that a person has; searched by POST where the server takes that."""
    form = {"identifier": f"{_escaped(system)}|{_escaped(value)}"}
    asked = f"a search for the {kind}"
    answer = _searched(exchange, kind, form, asked)
    pages = _pages(exchange, exchange.json(exchange.succeeded(answer, asked), asked), kind)
    return pages.only(_hits(pages.resources, "identifier", [f"{system}|{value}"]))


def find_of_patient(exchange: Exchange, kind: str, patient: str, asked: dict[str, str]) -> list[Json]:
    """Return the resources about ``Patient/id`` that match what else is asked; a hit about somebody else is none."""
    what = f"a search for {kind}"
    answer = exchange.get(kind, what, {"subject": patient, **asked})
    pages = _pages(exchange, exchange.json(answer, what), kind)
    is_theirs = (f"/{text(child(one, 'subject'), 'reference')}".endswith(f"/{patient}") for one in pages.resources)
    return [one for one, theirs in zip(pages.resources, is_theirs, strict=True) if theirs]


def _searched(exchange: Exchange, kind: str, form: dict[str, str], asked: str) -> HttpAnswer:
    """Search by POST, or by GET where the server was found to take no POST."""
    if POSTED_SEARCH in exchange.refusals:
        return exchange.get(kind, asked, form)
    answer = exchange.post_form(f"{kind}/_search", form)
    if not _refuses_post(answer):
        return answer
    answer = exchange.get(kind, asked, form)
    exchange.refusals.note(POSTED_SEARCH)
    return answer


def _find(exchange: Exchange, resource_type: str, parameter: str, tokens: Sequence[str]) -> list[Json]:
    asked = f"a search for {resource_type}"
    answer = exchange.get(resource_type, asked, {parameter: ",".join(tokens)})
    pages = _pages(exchange, exchange.json(answer, asked), resource_type)
    return _hits(pages.resources, parameter, tokens)


def _pages(exchange: Exchange, searchset: Json, resource_type: str) -> Found:
    """Follow link[next] (R4 http 3.1.0.7) to the end."""
    asked = f"a search for {resource_type}"
    total = searchset.get("total")
    found: dict[str, Json] = {}
    for _ in range(_MOST_PAGES):
        found |= {place(one): one for one in _matches(searchset, resource_type)}
        path = _next_path(exchange, searchset)
        if not path:
            counted = total if isinstance(total, int) else None
            return Found(tuple(found.values()), counted, counted is None or counted <= len(found))
        searchset = exchange.json(exchange.get(path, asked), asked)
    raise DeliveryRefused(
        f"The FHIR server answered {asked} with more than {_MOST_PAGES} pages; it did not search by what was asked. "
        "Check that it offers searching by identifier."
    )


def _matches(searchset: Json, resource_type: str) -> Iterator[Json]:
    """Yield what was found on a page, without what stands beside it (R4 search 3.1.1.5: include, outcome)."""
    for entry in children(searchset, "entry"):
        resource = child(entry, "resource")
        is_beside = text(child(entry, "search"), "mode") in _NO_MATCH
        if place(resource) and text(resource, "resourceType") == resource_type and not is_beside:
            yield resource


def _next_path(exchange: Exchange, searchset: Json) -> str:
    """Return the next page below the base address; credentials go to no other host, whatever a link says."""
    link = next((one for one in children(searchset, "link") if text(one, "relation") == "next"), None)
    if link is None:
        return ""
    address = text(link, "url")
    base = exchange.base_url + "/"
    absolute = _joined(base, address)
    if not absolute.startswith((base, exchange.base_url + "?")):
        raise DeliveryRefused(
            "The next page of a search lies outside the address of the FHIR server, where the node does not follow. "
            "Set url of the destination to the address that the server itself names in its answers."
        )
    return absolute.removeprefix(exchange.base_url).removeprefix("/")


def _joined(base: str, address: str) -> str:
    try:
        return str(httpx.URL(base).join(address))
    except (httpx.InvalidURL, ValueError):
        return ""


def _refuses_post(answer: HttpAnswer) -> bool:
    is_refusal = HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return (is_refusal and answer.status not in _NOT_ABOUT_POST) or answer.status == HTTPStatus.NOT_IMPLEMENTED


def _hits(resources: Iterable[Json], parameter: str, tokens: Sequence[str]) -> list[Json]:
    wanted = {token.partition("|")[::2] for token in tokens}
    return [resource for resource in resources if _carried(resource, parameter) & wanted]


def _carried(resource: Json, parameter: str) -> set[tuple[str, str]]:
    if parameter == "_tag":
        return {(text(tag, "system"), text(tag, "code")) for tag in children(child(resource, "meta"), "tag")}
    return {(text(one, "system"), text(one, "value")) for one in children(resource, "identifier")}


def _escaped(value: str) -> str:
    """Escape what separates search values (R4 search 3.1.1.4.0.1)."""
    return "".join(f"\\{character}" if character in "\\|,$" else character for character in value)
