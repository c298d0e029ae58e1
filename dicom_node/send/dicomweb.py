"""Deliver objects to a web PACS by STOW-RS: one instance per request, so that each has an answer of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from dicom_node.errors import DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.send.outgoing import Outgoing, Sent
from dicom_node.send.statuses import note_of
from dicom_node.send.stow_response import error_in, failure_reason

_BLOCK_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class DicomWebSender:
    """A STOW-RS user; `base_url` is where ``/studies`` begins, `timeout_s` bounds each wait for the server."""

    base_url: str
    auth: httpx.Auth | None
    timeout_s: float

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order. When the server cannot be reached, the object at hand and all that remain are deferred."""
        with httpx.Client(auth=self.auth, timeout=self.timeout_s) as client:
            for position, item in enumerate(items):
                try:
                    yield self._store(client, item)
                except httpx.RequestError as error:
                    lost = self._lost(error)
                    yield from (Sent(left.artifact.uid, lost, "") for left in items[position:])
                    return

    @property
    def _receiver(self) -> str:
        """The address for messages, without what may be secret in it."""
        return str(httpx.URL(self.base_url).copy_with(userinfo=b"", query=None))

    def _store(self, client: httpx.Client, item: Outgoing) -> Sent:
        uid = item.artifact.uid
        try:
            response = client.send(self._request(client, item.path))
        except OSError as error:
            return Sent(uid, DeliveryRefused(f"The bytes of {uid} cannot be read: {error.strerror}."), "")
        error_found: DeliveryError | None = error_in(response, uid, self._receiver, item.artifact.kind)
        note = "" if error_found else note_of(failure_reason(response, uid) or 0)
        return Sent(uid, error_found, note)

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
        body = _streamed(head, path, tail)
        return client.build_request("POST", f"{self.base_url.rstrip('/')}/studies", headers=headers, content=body)

    def _lost(self, error: httpx.RequestError) -> DeliveryDeferred:
        why = f"no answer for {self.timeout_s:g} s" if isinstance(error, httpx.TimeoutException) else str(error)
        return DeliveryDeferred(f"{self._receiver} cannot be reached: {why}. Tried again later; check url.")


def _streamed(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as stored:
        while block := stored.read(_BLOCK_BYTES):
            yield block
    yield tail
