"""HTTP to a configured PACS: no redirects, bounded answers, one sentence for whatever goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from dicom_node.core.errors import NotFound, SourceFault, SourceRefused, SourceUnavailable, fault_told, tls_fault_told

JSON_CAP_BYTES = 64 << 20
_PASSING_STATUSES = {408, 425, 429}
_ADVICE = {
    401: "Check token, username and password of this source.",
    403: "Allow this node to read there.",
    407: "Check the proxy.",
}


@dataclass(frozen=True, slots=True)
class Web:
    """One PACS behind one client. `told` is its address as messages name it, without what may be secret in it."""

    client: httpx.Client
    told: str
    json_type: str = "application/dicom+json"

    @contextmanager
    def stream(self, url: str, accept: str, **asked: Any) -> Iterator[httpx.Response]:
        """Open a GET, or with `json` a POST, whose answer is read piece by piece; `params` go into the address.

        Raises `NotFound` (404), `SourceUnavailable` (no answer, or `SourceFault`), `SourceRefused` (all other).
        """
        # Identity: a small compressed body could unfold to more than the machine holds.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        request = self.client.build_request("POST" if "json" in asked else "GET", url, headers=headers, **asked)
        with self._told():
            response = self.client.send(request, stream=True)
        try:
            self._check(response)
            yield response
        finally:
            response.close()

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """Yield the body as it comes; only what reading it raises is the PACS's fault, not what its user raises."""
        chunks = response.iter_raw()
        while True:
            with self._told():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def json(self, url: str, **asked: Any) -> list[Any]:
        """Return a JSON list; an empty one where there is no content. Raises as `stream` does."""
        with self.stream(url, self.json_type, **asked) as response:
            if response.status_code == 204:
                return []
            body = bytearray()
            for piece in self.pieces(response):
                body += piece
                if len(body) > JSON_CAP_BYTES:
                    raise SourceUnavailable(f"{self.told} answered with more than {JSON_CAP_BYTES} bytes of JSON.")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise SourceUnavailable(f"{self.told} answered with something that is not JSON. Check url.") from error
        if not isinstance(answer, list):
            raise SourceUnavailable(f"{self.told} did not answer with a list. Check url.")
        return answer

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        told = f"{self.told} answered HTTP {status}."
        if response.is_redirect:
            raise SourceRefused(f"{told} Redirects are not followed: set url of this source to the final address.")
        if status == 404:
            raise NotFound(f"{told} There is nothing: check url of this source and the UIDs asked for.")
        if response.is_client_error and status not in _PASSING_STATUSES:
            raise SourceRefused(f"{told} {_ADVICE.get(status, 'Its log may say why.')}")
        if not response.is_success:
            raise SourceFault(f"{told} Its log may say why; ask again later.")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceRefused(f"{self.told} compresses its answers though asked not to. Turn that off for this node.")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise SourceUnavailable(f"{self.told} fell silent. Ask again later.") from error
        except (httpx.RequestError, UnicodeError) as error:  # the second: a host with an empty or endless part
            if told := tls_fault_told(error):
                raise SourceUnavailable(f"{self.told} {told}.") from error
            why = fault_told(error)
            raise SourceUnavailable(f"{self.told} cannot be reached or broke off: {why}. Check url.") from error
