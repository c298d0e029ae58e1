"""Deliver a report to an EHR: find the patient, look what is there, post it whole or one by one, judge the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from dicom_node.core.errors import DeliveryRefused, SettingsError
from dicom_node.fhir.client.answers import error_for_status, outcome_text
from dicom_node.fhir.client.earlier_report import look_for_earlier_report
from dicom_node.fhir.client.exchange import Exchange, ServerCapabilities, hide_queries_in_logs, read_capabilities
from dicom_node.fhir.client.searching import find, patient_reference_on_server
from dicom_node.fhir.json_types import Json


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where the resources lie now. `superseded`: a report of a later run was there already and has been left."""

    locations: tuple[str, ...]
    superseded: bool = False


class FhirClient:
    """Sends report bundles to one FHIR R4 server; safe to use from several threads, and to send anything twice.

    Besides writing the bundle's resources it reads Patient (unless `patient` is ``logical``), DiagnosticReport and
    Observation, which the account it uses must be allowed to.

    `patient` is ``match`` (find exactly one Patient by identifier) or ``logical`` (leave the reference by identifier
    as it is). Redirects are never followed, so credentials go to no other host. Raises `SettingsError` for an address
    that cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        auth: httpx.Auth | None = None,
        timeout_s: float = 60.0,
        patient: Literal["match", "logical"] = "match",
    ) -> None:
        url = httpx.URL(base_url)
        if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
            raise SettingsError(
                f"The FHIR destination at {url.host or base_url!r} needs an address that begins with https:// (or "
                "http://) and holds no user or password; set url, and token or username and password beside it."
            )
        hide_queries_in_logs()
        self._base_url = base_url.rstrip("/")
        self._patient = patient
        self._capabilities: ServerCapabilities | None = None
        headers = {"Accept": "application/fhir+json"}
        self._http = httpx.Client(auth=auth, timeout=timeout_s, headers=headers, follow_redirects=False)

    def send(self, bundle: Mapping[str, Any]) -> Delivered:
        """Deliver a bundle of `build_bundle`.

        Raises `DeliveryDeferred` (network, 408, 409, 425, 429, 5xx) or `DeliveryRefused` (everything a person must
        look at: no or several Patients, a report already finalised, any other 4xx); neither names the patient.
        """
        subject = _subject(bundle)
        exchange = Exchange(self._http, self._base_url, _secrets(subject))
        capabilities = self._read_capabilities(exchange)
        wire = self._for_this_server(exchange, bundle, subject)
        earlier = look_for_earlier_report(exchange, wire)
        if earlier.newer:
            return Delivered((earlier.newer,), superseded=True)
        wire["entry"] = [*wire["entry"], *earlier.retractions]
        return Delivered(_transact(exchange, wire) if capabilities.transactions else send_one_by_one(exchange, wire))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_capabilities(self, exchange: Exchange) -> ServerCapabilities:
        """Ask once; a server that will not say is taken to do transactions, as nearly all do, and asked again."""
        if self._capabilities is None:
            self._capabilities = read_capabilities(exchange)
        return self._capabilities or ServerCapabilities(transactions=True)

    def _for_this_server(self, exchange: Exchange, bundle: Mapping[str, Any], subject: Json) -> Json:
        """Return the bundle with the server's own Patient as subject; the stored bundle stays as it is."""
        if self._patient == "logical":
            return dict(bundle)
        here = {**subject, "reference": patient_reference_on_server(exchange, subject)}
        return {**bundle, "entry": [_with_subject(entry, here) for entry in bundle["entry"]]}


def _transact(exchange: Exchange, bundle: Json) -> tuple[str, ...]:
    """Post the transaction and return the locations; an answer that is not clearly a success is an error."""
    asked = "the report transaction"
    answer = exchange.json(exchange.send("POST", "", bundle, asked), asked)
    responses = [entry.get("response", {}) for entry in answer.get("entry", [])]
    for response, entry in zip(responses, bundle["entry"], strict=False):
        _check_entry(exchange, response, entry["resource"]["resourceType"])
    if len(responses) != len(bundle["entry"]):
        raise DeliveryRefused(
            f"The FHIR server answered the transaction of {len(bundle['entry'])} entries with {len(responses)}; "
            "look in the EHR what it stored, then retry the delivery, which is safe."
        )
    return tuple(response["location"] for response in responses if "location" in response)


def _check_entry(exchange: Exchange, response: Json, kind: str) -> None:
    status = str(response.get("status", ""))[:3]
    if status.startswith("2"):
        return
    text = outcome_text(response.get("outcome"), exchange.secrets)
    said = f"The FHIR server answered {status or 'nothing'} for the {kind} in the transaction{text and f': {text}'}."
    raise error_for_status(int(status) if status.isdecimal() else 400, said)


def _subject(bundle: Mapping[str, Any]) -> Json:
    subjects = (e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    subject: Json = next(subjects)["subject"]
    return subject


def _with_subject(entry: Json, subject: Json) -> Json:
    resource = entry["resource"]
    return {**entry, "resource": {**resource, "subject": subject}} if "subject" in resource else entry


def _secrets(subject: Json) -> tuple[str, ...]:
    """Return the texts that name the patient; single words of the name too, for servers quote as they like."""
    name = subject.get("display", "")
    number = subject.get("identifier", {}).get("value", "")
    words = [word for word in name.split() if len(word) > 2]
    return tuple(text for text in (number, name, *words) if text)


# --- for servers without transactions --------------------------------------------------------------------------------
#
# Not all or nothing: a failure in between leaves the first entries. Sending the bundle again finds them and goes on.


def send_one_by_one(exchange: Exchange, bundle: Json) -> tuple[str, ...]:
    """Write every entry and return where each lies. Raises `DeliveryDeferred` or `DeliveryRefused`."""
    places: dict[str, str] = {}
    for entry in bundle["entry"]:
        resource = _with_places(entry["resource"], places)
        places[entry["fullUrl"]] = _write(exchange, resource, entry["request"])
    return tuple(places.values())


def _write(exchange: Exchange, resource: Json, request: Json) -> str:
    kind = resource["resourceType"]
    path, _, condition = request["url"].partition("?")
    if "/" in path:
        exchange.send("PUT", path, resource, f"an update of {kind}")
        return str(path)
    query = condition or request["ifNoneExist"]
    found = _at_most_one(exchange, kind, query)
    if found is None:
        return _created(exchange, resource, query)
    if request["method"] == "PUT":
        exchange.send("PUT", f"{kind}/{found}", {**resource, "id": found}, f"an update of {kind}")
    return f"{kind}/{found}"


def _at_most_one(exchange: Exchange, kind: str, query: str) -> str | None:
    found = find(exchange, kind, query)
    if len(found) > 1:
        raise DeliveryRefused(
            f"The FHIR server has {len(found)} resources of type {kind} with one identifier ({query}); "
            "remove all but one, then retry the delivery."
        )
    return str(found[0]["id"]) if found else None


def _created(exchange: Exchange, resource: Json, query: str) -> str:
    """Create it; the condition goes along as well, for another sender may have been faster."""
    kind = resource["resourceType"]
    asked = f"the creation of {kind}"
    answer = exchange.send("POST", kind, resource, asked, query)
    location = re.search(rf"({kind}/[A-Za-z0-9\-.]+)", answer.headers.get("Location", ""))
    return location.group(1) if location else f"{kind}/{exchange.json(answer, asked)['id']}"


def _with_places(node: Any, places: dict[str, str]) -> Any:
    """Put the server's own references in the place of those inside the bundle."""
    if isinstance(node, dict):
        return {
            key: places.get(value, value) if key == "reference" else _with_places(value, places)
            for key, value in node.items()
        }
    return [_with_places(item, places) for item in node] if isinstance(node, list) else node
