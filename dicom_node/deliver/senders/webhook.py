"""Tell a web server of events, signed after the Standard Webhooks scheme (github.com/standard-webhooks, version 1).

The id of a message is the same at every attempt, so that a receiver knows a repetition; time and signature are of the
attempt, so that nobody can send an old message again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    DestinationBusy,
    fault_told,
)
from dicom_node.deliver.connections.web import nobody_took_it
from dicom_node.deliver.outgoing import OutgoingEvent, Sent

#: What is about the address or the login, and not about what was sent: nothing else would fare better.
_OF_THE_ADDRESS = {
    401: "Check secret, token, username and password of this destination.",
    403: "Allow this node to post there.",
    404: "Check url of this destination.",
    405: "The address takes no POST: check url of this destination.",
    407: "Check the proxy.",
    410: "The receiver is gone for good: correct url, or remove the destination.",
}
_PASSING_STATUSES = {408, 425, 429}
#: A gateway's words for a server that is not there (RFC 9110 15.6.3-15.6.5).
_AWAY = {502, 503, 504}


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """Posts events to `url`; one signature for each of `secrets`, `timeout_s` bounds each wait for the server, and
    all of an answer."""

    url: str
    secrets: tuple[bytes, ...]
    auth: httpx.Auth | None
    timeout_s: float
    verify: ssl.SSLContext | bool = True

    def send(self, items: Sequence[OutgoingEvent]) -> Iterator[Sent]:
        """Post in order. When the server cannot be reached, the event at hand and all that remain are deferred."""
        with self._client() as client:
            cutoff = Cutoff(client)
            for position, event in enumerate(items):
                try:
                    with cutoff.after(self.timeout_s):
                        status, wish = self._post(client, event)
                except (httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
                    lost = self._lost(error, is_late=cutoff.is_over or isinstance(error, httpx.TimeoutException))
                    yield from (Sent(left.id, lost, "") for left in items[position:])
                    return
                yield Sent(event.id, error_in(status, wish, self._receiver), f"HTTP {status}")

    def _client(self) -> httpx.Client:
        named = {"request": [name_request]}
        return httpx.Client(
            auth=self.auth, timeout=self.timeout_s, verify=self.verify, follow_redirects=False, event_hooks=named
        )

    def _post(self, client: httpx.Client, event: OutgoingEvent) -> tuple[int, float | None]:
        """Return status and wished wait; the body of the answer is not read, whatever its length."""
        body = event.body.encode()
        signed = signature_headers(event.id, int(time.time()), body, self.secrets)
        headers = {"Content-Type": "application/json", **signed}
        with client.stream("POST", self.url, content=body, headers=headers) as response:
            return response.status_code, retry_after_s(response.headers.get("Retry-After", ""))

    @property
    def _receiver(self) -> str:
        return shown(self.url)

    def _lost(self, error: httpx.RequestError | httpx.InvalidURL | UnicodeError, *, is_late: bool) -> DeliveryDeferred:
        why = f"no answer for {self.timeout_s:g} s" if is_late else fault_told(error)
        kind = (
            DestinationAway if not isinstance(error, httpx.InvalidURL) and nobody_took_it(error) else DeliveryDeferred
        )
        return kind(f"{self._receiver} cannot be reached: {why}. Tried again later; check url.")


def shown(url: str) -> str:
    """Return the address for messages, without what may be secret in it."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))


def signature_headers(event_id: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> Mapping[str, str]:
    """Return the headers by which a receiver verifies a message; `timestamp` is in seconds since 1970.

    Each signature is ``v1,`` and the base64 of HMAC-SHA256 over id, timestamp and body, joined by full stops; they are
    parted by blanks, so that a receiver with either secret of a rotation verifies one of them.
    """
    content = f"{event_id}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{one}" for one in made),
    }


def error_in(status: int, wish_s: float | None, receiver: str) -> DeliveryError | None:
    """Return why an event was not taken, `None` when it was; `wish_s` is the wait that the server asks for."""
    told = f"{receiver} answered HTTP {status}."
    if 200 <= status < 300:
        return None
    if status in _OF_THE_ADDRESS:
        return CredentialsRefused(f"{told} {_OF_THE_ADDRESS[status]}")
    if 300 <= status < 400:
        return CredentialsRefused(f"{told} Redirects are not followed: set url to the final address.")
    if 400 <= status < 500 and status not in _PASSING_STATUSES:
        return DeliveryRefused(f"{told} Look into its log, then: dicom-node retry --destination NAME")
    if wish_s is not None:
        return DestinationBusy(f"{told} It asks for {wish_s:g} s without requests.", wish_s)
    return (DestinationAway if status in _AWAY else DeliveryDeferred)(f"{told} Tried again later.")
