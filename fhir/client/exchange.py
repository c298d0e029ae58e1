"""One conversation with a FHIR server: what it can do, requests out, JSON back, every failure as one of our errors."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused, DestinationAway
from dicom_node.fhir.client.answers import failure, json_or_none
from dicom_node.fhir.json_types import Json, to_json_bytes

#: R4 as media type parameter, so that a server of several versions takes it for what it is (R4 http 3.1.0.1.11).
FHIR_JSON = "application/fhir+json; fhirVersion=4.0"


def hide_queries_in_logs() -> None:
    """Keep the query out of httpx's log lines: it logs every URL at INFO, and a search may name the patient."""
    logging.getLogger("httpx").addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    record.args = tuple(a.copy_with(query=None) if isinstance(a, httpx.URL) else a for a in arguments)
    return True


@dataclass(frozen=True, slots=True)
class Exchange:
    """Sends requests below `base_url`; `secrets` are texts that no error may quote (patient's name and number)."""

    http: httpx.Client
    base_url: str
    secrets: tuple[str, ...] = ()

    def get(self, path: str, asked: str, params: dict[str, str] | None = None) -> httpx.Response:
        """Read or search. Raises `DeliveryDeferred` or `DeliveryRefused` unless the answer is a success."""
        # An unknown search parameter must be an error, never ignored: everything would match.
        request = self._request("GET", path, params=params, headers={"Prefer": "handling=strict"})
        return self._succeeded(request, asked)

    def read(self, place: str, asked: str) -> Json | None:
        """Return the resource at ``Type/id``, or `None` when it is gone. Raises as `get` does."""
        answer = self._answer(self._request("GET", place))
        if answer.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return None
        return self.json(self.succeeded(answer, asked), asked)

    def send(self, method: str, path: str, resource: Json, asked: str, query: str = "") -> httpx.Response:
        """Write a resource; `query` makes a POST conditional (If-None-Exist). Raises as `get` does."""
        headers = {"Content-Type": FHIR_JSON, **({"If-None-Exist": query} if query else {})}
        request = self._request(method, path, content=to_json_bytes(resource), headers=headers)
        return self._succeeded(request, asked)

    def post_form(self, path: str, form: dict[str, str]) -> httpx.Response:
        """Post a search form; returns whatever is answered. Raises `DeliveryDeferred` when nothing is."""
        return self._answer(self._request("POST", path, data=form, headers={"Prefer": "handling=strict"}))

    def succeeded(self, response: httpx.Response, asked: str) -> httpx.Response:
        """Return the answer if it is a success, else raise."""
        if not response.is_success:
            raise failure(response, asked, self.secrets)
        return response

    def json(self, response: httpx.Response, asked: str) -> Json:
        """Return the resource of an answer. Raises `DeliveryRefused` when it holds none (a login page, a proxy)."""
        body = json_or_none(response)
        if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
            raise DeliveryRefused(
                f"What answered {asked} at {response.url.host} is no FHIR server: the answer is not FHIR JSON. "
                "Check url of the destination."
            )
        return body

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Request:
        url = f"{self.base_url}/{path}" if path else self.base_url
        return self.http.build_request(method, url, **parts)

    def _succeeded(self, request: httpx.Request, asked: str) -> httpx.Response:
        return self.succeeded(self._answer(request), asked)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            return self.http.send(request)
        except httpx.TransportError as error:
            nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise (DestinationAway if nobody else DeliveryDeferred)(
                f"The FHIR server {request.url.host} cannot be reached ({type(error).__name__}). "
                "It will be tried again; check address, network and certificates."
            ) from error


# --- what the server says it can do ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """Whether the server takes transactions, with the conditional writes the bundle relies on."""

    transactions: bool


def read_capabilities(exchange: Exchange) -> ServerCapabilities | None:
    """Read the CapabilityStatement; `None` when the server refuses to show it.

    Raises `DeliveryRefused` when it speaks another version of FHIR than R4.
    """
    asked = "the request for its CapabilityStatement"
    try:
        statement = exchange.json(exchange.get("metadata", asked), asked)
    except (CredentialsRefused, DeliveryRefused):
        return None
    version = str(statement.get("fhirVersion", "4.0.1"))
    if not version.startswith("4."):
        raise DeliveryRefused(
            f"The FHIR server speaks FHIR {version}; reports are written in R4 (4.0.1). "
            "Set url of the destination to the server's R4 address."
        )
    rest = [one for one in statement.get("rest", []) if one.get("mode") == "server"]
    return ServerCapabilities(transactions=any(_takes_transactions(one) for one in rest))


def _takes_transactions(rest: Json) -> bool:
    codes = {one.get("code") for one in rest.get("interaction", [])}
    return "transaction" in codes and not _denies_conditional_writes(rest.get("resource", []))


def _denies_conditional_writes(resources: Iterable[Json]) -> bool:
    """Tell whether it says no outright; silence is common and means nothing."""
    return any(
        (one.get("type") in {"DiagnosticReport", "Observation"} and one.get("conditionalUpdate") is False)
        or (one.get("type") in {"Device", "ImagingStudy", "Provenance"} and one.get("conditionalCreate") is False)
        for one in resources
    )
