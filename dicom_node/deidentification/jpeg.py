"""A JPEG or JPEG-LS stream made again of what decoders need: no comment, no segment of an application, no stray byte.

The stream is walked to its end (T.81 B.1.1, T.87 C), because a segment may also stand between two scans. What is left
out is not blanked: a stream of segments does not say anywhere how long it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dicom_node.core.errors import CannotClean

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_DHT, _DAC, _SOS, _DQT, _DNL, _DRI, _LSE, _SOF_LS = 0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xF8, 0xF7
#: SOF0 to SOF15 without DHT, JPG and DAC, which lie among them, and the frame of JPEG-LS.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC} | {_SOF_LS}
#: Any marker, with the fill bytes before it.
_NEXT = re.compile(rb"\xff+[^\x00\xff]")
#: Markers without a length: TEM, restarts, another beginning. None belongs between segments.
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
#: COM, APP0 to APP15, and extensions that no decoder here knows.
_SAYS_ANYTHING = frozenset({0xFE, *range(0xE0, 0xF0), *range(0xF0, 0xF7), *range(0xF9, 0xFE)})
#: How colours are to be read: marker, how the segment begins, and how many bytes of it say that. JFIF, Adobe, and the
#: colour transform that encoders of JPEG-LS by HP tell.
_OF_COLOUR: Mapping[int, tuple[bytes, int]] = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12), 0xE8: (b"mrfx", 5)}
_JFIF_WITHOUT_THUMBNAIL = b"\0\0"
#: The next marker behind coded data: not a byte that is stuffed (JPEG: 00, JPEG-LS: below 80), and no restart.
_BEHIND_JPEG = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_BEHIND_JPEG_LS = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")


def begins(fragment: bytes) -> bool:
    """Tell whether a fragment begins as JPEG and JPEG-LS do."""
    return fragment[:2] == _SOI


def cleaned(stream: bytes) -> bytes:
    """Return the picture of a stream and nothing else. Raises `CannotClean` where what stands there is no JPEG."""
    if not begins(stream):
        raise CannotClean("its compressed data is not JPEG")
    kept, position, behind = [_SOI], len(_SOI), _BEHIND_JPEG
    while (found := _NEXT.search(stream, position)) is not None:
        marker, position = stream[found.end() - 1], found.end()
        if marker == _EOI[1]:
            return b"".join((*kept, _EOI))
        if marker in _ALONE:
            continue
        end = _segment_end(stream, position)
        kept.append(_segment(marker, stream[position + 2 : end]))
        behind = _BEHIND_JPEG_LS if marker == _SOF_LS else behind
        position = _scan_end(stream, end, behind) if marker == _SOS else end
        kept.append(stream[end:position])
    raise CannotClean("its compressed data has no end")


def _segment_end(stream: bytes, position: int) -> int:
    """Return where the segment ends whose length stands here."""
    length = int.from_bytes(stream[position : position + 2], "big")
    if length < 2 or position + length > len(stream):
        raise CannotClean("its compressed data is cut off within a header")
    return position + length


def _scan_end(stream: bytes, position: int, behind: re.Pattern[bytes]) -> int:
    found = behind.search(stream, position)
    if found is None:
        raise CannotClean("its compressed data has no end")
    return found.start()


def _segment(marker: int, said: bytes) -> bytes:
    """Return a segment as it stays, b"" where it goes."""
    colour, of_colour = _OF_COLOUR.get(marker, (b"", 0))
    if colour and said.startswith(colour) and len(said) >= of_colour:
        said = said[:12] + _JFIF_WITHOUT_THUMBNAIL if marker == 0xE0 else said[:of_colour]
    elif marker in _SAYS_ANYTHING:
        return b""
    elif not _is_exact(marker, said):
        raise CannotClean("a header of its compressed data holds more than it should")
    return bytes((0xFF, marker)) + (len(said) + 2).to_bytes(2, "big") + said


def _is_exact(marker: int, said: bytes) -> bool:
    """Tell whether a segment has the length that its own fields ask for."""
    if marker in _FRAMES:
        return len(said) > 5 and len(said) == 6 + 3 * said[5]
    rule = _EXACT.get(marker)
    return rule is not None and rule(said)


def _are_quantisation_tables(said: bytes) -> bool:
    position = 0
    while position < len(said):
        position += 1 + 64 * (2 if said[position] >> 4 else 1)
    return position == len(said)


def _are_huffman_tables(said: bytes) -> bool:
    position = 0
    while position + 17 <= len(said):
        position += 17 + sum(said[position + 1 : position + 17])
    return position == len(said)


def _is_preset(said: bytes) -> bool:
    """JPEG-LS: thresholds. A table of values or sizes beyond 16 bits (T.87 C.2.4.1) belongs in no object."""
    return said[:1] == b"\1" and len(said) == 11


_EXACT: Mapping[int, Callable[[bytes], bool]] = {
    _DHT: _are_huffman_tables,
    _DQT: _are_quantisation_tables,
    _DAC: lambda said: len(said) % 2 == 0 and len(said) <= 16,
    _SOS: lambda said: len(said) > 3 and len(said) == 4 + 2 * said[0],
    _DNL: lambda said: len(said) == 2,
    _DRI: lambda said: len(said) == 2,
    _LSE: _is_preset,
}
