"""Deliver objects to a web PACS by STOW-RS: one instance per request, so that each has an answer of its own.

What a server says of an instance is DICOM JSON (PS3.18 10.5.3, I.2).
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.calls.limits import retry_after_s
from dicom_node.core.calls.requests import name_request
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    fault_told,
    tls_fault_told,
)
from dicom_node.deliver.connections.web import LOGIN_REFUSED, AnswerTooLong, nobody_took_it, read_whole
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.dimse.statuses import error_of, note_of, warning_of

_BLOCK_BYTES = 1 << 17
_FAILED_SOP_SEQUENCE = "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON = "00081197"
_REFERENCED_SOP_SEQUENCE, _WARNING_REASON = "00081199", "00081196"

#: Client errors that pass by themselves; every other is parked until a person has changed something.
_PASSING_STATUSES = {408, 425, 429}
_ADVICE = {
    401: "Check token, username and password of this destination.",
    403: "Allow this node to store there.",
    404: "Check url of this destination: it must end where /studies begins. Then retry.",
    407: "Check the proxy, then retry.",
    413: "Raise the size limit of the server or its proxy, then retry.",
    415: "The server does not take this SOP class or transfer syntax.",
}


@dataclass(frozen=True, slots=True)
class DicomWebSender:
    """A STOW-RS user; `base_url` is where ``/studies`` begins. `timeout_s` bounds each wait for the server, and each of
    its answers as a whole."""

    base_url: str
    auth: httpx.Auth | None
    timeout_s: float
    verify: ssl.SSLContext | bool = True

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order. When the server cannot be reached, the object at hand and all that remain are deferred."""
        named = {"request": [name_request]}
        with httpx.Client(auth=self.auth, timeout=self.timeout_s, verify=self.verify, event_hooks=named) as client:
            cutoff = Cutoff(client)
            for position, item in enumerate(items):
                try:
                    with cutoff.of_answers(self.timeout_s):
                        sent = self._store(client, item)
                except (httpx.RequestError, UnicodeError, DeliveryDeferred) as error:  # the last: signing in
                    is_late = cutoff.is_over or isinstance(error, httpx.TimeoutException)
                    lost = error if isinstance(error, DeliveryDeferred) else self._lost(error, is_late=is_late)
                    yield from (Sent(left.artifact.uid, lost, "") for left in items[position:])
                    return
                yield sent

    @property
    def _receiver(self) -> str:
        """The address for messages, without what may be secret in it."""
        return str(httpx.URL(self.base_url).copy_with(userinfo=b"", query=None))

    def _store(self, client: httpx.Client, item: Outgoing) -> Sent:
        uid = item.artifact.uid
        try:
            response = self._answer(client, item)
        except OSError as error:
            return Sent(uid, DeliveryRefused(f"The bytes of {uid} cannot be read: {error.strerror}."), "")
        error_found: DeliveryError | None = error_in(response, uid, self._receiver, item.artifact.kind)
        if error_found:
            return Sent(uid, error_found, "")
        status = failure_reason(response, uid) or warning_reason(response, uid) or 0
        return Sent(uid, None, note_of(status), warning_of(status))

    def _answer(self, client: httpx.Client, item: Outgoing) -> httpx.Response:
        """Post one object and read what is answered. Raises `DeliveryDeferred` for an answer that does not end."""
        response = client.send(self._request(client, item.path), stream=True)
        try:
            return read_whole(response)
        except AnswerTooLong:
            raise DeliveryDeferred(f"{self._receiver} answers STOW-RS without an end. Tried again later.") from None
        finally:
            response.close()

    def _request(self, client: httpx.Client, path: Path) -> httpx.Request:
        """Build a multipart/related request (RFC 2387) that streams the file and tells its length beforehand."""
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
            "Accept": "application/dicom+json",
        }
        body = _Multipart(head, path, tail)
        return client.build_request("POST", f"{self.base_url.rstrip('/')}/studies", headers=headers, content=body)

    def _lost(self, error: httpx.RequestError | UnicodeError, *, is_late: bool) -> DeliveryDeferred:
        kind = DestinationAway if nobody_took_it(error) else DeliveryDeferred
        if told := tls_fault_told(error):
            return kind(f"{self._receiver} {told}. Tried again later.")
        why = f"no answer for {self.timeout_s:g} s" if is_late else fault_told(error)
        return kind(
            f"{self._receiver} cannot be reached: {why}. Tried again later; check url, network and certificates."
        )


@dataclass(frozen=True, slots=True)
class _Multipart:
    """A body that is read from its file each time it is sent: again, after another token was fetched."""

    head: bytes
    path: Path
    tail: bytes

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        with self.path.open("rb") as stored:
            while block := stored.read(_BLOCK_BYTES):
                yield block
        yield self.tail


def error_in(response: httpx.Response, sop_instance_uid: str, receiver: str, kind: str) -> DeliveryError | None:
    """Return why the instance was not stored, or `None` when it was.

    A reason given for the instance counts more than the HTTP status: servers answer 200 and 202 with failed
    instances, and 409 for what they already have.
    """
    reason = failure_reason(response, sop_instance_uid)
    if reason is not None:
        return error_of(reason, receiver, kind)
    if response.is_success:
        return None
    return _http_error(response, receiver)


def failure_reason(response: httpx.Response, sop_instance_uid: str) -> int | None:
    """Return the failure reason for an instance from a DICOM JSON answer, `None` if there is none."""
    for item in _sequence(response, _FAILED_SOP_SEQUENCE):
        reason = _first(item, _FAILURE_REASON)
        if _first(item, _REFERENCED_SOP_INSTANCE_UID) in {sop_instance_uid, None} and isinstance(reason, int):
            return reason
    return None


def warning_reason(response: httpx.Response, sop_instance_uid: str) -> int | None:
    """Return the warning with which an instance was stored (PS3.18 I.2.1), `None` if there is none."""
    for item in _sequence(response, _REFERENCED_SOP_SEQUENCE):
        reason = _first(item, _WARNING_REASON)
        if _first(item, _REFERENCED_SOP_INSTANCE_UID) in {sop_instance_uid, None} and isinstance(reason, int):
            return reason
    return None


def _http_error(response: httpx.Response, receiver: str) -> DeliveryError:
    status = response.status_code
    told = f"{receiver} answered HTTP {status} to STOW-RS."
    if response.is_redirect:
        return DeliveryRefused(f"{told} Redirects are not followed: set url of this destination to the final address.")
    if status in LOGIN_REFUSED:
        return CredentialsRefused(f"{told} {_ADVICE[status]}")
    if response.is_client_error and status not in _PASSING_STATUSES:
        return DeliveryRefused(f"{told} {_ADVICE.get(status, 'Look into its log, then retry.')}")
    return DeliveryDeferred(f"{told} Tried again later.", retry_after_s(response.headers.get("Retry-After", "")))


def _sequence(response: httpx.Response, tag: str) -> list[Mapping[str, object]]:
    """Return the items of a sequence in a DICOM JSON body; none if the body is something else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return []
    dataset = body[0] if isinstance(body, list) and body else body
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    items = element.get("Value") if isinstance(element, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _first(item: Mapping[str, object], tag: str) -> object:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
