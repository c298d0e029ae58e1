"""A request's body read piece by piece in the thread that stores it, so that it never lies in memory as a whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Annotated

import anyio
from anyio import from_thread
from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from dicom_node.api.answers.problem_kinds import BUSY, NO_ROOM, SWITCHED_OFF
from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.parts import Parts
from dicom_node.ingest.session import IngestParts
from dicom_node.retrieve.multipart import BodyPart

#: Bodies that are read at once; each has a thread, of the forty that answer all requests.
_AT_ONCE = 16
_TRY_AGAIN_S = 30
_MEGABYTE = 1 << 20
#: Whoever sends less than this within the silence that is allowed is silent: a byte a minute holds a place for years.
_LEAST_BYTES = 65536


class Body:
    """Iterates over the pieces of a body. For a worker thread of the server.

    Raises `ProblemError`: 413 when it is too long, 408 when the client falls silent, 400 when it goes away.
    """

    def __init__(self, request: Request, max_mb: int, silence_s: float) -> None:
        self._max_bytes = max_mb * _MEGABYTE
        self._silence_s = silence_s
        self._waited_s, self._came = 0.0, 0
        self._stream = request.stream()
        announced = request.headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > self._max_bytes:
            raise self._too_long()

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        while (piece := from_thread.run(self._next)) is not None:
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_long()
            if piece:
                yield piece

    async def _next(self) -> bytes | None:
        began = anyio.current_time()
        try:
            with anyio.fail_after(self._silence_s - self._waited_s):
                piece = await anext(self._stream, None)
        except TimeoutError as error:
            why = f"Next to nothing came for {self._silence_s:g} s. Send it again."
            raise ProblemError(408, why) from error
        except ClientDisconnect as error:
            raise ProblemError(400, "The connection was closed in the middle of the body. Send it again.") from error
        self._waited_s += anyio.current_time() - began  # only what was spent on waiting, not on storing
        self._came += len(piece or b"")
        if self._came >= _LEAST_BYTES:
            self._waited_s, self._came = 0.0, 0
        return piece

    def _too_long(self) -> ProblemError:
        return ProblemError(
            413, f"The body may have at most {self._max_bytes} bytes. Send it in several requests, or raise the limit."
        )


def few(parts: Iterable[BodyPart], most: int, setting: str) -> Iterator[BodyPart]:
    """Yield the parts of a body. Raises `ProblemError` 413 at the first above `most`: each costs time, also an empty
    one, and a body of the largest size may hold hundreds of millions."""
    for number, part in enumerate(parts, 1):
        if number > most:
            raise ProblemError(
                413, f"The body has more than {most} parts. Send it in several requests, or raise {setting}."
            )
        yield part


def one_of_few(request: Request) -> Iterator[None]:
    """Hold a place while a body is read. Raises `ProblemError` 503 when all are taken."""
    places: threading.BoundedSemaphore = request.app.state.body_places
    if not places.acquire(blocking=False):
        raise ProblemError(
            503, f"{_AT_ONCE} bodies are being read already. Try again.", {"Retry-After": "5"}, kind=BUSY
        )
    try:
        yield
    finally:
        places.release()


def body_places() -> threading.BoundedSemaphore:
    """Return the places of one application."""
    return threading.BoundedSemaphore(_AT_ONCE)


def open_ingest(parts: Parts) -> IngestParts:
    """Return the way in, when there is one and it can store. Raises `ProblemError` 404 or 503."""
    if parts.ingest is None:
        raise ProblemError(
            404, "This process takes no studies. Ask the one with the role api of the node.", kind=SWITCHED_OFF
        )
    if not parts.ingest.intake.has_room():
        raise cannot_store()
    return parts.ingest


def cannot_store() -> ProblemError:
    """Return the answer for a node whose disk or database does not take anything now."""
    detail = "The node cannot store now: its disk is full or its database is away. Send it again later."
    return ProblemError(503, detail, {"Retry-After": str(_TRY_AGAIN_S)}, kind=NO_ROOM)


Ingest = Annotated[IngestParts, Depends(open_ingest)]
OneOfFew = Depends(one_of_few)
