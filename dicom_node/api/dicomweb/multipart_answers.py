"""Answers of several parts (RFC 2046 5.1), made piece by piece: memory does not grow with a study."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """One part: what it is, where else it is to be had ("" for nowhere), and its bytes."""

    content_type: str
    location: str
    content: Iterable[bytes]


def multipart(
    media_type: str, parts: Iterable[AnswerPart], headers: Mapping[str, str], *, status: int = 200, short: bool = False
) -> Response:
    """Return `multipart/related` of parts of a media type; a `short` answer goes out in one piece."""
    boundary = uuid.uuid4().hex
    kind = f'multipart/related; type="{media_type}"; boundary={boundary}'
    pieces = _pieces(parts, boundary)
    if short:
        return Response(b"".join(pieces), status, dict(headers), media_type=kind)
    return StreamingResponse(pieces, status, dict(headers), media_type=kind)


def _pieces(parts: Iterable[AnswerPart], boundary: str) -> Iterator[bytes]:
    for part in parts:
        location = f"Content-Location: {part.location}\r\n" if part.location else ""
        yield f"--{boundary}\r\nContent-Type: {part.content_type}\r\n{location}\r\n".encode("latin-1")
        yield from part.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("latin-1")
