"""HL7 v2 messages as strangers send them: counted before they are cut, cut by their own separators, decoded once.

Nothing here is quadratic and nothing recurses: a message of `MAX_SEGMENTS` lines is split into lines, and a line into
fields where somebody asks for one (HL7 v2.5.1 chapter 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

#: More lines than any order or patient message has; each line is cut into so many fields at most, and so on.
MAX_SEGMENTS, _MAX_FIELDS, _MAX_REPETITIONS, _MAX_COMPONENTS = 500, 128, 64, 32
#: A longer value is none of what the node takes from a message.
MAX_VALUE = 512
#: Nor is a longer text for people.
MAX_TEXT = 110_000
_LONGEST_ESCAPE = 64
_LINE_ENDS = re.compile(r"[\r\n]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]+")
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")

#: Table 0211 of HL7 v2.5.1: what MSH-18 may say, and which codec that is.
CHARACTER_SETS = {
    "ASCII": "ascii", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "UTF-8": "utf-8",
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "GB 18030-2000": "gb18030", "KS X 1001": "euc_kr", "BIG-5": "big5",
}  # fmt: skip


class MessageRefused(Exception):
    """A message that is not taken. `is_final`: sending it again as it is never helps (AR); else it may later (AE).

    `code` is of table 0357, `place` the segment and field that it is about (``PID-3``). The text names no patient.
    """

    def __init__(self, text: str, *, code: str, place: str = "", is_final: bool = True) -> None:
        super().__init__(text)
        self.code = code
        self.place = place
        self.is_final = is_final


SEQUENCE_ERROR, FIELD_MISSING, DATA_TYPE, VALUE_NOT_FOUND = "100", "101", "102", "103"
UNSUPPORTED_TYPE, UNSUPPORTED_EVENT, UNSUPPORTED_PROCESSING, UNSUPPORTED_VERSION = "200", "201", "202", "203"
UNKNOWN_KEY, DUPLICATE_KEY, INTERNAL_ERROR = "204", "205", "207"


@dataclass(frozen=True, slots=True)
class Separators:
    """How a message is cut, by its own MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True, slots=True)
class Hl7Segment:
    """One line of a message. Fields, repetitions, components and subcomponents count from 1 as in the standard."""

    name: str
    line: str
    separators: Separators

    def field(self, number: int) -> str:
        """Return a field as it was sent; empty where there is none. MSH-1 is the separator itself."""
        fields = self.line.split(self.separators.field, _MAX_FIELDS)
        place = number - 1 if self.name == "MSH" else number
        return fields[place] if 0 < place < len(fields) and place < _MAX_FIELDS else ""

    def repetitions(self, number: int) -> list[str]:
        """Return what a field says more than once, as it was sent; `MAX_REPETITIONS` of them at most."""
        separator = self.separators.repetition
        return self.field(number).split(separator, _MAX_REPETITIONS)[:_MAX_REPETITIONS]

    def component(self, repetition: str, number: int, subcomponent: int = 1) -> str:
        """Return one component of a repetition for people: unescaped, without control characters, without blanks at
        its ends. What is explicitly empty (``""``) says nothing, and so does what is longer than `MAX_VALUE`."""
        part = _part(repetition, self.separators.component, number)
        raw = _part(part, self.separators.subcomponent, subcomponent)
        text = _unescaped(raw, self.separators) if len(raw) <= 2 * MAX_VALUE else ""
        return "" if text == '""' or len(text) > MAX_VALUE else text

    def value(self, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """Return a component of the first repetition of a field."""
        return self.component(self.repetitions(field)[0], component, subcomponent)

    def text(self, field: int) -> str:
        """Return a field that is text for people, line by line: repetitions and formatting end lines (2.7.6, 2.A.78);
        `MAX_TEXT` characters at most. What separates components means nothing in it."""
        given = self.field(field)[: 4 * MAX_TEXT]
        breaks = _line_breaks(self.separators)
        parts = [part for one in given.split(self.separators.repetition) for part in breaks.split(one)]
        return "\n".join(_unescaped(one, self.separators) for one in parts).strip()[:MAX_TEXT]


@dataclass(frozen=True, slots=True)
class Hl7Message:
    """A message that could be read: its header, and all its segments in their order."""

    segments: tuple[Hl7Segment, ...]

    @property
    def header(self) -> Hl7Segment:
        """The MSH segment."""
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Type and trigger event (MSH-9)."""
        return self.header.value(9), self.header.value(9, 2)

    @property
    def control_id(self) -> str:
        """What its sender knows it by (MSH-10)."""
        return self.header.value(10)

    @property
    def sender(self) -> str:
        """Sending application and facility (MSH-3, MSH-4)."""
        return f"{self.header.value(3)}|{self.header.value(4)}"

    def all_of(self, name: str) -> Iterator[Hl7Segment]:
        """Yield the segments of one name."""
        return (one for one in self.segments if one.name == name)

    def first(self, name: str) -> Hl7Segment | None:
        """Return the first segment of a name."""
        return next(self.all_of(name), None)


def read_message(data: bytes, character_set: str = "utf-8") -> Hl7Message:
    """Read a message; `character_set` (a codec) is that of a sender who says none in MSH-18.

    Raises `MessageRefused`.
    """
    header = read_header(data)
    text = _decoded(data.strip(_BLANKS).removeprefix(_BOM), _codec(header, character_set))
    lines = [line for line in _LINE_ENDS.split(text, MAX_SEGMENTS) if line]
    if len(lines) > MAX_SEGMENTS:
        raise MessageRefused(f"It has more than {MAX_SEGMENTS} segments.", code=SEQUENCE_ERROR)
    separators = header.separators
    segments = tuple(Hl7Segment(line.split(separators.field, 1)[0], line, separators) for line in lines)
    odd = next((one for one in segments if not _SEGMENT_NAME.fullmatch(one.name)), None)
    if odd is not None:
        raise MessageRefused(f"Line {segments.index(odd) + 1} begins with no segment name.", code=SEQUENCE_ERROR)
    if sum(one.name == "MSH" for one in segments) > 1:
        raise MessageRefused("It has two message headers; send one message in one frame.", code=SEQUENCE_ERROR)
    return Hl7Message(segments)


_BLANKS = b"\r\n\t \x00"
_BOM = b"\xef\xbb\xbf"
_LONGEST_HEADER = 4096


def read_header(data: bytes) -> Hl7Segment:
    """Return the MSH segment alone, by which an answer can be addressed whatever is wrong behind it: read as UTF-8,
    or byte by byte where it is none.

    Raises `MessageRefused` where there is none.
    """
    start = data[: _LONGEST_HEADER + 64].strip(_BLANKS).removeprefix(_BOM)[:_LONGEST_HEADER]
    line = _as_it_can_be(start.replace(b"\n", b"\r").partition(b"\r")[0])
    if not line.startswith("MSH") or len(line) < len("MSH|^~|"):
        raise MessageRefused("It does not begin with a message header (MSH) in ASCII or UTF-8.", code=SEQUENCE_ERROR)
    return Hl7Segment("MSH", line, _separators(line))


def _as_it_can_be(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _separators(line: str) -> Separators:
    """Read MSH-1 and MSH-2 (2.5.4: four are recommended, two are needed, a fifth is from v2.7)."""
    field = line[3]
    encoding = line[4 : line.find(field, 4)] if field in line[4:10] else ""
    used = [field, *encoding]
    if not 2 <= len(encoding) <= 5 or len(set(used)) != len(used) or not all(map(_is_separator, used)):
        raise MessageRefused("MSH-1 and MSH-2 are no separators: give |^~\\& or alike.", code=DATA_TYPE, place="MSH-2")
    component, repetition, escape, subcomponent = (*encoding[:4], "", "")[:4]
    return Separators(field, component, repetition, escape or "\\", subcomponent or "&")


def _is_separator(character: str) -> bool:
    return character.isascii() and character.isprintable() and not character.isalnum() and character != " "


def _codec(header: Hl7Segment, without: str) -> str:
    stated = header.value(18).upper()
    if not stated:
        return without
    if stated not in CHARACTER_SETS:
        known = ", ".join(CHARACTER_SETS)
        raise MessageRefused(f"MSH-18 names a character set that is not read. Known: {known}.",
                             code=VALUE_NOT_FOUND, place="MSH-18")  # fmt: skip
    return CHARACTER_SETS[stated]


def _decoded(data: bytes, codec: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise MessageRefused(
            f"It is not written in {codec}, as MSH-18 (or its absence) says. Have the sender state its character set.",
            code=DATA_TYPE, place="MSH-18",
        ) from error  # fmt: skip


def _part(text: str, separator: str, number: int) -> str:
    parts = text.split(separator, _MAX_COMPONENTS) if separator else [text]
    return parts[number - 1] if number <= min(len(parts), _MAX_COMPONENTS) else ""


def _unescaped(text: str, separators: Separators) -> str:
    """Undo escapes (2.7); formatting and highlighting become a blank."""
    if separators.escape in text:
        mark = re.escape(separators.escape)
        pattern = f"{mark}([^{mark}]{{0,{_LONGEST_ESCAPE}}}){mark}"
        text = re.sub(pattern, lambda found: _meant(found[1], separators), text)
    return _CONTROLS.sub(" ", text).strip()


@cache
def _line_breaks(separators: Separators) -> re.Pattern[str]:
    """Return what finds the escapes that end a line: ``.br`` and its like, and a line end by its number."""
    mark = re.escape(separators.escape)
    return re.compile(f"{mark}(?:\\.(?:br|sp|ce|sk)[0-9+ ]{{0,8}}|X0[DA](?:0[DA])?){mark}", re.IGNORECASE)


def _meant(escaped: str, separators: Separators) -> str:
    plain = {"F": separators.field, "S": separators.component, "R": separators.repetition, "E": separators.escape,
             "T": separators.subcomponent}  # fmt: skip
    if escaped in plain:
        return plain[escaped]
    if escaped.startswith("X") and re.fullmatch("([0-9A-Fa-f]{2})+", escaped[1:]):
        return bytes.fromhex(escaped[1:]).decode("utf-8", "replace")
    return " "
