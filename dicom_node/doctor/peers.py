"""Every destination: does it answer, and will it take what the node sends?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import httpx

from dicom_node.config.outgoing import DestinationSettings
from dicom_node.config.settings import Settings
from dicom_node.core.artifact_kinds import REPORTS, RESULT_CLASSES
from dicom_node.core.capability_match import PeerCapabilities, in_words, match_capabilities
from dicom_node.core.errors import DeliveryError, NotFound, RetrieveError
from dicom_node.deliver.factory import remote_of
from dicom_node.deliver.profiles import Profiles, profiles_of
from dicom_node.doctor.check import TIMEOUT_S, Check, current_user, echo, existing_part, why_not_writable
from dicom_node.retrieve.factory import make_sources
from dicom_node.retrieve.source import Source, StudyQuery

_AUTHENTICATE = (401, 403)


def check_destinations(settings: Settings) -> list[Check]:
    """One check per destination; none configured is a finding too, for results then go nowhere."""
    if not settings.destination:
        advice = "Add a [[destination]]; until then results are only on the node's own page."
        return [Check("destinations", False, "none is configured", advice)]
    profiles = profiles_of(settings)
    kinds = {"dicomweb": _check_dicomweb, "fhir": _check_fhir, "folder": _check_folder}
    return [
        _check_dicom(one, settings, profiles) if one.kind == "dicom" else _told(kinds[one.kind](one), one, profiles)
        for one in settings.destination
    ]


def _check_dicom(destination: DestinationSettings, settings: Settings, profiles: Profiles) -> Check:
    """Ask for every class of result; what the settings want and the peer does not take is for a person to settle."""
    name = f"destination {destination.name}"
    try:
        remote = remote_of(destination, settings.node.ae_title, TIMEOUT_S, settings.dicom_tls)
        answer = echo(remote, RESULT_CLASSES)
    except DeliveryError as error:
        advice = f"Check ae_title, host and port, and that it knows AE title {settings.node.ae_title} of this machine."
        return Check(name, False, str(error), advice)
    fitted = match_capabilities(profiles.by_name[destination.name].wanted, PeerCapabilities(accepted=answer.accepted))
    takes = ", ".join(kind for uid, kind in RESULT_CLASSES.items() if uid in answer.accepted) or "no result at all"
    gets = ", ".join(in_words(fitted.outputs))
    text = f"{destination.ae_title} ({answer.implementation}) answers; takes {takes}; gets {gets}"
    lacking = [one for one in fitted.left_out if not one.startswith("takes no SR comprehensive")]
    if fitted.problem:
        return Check(name, False, f"{text}; {fitted.problem}", _advice_on_reports(answer.accepted))
    if lacking:
        advice = "Let the PACS accept that, or turn it off in outputs of this destination."
        return Check(name, False, f"{text}; {'; '.join(lacking)}", advice)
    return Check(name, True, text)


def _advice_on_reports(accepted: Collection[str]) -> str:
    if any(uid in accepted for uid in REPORTS.values()):
        return 'Set sr_sop_class = "auto" in outputs of this destination, or let the PACS accept that class.'
    return "Let the PACS accept structured reports and secondary captures."


def _told(check: Check, destination: DestinationSettings, profiles: Profiles) -> Check:
    """Add what it gets; it is not asked what it takes."""
    if not check.ok or destination.kind == "fhir":
        return check
    fitted = match_capabilities(profiles.by_name[destination.name].wanted, PeerCapabilities())
    return replace(check, text=f"{check.text}; gets {', '.join(in_words(fitted.outputs))}")


def _check_dicomweb(destination: DestinationSettings) -> Check:
    name = f"destination {destination.name}"
    headers = {"Accept": "application/dicom+json"}
    try:
        response = _get(destination, "studies?limit=1", headers)
    except httpx.HTTPError as error:
        return _unreachable(name, destination, error)
    if response.status_code not in {200, 204}:
        return _unwilling(name, destination, response, "url must be the DICOMweb root, the part before /studies")
    return Check(name, True, f"{destination.url} answers QIDO-RS")


def _check_fhir(destination: DestinationSettings) -> Check:
    name = f"destination {destination.name}"
    headers = {"Accept": "application/fhir+json"}
    try:
        response = _get(destination, "metadata", headers)
        # Most servers show /metadata to anybody, so the credentials are tried on a search that finds nothing.
        search = _get(destination, "DiagnosticReport?identifier=urn:dicom-node:doctor%7Cnone&_count=1", headers)
    except httpx.HTTPError as error:
        return _unreachable(name, destination, error)
    try:
        statement = response.raise_for_status().json()
        version = str(statement["fhirVersion"])
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        return _unwilling(name, destination, response, "url must be the FHIR base, the part before /metadata")
    if not version.startswith("4.0"):
        return Check(name, False, f"{destination.url} speaks FHIR {version}", "Use its R4 (4.0.1) address.")
    if search.status_code in _AUTHENTICATE:
        return _unwilling(name, destination, search, "")
    return Check(name, True, f"{destination.url} speaks FHIR {version}{_how_sent(statement)}")


def _how_sent(statement: dict[str, object]) -> str:
    rest = statement.get("rest")
    interactions = list(_system_interactions(rest if isinstance(rest, list) else ()))
    return ", without transactions: sent one by one" if interactions and "transaction" not in interactions else ""


def _check_folder(destination: DestinationSettings) -> Check:
    name, folder = f"destination {destination.name}", destination.path or Path()
    existing = existing_part(folder)
    reason = why_not_writable(existing)
    if reason:
        advice = f"Give the user {current_user()} the right to write there, or correct path."
        return Check(name, False, f"{existing} cannot be written ({reason})", advice)
    return Check(name, True, f"{folder} can be written")


def _get(destination: DestinationSettings, path: str, headers: dict[str, str]) -> httpx.Response:
    auth = None
    if destination.token is not None:
        headers = {**headers, "Authorization": f"Bearer {destination.token.get_secret_value()}"}
    elif destination.username and destination.password is not None:
        auth = httpx.BasicAuth(destination.username, destination.password.get_secret_value())
    address = f"{destination.url.rstrip('/')}/{path}"
    return httpx.get(address, headers=headers, auth=auth, timeout=TIMEOUT_S, follow_redirects=False)


def _unreachable(name: str, destination: DestinationSettings, error: httpx.HTTPError) -> Check:
    return Check(name, False, f"{destination.url} cannot be reached ({error})", "Check url, firewall and certificate.")


def _unwilling(name: str, destination: DestinationSettings, response: httpx.Response, otherwise: str) -> Check:
    refused = response.status_code in _AUTHENTICATE
    advice = "Check token, or username and password." if refused else f"Check the address: {otherwise}."
    return Check(name, False, f"{destination.url} answers HTTP {response.status_code}", advice)


def _system_interactions(rest: Iterable[object]) -> Iterable[str]:
    for part in rest:
        if isinstance(part, dict):
            yield from (str(one.get("code")) for one in part.get("interaction", ()))


# --- Every source: does it answer a query? ---------------------------------------------------------------------------

#: An order that no PACS has; what matters is that it says so.
_NO_ORDER = StudyQuery(accession_number="DICOM-NODE-TEST")
_ADVICE = "Check the settings of this [[source]], and that the PACS allows this node to query and to retrieve."


def check_sources(settings: Settings) -> list[Check]:
    """One check per source; none is no fault, for studies may all be sent."""
    return [_check(source) for source in make_sources(settings).values()]


def _check(source: Source) -> Check:
    name = f"source {source.name}"
    try:
        source.find_studies(_NO_ORDER, 1)
    except (NotFound, RetrieveError) as error:
        return Check(name, False, str(error), _ADVICE)
    return Check(name, True, f"{source.host} answers queries")
