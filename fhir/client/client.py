"""Deliver a report to an EHR: find the patient, look what is there, post it whole or one by one, judge the answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.calls.requests import name_request
from dicom_node.core.errors import DeliveryDeferred, SettingsError
from dicom_node.fhir.adaptation import adapted
from dicom_node.fhir.builders.retraction import is_retraction
from dicom_node.fhir.client.answers import NOT_FOR_US, ConditionNotMet, NotOffered
from dicom_node.fhir.client.capabilities import (
    CREATED,
    BriefMemory,
    ServerCapabilities,
    ServerMemory,
    known_capabilities,
)
from dicom_node.fhir.client.document import send_document, supersede_document, withdraw_document
from dicom_node.fhir.client.exchange import (
    CONDITIONAL_CREATE,
    TRANSACTION,
    Exchange,
    RefusedOperations,
    elements_of,
    hide_queries_in_logs,
)
from dicom_node.fhir.client.imaging_study import list_in_study
from dicom_node.fhir.client.order import with_order
from dicom_node.fhir.client.patient import patient_reference_on_server, without_demographics
from dicom_node.fhir.client.reading import Etags
from dicom_node.fhir.client.reconciliation import (
    Reconciled,
    reconcile_with_server,
    replaces_what_is_not_there,
    report_entry,
)
from dicom_node.fhir.client.reports import FoundReport, SoughtStudy, reports_on
from dicom_node.fhir.client.retraction import is_settled, reconcile_retraction, take_back_observations
from dicom_node.fhir.client.writing import Written, transact, write_one_by_one
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.options import FhirProfile

#: Looks in one attempt, when what was looked at changes before it is written.
_MOST_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where the resources lie now. `superseded`: a report of a later run was there already and has been left.

    `remark` tells of what stands beside the report and could not be written, or in which other shape it went.
    """

    locations: tuple[str, ...]
    superseded: bool = False
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a receiver wants its reports, and what keeps what is known of it; `None`: the client itself.

    `patient` is ``match`` (find exactly one Patient by identifier) or ``logical`` (leave the reference by identifier
    as it is).
    """

    patient: Literal["match", "logical"] = "match"
    profile: FhirProfile = field(default_factory=FhirProfile)
    memory: ServerMemory | None = None


_AS_IT_IS = Fit()


class FhirClient:
    """Sends report bundles to one FHIR R4 server; safe to use from several threads, and to send anything twice.

    Besides writing the bundle's resources it reads Patient (unless `fit.patient` is ``logical``), DiagnosticReport and
    Observation, which the account it uses must be allowed to, and looks for the others where it may. `timeout_s` is
    the time limit of a whole `send`.

    `verify` is what httpx takes: whom to trust, and what to show over TLS. Redirects are never followed, so
    credentials go to no other host. Raises `SettingsError` for an address that cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        auth: httpx.Auth | None = None,
        timeout_s: float = 60.0,
        fit: Fit = _AS_IT_IS,
        verify: ssl.SSLContext | bool = True,
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
        self._patient = fit.patient
        self._profile = fit.profile
        self._memory = fit.memory or BriefMemory()
        self._timeout_s = timeout_s
        self._etags = Etags()
        # Some servers answer a search of the last minute again from a cache, and so do proxies: what was just written
        # would not be seen.
        headers = {"Accept": "application/fhir+json", "Cache-Control": "no-cache"}
        headers |= fit.profile.headers
        hooks = {"request": [name_request]}
        self._http = httpx.Client(auth=auth, headers=headers, verify=verify, follow_redirects=False, event_hooks=hooks)
        self._cutoff = Cutoff(self._http)

    def send(self, bundle: Mapping[str, Any]) -> Delivered:
        """Deliver a bundle of `build_bundle`, or take back what was delivered by one of `retraction_bundle`.

        Raises `DeliveryDeferred` (network, time, 408, 409, 425, 429, 5xx), `CredentialsRefused` (401, 403) or
        `DeliveryRefused` (everything a person must look at: no or several Patients, a report already finalised, any
        other 4xx); none names the patient.
        """
        exchange, capabilities = self._opened(bundle)
        try:
            return self._sent(exchange, capabilities, dict(bundle))
        except DeliveryDeferred as error:
            error.may_have_arrived = bool(exchange.written)
            raise

    def _sent(self, exchange: Exchange, capabilities: ServerCapabilities, bundle: Json) -> Delivered:
        documents_only = self._profile.as_document or capabilities.takes_documents_only
        if is_retraction(bundle):
            return _retried(partial(_retract, exchange, bundle, documents_only=documents_only))
        wire, unsent = self._adapted(bundle, capabilities)
        wire = self._for_this_server(exchange, wire)
        if documents_only:
            return _retried(partial(_send_document, exchange, wire))
        try:
            return _retried(partial(_send_report, exchange, wire, capabilities, unsent))
        except NotOffered as error:
            return _as_document_instead(exchange, wire, error)

    def has(self, bundle: Mapping[str, Any]) -> bool:
        """Tell whether the server finds what a bundle brought, as a report or as a document (`is_settled`).

        Raises `DeliveryDeferred`, `CredentialsRefused` or `DeliveryRefused` where it does not answer the search.
        """
        exchange, capabilities = self._opened(bundle)
        documents_only = self._profile.as_document or capabilities.takes_documents_only
        kinds = [] if documents_only else ["DiagnosticReport"]
        kinds += ["DocumentReference"] if capabilities.creates("DocumentReference") else []
        return is_settled(exchange, dict(bundle), kinds)

    def reports_on(self, study: SoughtStudy) -> list[FoundReport]:
        """Return what people have written of a study. Raises as `has` does."""
        exchange, _ = self._opened({})
        return reports_on(exchange, study)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self, bundle: Mapping[str, Any]) -> tuple[Exchange, ServerCapabilities]:
        """Return the exchange of one attempt, and what may be counted on in it."""
        elements = frozenset(elements_of(bundle)) | {"Bundle", "DocumentReference"}
        exchange = Exchange(
            self._http, self._cutoff, self._base_url, time.monotonic() + self._timeout_s, elements, self._etags
        )
        known = known_capabilities(exchange, self._memory)
        unconditional = frozenset() if known.creates_conditionally else frozenset({CONDITIONAL_CREATE})
        chosen = frozenset(kind for kind in CREATED if known.creates_by_update(kind))
        refusals = RefusedOperations(known.refused | unconditional, self._memory.note_refusal)
        return replace(exchange, refusals=refusals, chosen_ids=chosen), known

    def _adapted(self, bundle: Json, capabilities: ServerCapabilities) -> tuple[Json, frozenset[str]]:
        """Return the bundle as this server takes it, and of which types it is only to be read.

        The Provenance tells what the report replaces, also where the server does not get it.
        """
        drop, is_told = self._profile.drop, capabilities.creates("Provenance")
        unsent = frozenset({"Provenance"}) if "Provenance" in drop or not is_told else frozenset()
        profile = replace(self._profile, drop=drop - unsent)
        return adapted(bundle, profile, lambda kind: kind in unsent or capabilities.creates(kind)), unsent

    def _for_this_server(self, exchange: Exchange, bundle: Mapping[str, Any]) -> Json:
        """Return the bundle with the server's own Patient and order; the stored bundle stays as it is."""
        subject: Json = report_entry(dict(bundle))["resource"]["subject"]
        here = without_demographics(subject)
        if self._patient == "match":
            here["reference"] = patient_reference_on_server(exchange, subject)
        wire = {**bundle, "entry": [_with_subject(entry, here) for entry in bundle["entry"]]}
        return with_order(exchange, wire, here["reference"]) if "reference" in here else wire


def _retried(attempt: Callable[[], Delivered]) -> Delivered:
    """Look and write once more where what was looked at has changed before it was written."""
    for look in range(1, _MOST_LOOKS + 1):
        try:
            return attempt()
        except ConditionNotMet:
            if look == _MOST_LOOKS:
                raise
    raise AssertionError("the last look returns or raises")


def _send_report(exchange: Exchange, wire: Json, capabilities: ServerCapabilities, unsent: frozenset[str]) -> Delivered:
    reconciled = reconcile_with_server(exchange, wire, unsent)
    if reconciled.newer:
        return Delivered((reconciled.newer,), superseded=True)
    written = _write(exchange, wire, reconciled, capabilities)
    if replaces_what_is_not_there(wire, reconciled):
        supersede_document(exchange, wire)
    return Delivered(_places(wire, reconciled, written), remark=list_in_study(exchange, wire))


def _write(
    exchange: Exchange, wire: Json, reconciled: Reconciled, capabilities: ServerCapabilities
) -> Mapping[str, Written]:
    if not capabilities.takes_transactions or TRANSACTION in exchange.refusals:
        return write_one_by_one(exchange, reconciled)
    try:
        return transact(exchange, wire, reconciled)
    except NotOffered:
        # Its CapabilityStatement says otherwise, or nothing; remembered for the bundles that follow.
        written = write_one_by_one(exchange, reconciled)
        exchange.refusals.note(TRANSACTION)
        return written


def _send_document(exchange: Exchange, wire: Json) -> Delivered:
    where, is_newer = send_document(exchange, wire)
    return Delivered((where,), superseded=is_newer, remark="as a document, since it takes no reports")


def _as_document_instead(exchange: Exchange, wire: Json, refusal: NotOffered) -> Delivered:
    """Bring the document where the server takes no report after all; where it takes neither, `refusal` is raised.

    What an attempt one by one has left of the report is taken back first: nothing would follow it up.
    """
    try:
        delivered = _retried(partial(_send_document, exchange, wire))
    except NotOffered:
        raise refusal from None
    exchange.refusals.note("DiagnosticReport.create")
    take_back_observations(exchange, wire)
    return delivered


def _retract(exchange: Exchange, bundle: Json, *, documents_only: bool) -> Delivered:
    """Take back the report, and the document that stood for it while the server took no reports."""
    if documents_only:
        return Delivered(tuple(withdraw_document(exchange, bundle)))
    try:
        written = write_one_by_one(exchange, reconcile_retraction(exchange, bundle))
    except NotOffered as refusal:
        places = withdraw_document(exchange, bundle)
        if not places:
            raise refusal from None
        return Delivered(tuple(places))
    places = [one.place for one in written.values()]
    with suppress(*NOT_FOR_US):  # not offered, or not to this account: then none was brought
        places += withdraw_document(exchange, bundle)
    return Delivered(tuple(places))


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
