"""Deliver a report to an EHR: find the patient, look what is there, post it whole or one by one, judge the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from dicom_node.core.errors import SettingsError
from dicom_node.fhir.builders.retraction import is_retraction
from dicom_node.fhir.client.answers import ConditionNotMet, NotOffered
from dicom_node.fhir.client.capabilities import ServerCapabilities, read_capabilities
from dicom_node.fhir.client.exchange import Exchange, elements_of, hide_queries_in_logs
from dicom_node.fhir.client.imaging_study import list_in_study
from dicom_node.fhir.client.patient import patient_reference_on_server, without_demographics
from dicom_node.fhir.client.reading import Etags
from dicom_node.fhir.client.reconciliation import Reconciled, reconcile_with_server, report_entry, search_of
from dicom_node.fhir.client.retraction import reconcile_retraction
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.client.writing import Written, transact, write_one_by_one
from dicom_node.fhir.json_types import Json

#: Looks in one attempt, when what was looked at changes before it is written.
_MOST_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where the resources lie now. `superseded`: a report of a later run was there already and has been left.

    `remark` tells of what stands beside the report and could not be written.
    """

    locations: tuple[str, ...]
    superseded: bool = False
    remark: str = ""


class FhirClient:
    """Sends report bundles to one FHIR R4 server; safe to use from several threads, and to send anything twice.

    Besides writing the bundle's resources it reads Patient (unless `patient` is ``logical``), DiagnosticReport and
    Observation, which the account it uses must be allowed to, and looks for the others where it may. `timeout_s` is
    the time limit of a whole `send`.

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
        # As httpx writes it (host in lower case, no default port), which is how links of the server are compared.
        self._base_url = str(url).rstrip("/")
        self._patient = patient
        self._capabilities: ServerCapabilities | None = None
        self._timeout_s = timeout_s
        self._etags = Etags()
        # Some servers answer a search of the last minute again from a cache, and so do proxies: what was just written
        # would not be seen.
        headers = {"Accept": "application/fhir+json", "Cache-Control": "no-cache"}
        self._http = httpx.Client(auth=auth, headers=headers, follow_redirects=False)

    def send(self, bundle: Mapping[str, Any]) -> Delivered:
        """Deliver a bundle of `build_bundle`, or take back what was delivered by one of `retraction_bundle`.

        Raises `DeliveryDeferred` (network, time, 408, 409, 425, 429, 5xx), `CredentialsRefused` (401, 403) or
        `DeliveryRefused` (everything a person must look at: no or several Patients, a report already finalised, any
        other 4xx); none names the patient.
        """
        exchange = Exchange(
            self._http,
            self._base_url,
            time.monotonic() + self._timeout_s,
            frozenset(elements_of(bundle)) | {"Bundle"},
            self._etags,
        )
        if is_retraction(dict(bundle)):
            return _retract(exchange, dict(bundle))
        capabilities = self._read_capabilities(exchange)
        wire = self._for_this_server(exchange, bundle)
        for look in range(1, _MOST_LOOKS + 1):
            reconciled = reconcile_with_server(exchange, wire)
            if reconciled.newer:
                return Delivered((reconciled.newer,), superseded=True)
            try:
                written = self._write(exchange, wire, reconciled, capabilities)
                return Delivered(_places(wire, reconciled, written), remark=list_in_study(exchange, wire))
            except ConditionNotMet:
                if look == _MOST_LOOKS:
                    raise
        raise AssertionError("the last look returns or raises")

    def has(self, bundle: Mapping[str, Any]) -> bool:
        """Tell whether the server finds the report of a bundle by its identifier, whatever its status.

        Raises `DeliveryDeferred`, `CredentialsRefused` or `DeliveryRefused` where it does not answer the search.
        """
        ends_at = time.monotonic() + self._timeout_s
        exchange = Exchange(self._http, self._base_url, ends_at, frozenset({"Bundle"}), self._etags)
        return bool(find(exchange, "DiagnosticReport", search_of(report_entry(dict(bundle)))))

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

    def _write(
        self, exchange: Exchange, wire: Json, reconciled: Reconciled, capabilities: ServerCapabilities
    ) -> Mapping[str, Written]:
        if not capabilities.transactions:
            return write_one_by_one(exchange, reconciled)
        try:
            return transact(exchange, wire, reconciled)
        except NotOffered:
            # Its CapabilityStatement says otherwise, or nothing; remembered for the bundles that follow.
            self._capabilities = ServerCapabilities(transactions=False)
            return write_one_by_one(exchange, reconciled)

    def _for_this_server(self, exchange: Exchange, bundle: Mapping[str, Any]) -> Json:
        """Return the bundle with the server's own Patient as subject; the stored bundle stays as it is."""
        subject: Json = report_entry(dict(bundle))["resource"]["subject"]
        here = without_demographics(subject)
        if self._patient == "match":
            here["reference"] = patient_reference_on_server(exchange, subject)
        return {**bundle, "entry": [_with_subject(entry, here) for entry in bundle["entry"]]}


def _retract(exchange: Exchange, bundle: Json) -> Delivered:
    """Take back what is there, the report first: not all or nothing, and sending it again finishes it."""
    for look in range(1, _MOST_LOOKS + 1):
        reconciled = reconcile_retraction(exchange, bundle)
        try:
            written = write_one_by_one(exchange, reconciled)
            return Delivered(tuple(one.place for one in written.values()))
        except ConditionNotMet:
            if look == _MOST_LOOKS:
                raise
    raise AssertionError("the last look returns or raises")


def _places(wire: Json, reconciled: Reconciled, written: Mapping[str, Written]) -> tuple[str, ...]:
    """Return where everything lies now, in the order of the bundle, as far as the server says."""
    urls = dict.fromkeys(entry["fullUrl"] for entry in [*wire["entry"], *reconciled.entries])
    places = (
        written[url].place if url in written else reconciled.references.get(url, {}).get("reference") for url in urls
    )
    return tuple(place for place in places if place)


def _with_subject(entry: Json, subject: Json) -> Json:
    resource = entry["resource"]
    return {**entry, "resource": {**resource, "subject": subject}} if "subject" in resource else entry
