"""What a client accepts (RFC 9110 12.5.1), with the parameters that DICOMweb gives media types (PS3.18 8.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from dicom_node.retrieve.multipart import read_parameters

#: A comma between two ranges, and none within quotes.
_RANGE = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_MOST_RANGES = 32


@dataclass(frozen=True, slots=True)
class AcceptedType:
    """One media range. Of `multipart/related`, `part` is the media type of the parts, `*/*` where none is named."""

    media_type: str
    part: str = "*/*"
    #: "" where none is named, `*` for whichever.
    transfer_syntax: str = ""
    quality: float = 1.0

    @property
    def is_multipart(self) -> bool:
        """Whether an answer of several parts is taken."""
        return self.media_type in {"multipart/related", "multipart/*", "*/*"}

    def takes(self, media_type: str) -> bool:
        """Tell whether an answer of this media type, in one piece, is taken."""
        return _within(media_type, self.media_type)

    def takes_part(self, media_type: str) -> bool:
        """Tell whether a part of this media type is taken."""
        return self.is_multipart and _within(media_type, self.part)


def accepted(request: Request) -> Sequence[AcceptedType]:
    """Return what the client accepts, the best first; a parameter `accept` of the address goes before the header
    (PS3.18 8.3.3.1)."""
    text = request.query_params.get("accept") or ", ".join(request.headers.getlist("accept")) or "*/*"
    found = [_read(one) for one in _RANGE.findall(text)[:_MOST_RANGES] if one.strip()]
    return sorted((one for one in found if one.quality > 0), key=lambda one: -one.quality)


def _read(text: str) -> AcceptedType:
    media_type, parameters = read_parameters(text)
    return AcceptedType(
        media_type.strip(),
        parameters.get("type", "*/*").strip().lower(),
        parameters.get("transfer-syntax", "").strip(),
        _quality(parameters.get("q", "1")),
    )


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{0,3})?", text) else 1.0


def _within(media_type: str, range_: str) -> bool:
    return range_ in {media_type, "*/*", f"{media_type.partition('/')[0]}/*"}
