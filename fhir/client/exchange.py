"""One conversation with a FHIR server: requests out, JSON back, every failure as one of our errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused, DestinationAway, tls_fault_told
from dicom_node.fhir.client.answers import HttpAnswer, failure
from dicom_node.fhir.client.reading import Etags
from dicom_node.fhir.json_types import Json, to_json_bytes

#: R4 as media type parameter, so that a server of several versions takes it for what it is (R4 http 3.1.0.1.11).
FHIR_JSON = "application/fhir+json; fhirVersion=4.0"
#: No answer to what the node asks is nearly as long.
LONGEST_ANSWER_BYTES = 16 << 20
#: An unknown search parameter must be an error, never ignored: everything would match.
_STRICT = {"Prefer": "handling=strict"}


#: What a server may be found not to do.
TRANSACTION = "transaction"
CONDITIONAL_CREATE = "If-None-Exist"
POSTED_SEARCH = "POST _search"


def hide_queries_in_logs() -> None:
    """Keep the query out of httpx's log lines: it logs every URL at INFO, and a search may name the patient."""
    logging.getLogger("httpx").addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    record.args = tuple(a.copy_with(query=None) if isinstance(a, httpx.URL) else a for a in arguments)
    return True


def elements_of(node: object) -> Iterator[str]:
    """Yield the names of all elements and resource types in a bundle: what an error may point to."""
    if isinstance(node, dict):
        yield from node
        yield from (kind for kind in [node.get("resourceType")] if isinstance(kind, str))
        for value in node.values():
            yield from elements_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from elements_of(value)


class RefusedOperations:
    """What the server was found not to do, so that it is not asked for it again; each is told once to `tell`."""

    def __init__(self, known: Iterable[str] = (), tell: Callable[[str], None] = lambda _what: None) -> None:
        self._known = set(known)
        self._tell = tell

    def __contains__(self, what: str) -> bool:
        return what in self._known

    def note(self, what: str) -> None:
        """Remember what it does not do."""
        if what not in self._known:
            self._known.add(what)
            self._tell(what)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Sends requests below `base_url`; `cutoff` is that of `http`.

    `ends_at` (`time.monotonic`) is when the whole attempt must be over, whatever the server does; `elements` are the
    element names that an error may quote; `etags` are those of what was read; `refusals` is what the server does
    not do; of the types in `chosen_ids` the node may choose the ids. `written` holds where something was written.
    """

    http: httpx.Client
    cutoff: Cutoff
    base_url: str
    ends_at: float
    elements: frozenset[str] = frozenset()
    etags: Etags = field(default_factory=Etags)
    refusals: RefusedOperations = field(default_factory=RefusedOperations)
    chosen_ids: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)

    def get(self, path: str, asked: str, params: dict[str, str] | None = None) -> HttpAnswer:
        """Read or search. Raises `DeliveryDeferred` or `DeliveryRefused` unless the answer is a success."""
        return self.succeeded(self._answer("GET", path, params=params, headers=_STRICT), asked)

    def read(self, place: str, asked: str, params: dict[str, str] | None = None) -> Json | None:
        """Return the resource at ``Type/id``, or `None` when it is gone. Raises as `get` does."""
        answer = self._answer("GET", place, params=params)
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return None
        resource = self.json(self.succeeded(answer, asked), asked)
        self.etags.note(resource, answer.headers.get("ETag", ""))
        return resource

    def send(self, method: str, path: str, resource: Json, asked: str, conditions: dict[str, str]) -> HttpAnswer:
        """Write a resource under `conditions` (If-None-Exist, If-Match). Raises as `get` does."""
        return self.succeeded(self.attempt(method, path, resource, conditions), asked)

    def attempt(self, method: str, path: str, resource: Json, conditions: dict[str, str]) -> HttpAnswer:
        """Write a resource; returns whatever is answered. Raises `DeliveryDeferred` when nothing is."""
        headers = {"Content-Type": FHIR_JSON, **conditions}
        answer = self._answer(method, path, content=to_json_bytes(resource), headers=headers)
        if answer.is_success:
            self.written.append(path)
        return answer

    def post_form(self, path: str, form: dict[str, str]) -> HttpAnswer:
        """Post a search form; returns whatever is answered. Raises `DeliveryDeferred` when nothing is."""
        return self._answer("POST", path, data=form, headers=_STRICT)

    def succeeded(self, answer: HttpAnswer, asked: str) -> HttpAnswer:
        """Return the answer if it is a success, else raise."""
        if not answer.is_success:
            raise failure(answer, asked, self.elements)
        return answer

    def json(self, answer: HttpAnswer, asked: str) -> Json:
        """Return the resource of an answer. Raises `DeliveryRefused` when it holds none (a login page, a proxy)."""
        body = answer.json()
        if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
            raise DeliveryRefused(
                f"What answered {asked} at {answer.host} is no FHIR server: the answer is not FHIR JSON. "
                "Check url of the destination."
            )
        return body

    def _answer(self, method: str, path: str, **parts: Any) -> HttpAnswer:
        url = f"{self.base_url}/{path}" if path else self.base_url
        request = self.http.build_request(method, url, timeout=self._left_s(), **parts)
        try:
            with self.cutoff.after(self._left_s()):
                response = self.http.send(request, stream=True)
                try:
                    return HttpAnswer(response.status_code, response.headers, self._body(response), request.url.host)
                finally:
                    response.close()
        except (httpx.RequestError, UnicodeError) as error:  # the second: a host with an empty or endless part
            nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | UnicodeError)
            if not nobody:
                self._left_s()
            if told := tls_fault_told(error):
                raise DestinationAway(f"The FHIR server {request.url.host} {told}. It will be tried again.") from error
            raise (DestinationAway if nobody else DeliveryDeferred)(
                f"The FHIR server {request.url.host} cannot be reached or understood ({type(error).__name__}). "
                "It will be tried again; check address, network and certificates."
            ) from error

    def _body(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            self._left_s()
            content += chunk
            if len(content) > LONGEST_ANSWER_BYTES:
                raise DeliveryRefused(
                    f"The FHIR server {response.url.host} answered with more than {LONGEST_ANSWER_BYTES >> 20} MiB. "
                    "Check url of the destination."
                )
        return bytes(content)

    def _left_s(self) -> float:
        left_s = self.ends_at - time.monotonic()
        if left_s <= 0:
            raise DeliveryDeferred(
                "The FHIR server did not finish within the time of one attempt. It will be tried again; if that "
                "happens often, raise timeout_s in the section delivery."
            )
        return left_s
