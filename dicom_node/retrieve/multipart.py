"""multipart/related read while it streams (RFC 2046 5.1): part after part, never more of it than one piece."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dicom_node.core.errors import SourceUnavailable

_LONGEST_PREAMBLE_BYTES = 65536
_LONGEST_HEADERS_BYTES = 16384
#: RFC 2046 5.1.1 allows 70 characters; a longer delimiter makes every small piece of a body dear.
_LONGEST_BOUNDARY = 256
#: One parameter of a header field (RFC 9110 5.6.6); a quoted one that never ends goes on to the end of the field.
_PARAMETER = re.compile(r';\s*([^\s=;"]++)\s*=\s*(?:"((?:[^"\\]|\\.|\\$)*+)(?:"|$)|([^;"]*+))', re.DOTALL)


class MalformedBody(SourceUnavailable):
    """The body is no multipart body, or ends before it is over."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"The PACS broke off or sent a malformed multipart body: {why}. Ask again later.")


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part: its header fields by lower-case name, and its content, to be read before the next part."""

    headers: Mapping[str, str]
    content: Iterator[bytes]


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type names, "" when it is no multipart type or names none."""
    kind, parameters = read_parameters(content_type)
    boundary = parameters.get("boundary", "")
    return boundary if kind.startswith("multipart/") and len(boundary) <= _LONGEST_BOUNDARY else ""


def read_parameters(field: str) -> tuple[str, Mapping[str, str]]:
    """Return the value of a header field in lower case, and its parameters by lower-case name, the first of each.

    Never raises, and takes time in proportion to the length: the standard library's parser takes seconds for a field
    of 16 KiB, and fails on character sets that a parameter claims to be in (RFC 2231).
    """
    parameters: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(field):
        value = quoted.replace("\\\\", "\\").replace('\\"', '"') if quoted else plain.strip()
        parameters.setdefault(name.lower(), value)
    return field.partition(";")[0].strip().lower(), parameters


def parts(chunks: Iterable[bytes], boundary: str) -> Iterator[BodyPart]:
    """Yield the parts of a body. Raises `MalformedBody`, and whatever `chunks` raise."""
    return _Reader(chunks, boundary).parts()


class _Reader:
    def __init__(self, chunks: Iterable[bytes], boundary: str) -> None:
        self._chunks = iter(chunks)
        self._delimiter = b"\r\n--" + boundary.encode("ascii", "replace")
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning

    def parts(self) -> Iterator[BodyPart]:
        skipped = 0
        for piece in self._until_delimiter():
            skipped += len(piece)
            if skipped > _LONGEST_PREAMBLE_BYTES:
                raise MalformedBody("no part begins")
        while not self._is_over():
            content = self._until_delimiter()
            yield BodyPart(self._headers(), content)
            for _ in content:
                pass  # what the caller did not want of this part

    def _is_over(self) -> bool:
        """Read what follows a delimiter: two dashes at the end, else padding and a line break."""
        self._need(2)
        if self._buffer.startswith(b"--"):
            return True
        if self._line().strip(b" \t"):
            raise MalformedBody("a delimiter is followed by other text")
        return False

    def _headers(self) -> Mapping[str, str]:
        fields: dict[str, str] = {}
        size = 0
        while line := self._line():
            size += len(line)
            if size > _LONGEST_HEADERS_BYTES:
                raise MalformedBody("the header of a part is too long")
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        return fields

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LONGEST_HEADERS_BYTES:
                raise MalformedBody("a line never ends")
            self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _until_delimiter(self) -> Iterator[bytes]:
        """Yield all up to the next delimiter and take that away."""
        keep = len(self._delimiter) - 1  # may be the beginning of a delimiter
        while (end := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                piece = bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
                yield piece
            self._more()
        if end:
            yield bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]

    def _need(self, count: int) -> None:
        while len(self._buffer) < count:
            self._more()

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise MalformedBody("the body ends in the middle of a part")
        self._buffer += chunk
