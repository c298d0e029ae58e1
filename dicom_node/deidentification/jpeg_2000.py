"""A JPEG 2000 or HTJ2K stream made again of what decoders need: no comment, no box around it, nothing behind its end.

Headers are read as T.800 A says (HTJ2K: T.814 A); the lengths of tiles are written anew, because what goes from the
header of one makes it shorter, and so is the table of these lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from dicom_node.core.errors import CannotClean

_SOC, _EOC = b"\xff\x4f", b"\xff\xd9"
_JP2 = b"\0\0\0\x0cjP  "
_SIZ, _COD, _COC, _QCD, _QCC, _RGN, _POC, _CAP, _CPF = 0x51, 0x52, 0x53, 0x5C, 0x5D, 0x5E, 0x5F, 0x50, 0x59
_PPM, _PPT, _TLM, _PLM, _PLT, _CRG, _COM, _SOT, _SOD = 0x60, 0x61, 0x55, 0x57, 0x58, 0x63, 0x64, 0x90, 0x93
_STAYS = frozenset({_SIZ, _COD, _COC, _QCD, _QCC, _RGN, _POC, _CAP, _CPF, _PPM, _PPT})
#: Comments, and pointers into the stream, of which a decoder needs none: they may say anything.
_GOES = frozenset({_COM, _PLM, _PLT, _CRG, _TLM})
#: Within coded data only SOP and EPH follow an FF with 90 or more (T.800 A.1).
_NO_CODED_DATA = re.compile(rb"\xff[\x90\x93-\xff]")
#: Lengths of tile parts of four bytes and numbers of tiles of two (T.800 A.7.1).
_TLM_SIZES, _TLM_MOST = 0x60, 10_000


def begins(fragment: bytes) -> bool:
    """Tell whether a fragment begins as JPEG 2000 does, or as the file format that some wrap it in."""
    return fragment.startswith((_SOC + b"\xff\x51", _JP2))


def cleaned(stream: bytes) -> bytes:
    """Return the picture of a stream and nothing else. Raises `CannotClean` where there is more to it."""
    if not begins(stream):
        raise CannotClean("its compressed data is not JPEG 2000")
    if stream.startswith(_JP2):
        stream = _codestream(stream)
    header, position, said = _header(stream, len(_SOC), _SOT)
    tiles = list(_tile_parts(stream, position))
    lengths = _lengths_of(tiles) if _TLM in said else b""
    return b"".join((_SOC, header, lengths, *tiles, _EOC))


def _codestream(boxed: bytes) -> bytes:
    """Return what the box of the codestream holds (T.800 I.5.4); PS3.5 A.4.4 has no other box."""
    for kind, content in _boxes(boxed):
        if kind == b"jp2c":
            return content
    raise CannotClean("its compressed data is a file without a codestream")


def _boxes(boxed: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(boxed):
        length, head = int.from_bytes(boxed[position : position + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(boxed[position + 8 : position + 16], "big"), 16
        end = position + length if length else len(boxed)
        if end < position + head or end > len(boxed):
            return
        yield boxed[position + 4 : position + 8], boxed[position + head : end]
        position = end


def _header(stream: bytes, position: int, last: int) -> tuple[bytes, int, frozenset[int]]:
    """Return what stays of the segments up to the marker `last`, where that stands, and which markers were there."""
    kept, said = [], set[int]()
    while (marker := _marker(stream, position)) != last:
        end = position + 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        if end < position + 4 or end > len(stream):
            raise CannotClean("its compressed data is cut off within a header")
        said.add(marker)
        if marker in _STAYS:
            if not _EXACT.get(marker, _may_be)(stream[position + 4 : end]):
                raise CannotClean("a header of its compressed data holds more than it should")
            kept.append(stream[position:end])
        elif marker not in _GOES:
            raise CannotClean("its compressed data has a header that nothing here knows")
        position = end
    return b"".join(kept), position, frozenset(said)


def _marker(stream: bytes, position: int) -> int:
    if stream[position : position + 1] != b"\xff" or position + 2 > len(stream):
        raise CannotClean("its compressed data has a damaged header")
    return stream[position + 1]


def _tile_parts(stream: bytes, position: int) -> Iterator[bytes]:
    """Yield each part of a tile, with its new length, up to the end of the picture."""
    while stream[position : position + 2] == b"\xff\x90":
        if stream[position + 2 : position + 4] != b"\0\x0a":
            raise CannotClean("its compressed data has a damaged header")
        told = int.from_bytes(stream[position + 6 : position + 10], "big")
        header, start, _ = _header(stream, position + 12, _SOD)
        end = position + told if told else _end_of_coded_data(stream, start + 2)
        coded = stream[start:end]
        if not start + 2 <= end <= len(stream) or _NO_CODED_DATA.search(coded, 2):
            raise CannotClean("its compressed data holds something else within the coded data")
        length = (12 + len(header) + len(coded)).to_bytes(4, "big")
        yield b"".join((stream[position : position + 6], length, stream[position + 10 : position + 12], header, coded))
        position = end
    if stream[position : position + 2] != _EOC and stream[position:].strip(b"\0"):
        raise CannotClean("its compressed data holds something else behind a tile")


def _end_of_coded_data(stream: bytes, position: int) -> int:
    found = stream.find(_EOC, position)
    if found < 0:
        raise CannotClean("its compressed data has no end")
    return found


def _lengths_of(tiles: list[bytes]) -> bytes:
    """Return the table of tile parts again (T.800 A.7.1): readers jump by it to the part they show."""
    entries = [tile[4:10] for tile in tiles]
    chunks = [entries[first : first + _TLM_MOST] for first in range(0, len(entries), _TLM_MOST)]
    return b"".join(
        b"\xff\x55" + (4 + 6 * len(chunk)).to_bytes(2, "big") + bytes((number, _TLM_SIZES)) + b"".join(chunk)
        for number, chunk in enumerate(chunks)
    )


# --- the length that a segment's own fields ask for -------------------------------------------------------------------


def _may_be(said: bytes) -> bool:
    """Its length depends on other segments, or it is coded data itself."""
    return bool(said)


def _is_size(said: bytes) -> bool:
    return len(said) == 36 + 3 * int.from_bytes(said[34:36], "big")


def _is_coding_style(said: bytes) -> bool:
    has_precincts = bool(said[:1] and said[0] & 1)
    return len(said) > 5 and len(said) == 10 + (said[5] + 1 if has_precincts else 0)


def _is_quantisation(said: bytes) -> bool:
    style, steps = said[0] & 0x1F if said else 3, len(said) - 1
    return {0: steps % 3 == 1 and steps <= 97, 1: steps == 2, 2: steps % 6 == 2 and steps <= 194}.get(style, False)


def _is_capabilities(said: bytes) -> bool:
    return len(said) == 4 + 2 * int.from_bytes(said[:4], "big").bit_count()


_EXACT: Mapping[int, Callable[[bytes], bool]] = {
    _SIZ: _is_size,
    _COD: _is_coding_style,
    _QCD: _is_quantisation,
    _CAP: _is_capabilities,
    _RGN: lambda said: len(said) in (3, 4),
}
