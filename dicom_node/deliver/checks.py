"""Does a destination answer, and will it take what the node sends? One function for each way to reach it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from dicom_node.config.peers import SmartWebPeer, WebPeer
from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    QueryNotOffered,
    fault_told,
    tls_fault_told,
)
from dicom_node.core.outputs.artifact_kinds import REPORTS, RESULT_CLASSES
from dicom_node.core.outputs.capability_match import PeerCapabilities, WantedOutputs, in_words, match_capabilities
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.connections.mllp import MllpConnection, MllpPeer
from dicom_node.deliver.connections.smart import SmartAuth
from dicom_node.deliver.connections.web import LOGIN_REFUSED, AnswerTooLong, authentication, read_whole, web_client
from dicom_node.deliver.kinds.kind import Answer, IdentityQuery
from dicom_node.deliver.senders.hl7 import judged
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.probe import echo, probe_peer
from dicom_node.fhir.client.capabilities import ServerCapabilities, offered_by
from dicom_node.fhir.hl7.grammar import read, value
from dicom_node.fhir.hl7.receiver import Receiver, trial_message
from dicom_node.storage.folder import existing_part, why_not_writable

#: An identifier that nobody has; what matters is that the search is allowed.
_NOBODY = "identifier=urn:dicom-node:doctor%7Cnone&_count=1"
#: Requests that cost a server little: a path and the media type asked for.
ONE_STUDY = ("studies?limit=1", "application/dicom+json")
NO_REPORT = (f"DiagnosticReport?{_NOBODY}", "application/fhir+json")
#: A study that nobody has.
_NO_STUDY = derived_uid("doctor", "no study")
#: A gateway's words for a server that is not there (RFC 9110 15.6.3-15.6.5).
_AWAY = frozenset({502, 503, 504})
#: Whoever answers later than this is not back yet.
_REACHED_WITHIN_S = 5.0


def check_dicom(remote: Remote, wanted: WantedOutputs) -> Answer:
    """Ask for every class of result; what the settings want and the peer does not take is for a person to settle."""
    try:
        answer = probe_peer(remote, with_echo=True)
    except DeliveryError as error:
        # What a line or a rejection raises is a sentence, and mostly another that says what to do about just this.
        told, _, advice = str(error).partition(". ")
        otherwise = f"Look into its log; it must know AE title {remote.calling_ae_title} of this machine."
        return Answer(False, f"{told.rstrip('.')}.", advice or otherwise)
    fitted = match_capabilities(wanted, PeerCapabilities(accepted=frozenset(answer.accepted)))
    takes = ", ".join(kind for uid, kind in RESULT_CLASSES.items() if uid in answer.accepted) or "no result at all"
    gets = ", ".join(in_words(fitted.outputs))
    told = f"{remote.called_ae_title} ({answer.implementation}) answers; takes {takes}; gets {gets}"
    lacking = [one for one in fitted.left_out if not one.startswith("takes no SR comprehensive")]
    if fitted.problem:
        return Answer(False, f"{told}; {fitted.problem}", _advice_on_reports(answer.accepted))
    if lacking:
        advice = "Let the PACS accept that, or turn it off in outputs of this destination."
        return Answer(False, f"{told}; {'; '.join(lacking)}", advice)
    return Answer(True, told)


def reach_dicom(remote: Remote) -> None:
    """C-ECHO; a peer that answers without taking that is there, too. Raises `DeliveryDeferred`."""
    with suppress(DeliveryRefused):
        echo(replace(remote, timeout_s=min(remote.timeout_s, _REACHED_WITHIN_S)))


def reach_web(peer: WebPeer, asked: tuple[str, str], timeout_s: float) -> None:
    """Ask a server for little; whatever it answers, it is there. Raises `DestinationAway` or `CredentialsRefused`."""
    try:
        response = _get(peer, *asked, min(timeout_s, _REACHED_WITHIN_S))
    except httpx.HTTPError as error:
        why = tls_fault_told(error) or f"cannot be reached ({type(error).__name__})"
        raise DestinationAway(f"{peer.url} {why}.") from error
    told = f"{peer.url} answered HTTP {response.status_code}."
    if response.status_code in LOGIN_REFUSED:
        raise CredentialsRefused(told)
    if response.status_code in _AWAY:
        raise DestinationAway(told)


def check_dicomweb(peer: WebPeer, timeout_s: float) -> Answer:
    """Search for one study by QIDO-RS."""
    try:
        response = _get(peer, *ONE_STUDY, timeout_s)
    except (httpx.HTTPError, DeliveryError) as error:
        return _unreachable(peer, error)
    if response.status_code not in {200, 204}:
        return _unwilling(peer, response, "url must be the DICOMweb root, the part before /studies")
    return Answer(True, f"{peer.url} answers QIDO-RS{_signed_in(peer)}")


def check_fhir(peer: WebPeer, timeout_s: float, *, finds_patients: bool) -> Answer:
    """Read the CapabilityStatement, and try the login on searches that find nothing.

    Most servers show ``/metadata`` to anybody, so that alone does not prove the login. Where the node must find the
    patients (`finds_patients`), the search for a Patient must be allowed as well.
    """
    searched = ["DiagnosticReport", *(["Patient"] if finds_patients else [])]
    try:
        response = _get(peer, "metadata", "application/fhir+json", timeout_s)
        searches = {kind: _get(peer, f"{kind}?{_NOBODY}", "application/fhir+json", timeout_s) for kind in searched}
    except (httpx.HTTPError, DeliveryError) as error:
        return _unreachable(peer, error)
    try:
        statement = response.raise_for_status().json()
        version = str(statement["fhirVersion"])
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, RecursionError):
        return _unwilling(peer, response, "url must be the FHIR base, the part before /metadata")
    if not version.startswith("4.0"):
        return Answer(False, f"{peer.url} speaks FHIR {version}", "Use its R4 (4.0.1) address.")
    for kind, search in searches.items():
        if search.status_code in LOGIN_REFUSED:
            advice = f"{_check_login(peer)}, and that the node may search {kind}."
            return Answer(False, f"{peer.url} answers HTTP {search.status_code} to a search for {kind}", advice)
    return Answer(True, f"{peer.url} speaks FHIR {version}{_how_sent(statement)}{_signed_in(peer)}")


def check_hl7(peer: MllpPeer, trial: tuple[str, Receiver] | None) -> Answer:
    """Connect; with `trial` (the node's AE title, and how the receiver takes results) send a message for training."""
    try:
        with MllpConnection(peer) as connection:
            if trial is None:
                if peer.tls is not None:
                    connection.await_refusal()
                return Answer(True, f"{peer} lets this node connect; no message was sent (send_test_message)")
            message = trial_message(*trial, datetime.now(UTC))
            control = str(value(read(message).segment("MSH"), 10))
            answer = connection.ask(message.encode())
            return Answer(True, f"{peer} answers: {judged(answer, control, peer)}")
    except DeliveryError as error:
        told, _, advice = str(error).partition(". ")
        return Answer(False, f"{told.rstrip('.')}.", advice or "Look into its log.")


def reach_hl7(peer: MllpPeer) -> None:
    """Connect; whoever does not let a certificate in is asked for that too. Raises `DeliveryDeferred`."""
    with MllpConnection(replace(peer, timeout_s=min(peer.timeout_s, _REACHED_WITHIN_S))) as connection:
        if peer.tls is not None:
            connection.await_refusal()


def check_webhook(peer: WebPeer, timeout_s: float) -> Answer:
    """HEAD: what is no POST a receiver may refuse, and is there all the same."""
    try:
        status = _head(peer, timeout_s)
    except (httpx.HTTPError, DeliveryError) as error:
        return Answer(False, f"{_without_query(peer)} cannot be reached ({fault_told(error)})",
                      "Check url, firewall and certificate.")  # fmt: skip
    told = f"{_without_query(peer)} answers HTTP {status}"
    if httpx.codes.is_redirect(status):
        return Answer(False, told, "Redirects are not followed: set url to the final address.")
    if status in {404, 410} or status in _AWAY:
        return Answer(False, told, "Check url, and whether the receiver runs.")
    return Answer(True, f"{told}; events are signed, none was sent")


def reach_webhook(peer: WebPeer, timeout_s: float) -> None:
    """Find out whether a receiver is there. Raises `DestinationAway`."""
    answer = check_webhook(peer, min(timeout_s, _REACHED_WITHIN_S))
    if not answer.ok:
        raise DestinationAway(f"{answer.text}. {answer.advice}")


def _head(peer: WebPeer, timeout_s: float) -> int:
    try:
        with web_client(peer, timeout_s) as client, Cutoff(client).after(timeout_s):
            return client.head(peer.url).status_code
    except (httpx.InvalidURL, UnicodeError) as error:
        raise httpx.UnsupportedProtocol(str(error)) from error


def _without_query(peer: WebPeer) -> str:
    return peer.url.partition("?")[0]


def check_folder(folder: Path) -> Answer:
    """Make and remove a file in it, or in the nearest folder above it that exists."""
    existing = existing_part(folder)
    reason = why_not_writable(existing)
    if reason:
        advice = "Give the user that the node runs as the right to write there, or correct path."
        return Answer(False, f"{existing} cannot be written ({reason})", advice)
    return Answer(True, f"{folder} can be written")


def with_gets(answer: Answer, wanted: WantedOutputs) -> Answer:
    """Add which objects a destination gets that is well and cannot be asked what it takes."""
    if not answer.ok:
        return answer
    fitted = match_capabilities(wanted, PeerCapabilities())
    return replace(answer, text=f"{answer.text}; gets {', '.join(in_words(fitted.outputs))}")


def with_identity(answer: Answer, query: IdentityQuery | None) -> Answer:
    """Add whether a destination that is well says whose study it has; a question that fails holds results up."""
    if not answer.ok or query is None:
        return answer
    try:
        query.whose(_NO_STUDY)
    except QueryNotOffered as error:
        return replace(answer, text=f"{answer.text}; cannot be asked whose study it has ({error})")
    except DeliveryError as error:
        advice = 'Let it answer this node\'s queries of studies, or set check_identity = "none" for this destination.'
        return Answer(False, f"{answer.text}; {error}", advice)
    return replace(answer, text=f"{answer.text}; says whose study it has")


def _advice_on_reports(accepted: Collection[str]) -> str:
    if any(uid in accepted for uid in REPORTS.values()):
        return 'Set sr_sop_class = "auto" in outputs of this destination, or let the PACS accept that class.'
    return "Let the PACS accept structured reports and secondary captures."


def _get(peer: WebPeer, path: str, accept: str, timeout_s: float) -> httpx.Response:
    address = f"{peer.url.rstrip('/')}/{path}"
    headers = {"Accept": accept, **peer.further_headers}
    try:
        with (
            web_client(peer, timeout_s) as client,
            Cutoff(client).after(timeout_s),
            client.stream("GET", address, headers=headers) as response,
        ):
            return read_whole(response)
    except AnswerTooLong:
        raise DestinationAway(f"{peer.url} answers without an end. Check url.") from None
    except (httpx.InvalidURL, UnicodeError) as error:  # a host that cannot be looked up, by its letters or length
        raise httpx.UnsupportedProtocol(str(error)) from error


def _unreachable(peer: WebPeer, error: httpx.HTTPError | DeliveryError) -> Answer:
    if isinstance(error, DeliveryError):  # the node's own files, or signing in
        told, _, advice = str(error).partition(". ")
        return Answer(False, told.rstrip("."), advice or "Look into the log of that server.")
    if told := tls_fault_told(error):
        what, _, advice = told.partition(". ")
        return Answer(False, f"{peer.url} {what}", f"{advice}.")
    return Answer(False, f"{peer.url} cannot be reached ({fault_told(error)})", "Check url, firewall and certificate.")


def _unwilling(peer: WebPeer, response: httpx.Response, otherwise: str) -> Answer:
    refused = response.status_code in LOGIN_REFUSED
    advice = f"{_check_login(peer)}." if refused else f"Check the address: {otherwise}."
    return Answer(False, f"{peer.url} answers HTTP {response.status_code}", advice)


def _check_login(peer: WebPeer) -> str:
    if isinstance(peer, SmartWebPeer) and peer.client_id:
        return f"Check what client {peer.client_id} may do there, and scopes"
    return "Check token, or username and password"


def _signed_in(peer: WebPeer) -> str:
    """Return where the node is signed in, and what was granted; nothing where it needs no token of an OAuth server."""
    auth = authentication(peer)
    return f"; signed in: {auth.told()}" if isinstance(auth, SmartAuth) else ""


def _how_sent(statement: object) -> str:
    known = ServerCapabilities(offered=offered_by(statement) if isinstance(statement, dict) else None)
    return f"; {'; '.join(known.in_words())}"
