"""What there is to say about one object, as data in words that are safe on a terminal: text and JSON show
the same."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.core.errors import NotAnalysable

#: Stands where a patient's name or identifier would, unless it was asked for.
HIDDEN = "(hidden; --show-patient shows it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    """Which file, and what is wanted of it."""

    path: Path
    show_patient: bool = False
    picture: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentItem:
    """One content item of a structured report. `name` and `value` are for people, the codes for who wants to know."""

    name: str
    value: str = ""
    value_type: str = ""
    relationship: str = ""
    name_code: str = ""
    value_code: str = ""
    template: str = ""
    children: tuple[ContentItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind of thing: segments, graphics."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One object in the order in which a person asks: what is it, whose, from whom, how sure, what does it say."""

    kind: str
    facts: tuple[tuple[str, str], ...]
    tree: ContentItem | None = None
    tables: tuple[Table, ...] = ()
    #: What could not be told, and why.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """A picture as bytes: row by row, red, green and blue of each pixel."""

    rows: int
    columns: int
    rgb: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A description, and what the object holds beside it: a picture or an enclosed document."""

    description: Description
    picture: Raster | None = None
    document: bytes | None = None

    @property
    def picture_rgb(self) -> NDArray[np.uint8] | None:
        """The picture as an array, (rows, columns, 3)."""
        if self.picture is None:
            return None
        return np.frombuffer(self.picture.rgb, np.uint8).reshape(self.picture.rows, self.picture.columns, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionPart:
    """What one kind of object adds to a description."""

    facts: tuple[tuple[str, str], ...] = ()
    tree: ContentItem | None = None
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = field(default=())


def name_of(path: Path) -> str:
    """Return the path as it may be shown: a name, too, can hold what moves a cursor."""
    return "".join(character if character.isprintable() else "?" for character in str(path))


# --- what decoders raise ---------------------------------------------------------------------------------------------

UNDECODABLE = (
    NotAnalysable,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
)


def why(error: Exception) -> str:
    """Return the reason in one short line; pixel decoders quote no patient."""
    return " ".join(str(error).split())[:200] or type(error).__name__


_MOST_LETTERS = 2000
_LAST_DIGITS = 10
#: Younger than the dictionary of pydicom (PS3.4 B.5).
_NEW_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
}
#: UCUM units that people write otherwise.
_UNITS = {"[hnsf'U]": "HU", "1": "", "{ratio}": ""}


def plain(value: object) -> str:
    """Return a value as one printable line: what could move a cursor or turn a line round becomes ``?``."""
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ", ".join(plain(one) for one in value)
    line = " ".join(str(value).split())
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= _MOST_LETTERS else f"{shown[:_MOST_LETTERS]} ..."


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text, empty where it is absent."""
    return plain(dataset.get(keyword))


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where it is absent or no sequence."""
    return [item for item in (dataset.get(keyword) or ()) if isinstance(item, Dataset)]


def first_item(dataset: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence, an empty one where there is none."""
    return next(iter(items(dataset, keyword)), Dataset())


def short_uid(uid: object) -> str:
    """Return the end of a UID, by which people tell objects of one system apart."""
    text = plain(uid)
    return text if len(text) <= _LAST_DIGITS + 1 else f"…{text[-_LAST_DIGITS:]}"


def class_name(sop_class_uid: object) -> str:
    """Return what a SOP class is called, without the words that all names have."""
    uid = plain(sop_class_uid)
    name = _NEW_CLASSES.get(uid) or (UID(uid).name if uid else "object")
    return name.replace(" - For Presentation", "").replace(" Image Storage", "").replace(" Storage", "")


def meaning(code: Dataset) -> str:
    """Return what a code means in words, else its value."""
    return text_of(code, "CodeMeaning") or text_of(code, "CodeValue") or text_of(code, "LongCodeValue")


def meaning_in(dataset: Dataset, keyword: str) -> str:
    """Return the meaning of the first code of a sequence."""
    return meaning(first_item(dataset, keyword))


def code_text(code: Dataset) -> str:
    """Return value and scheme of a code."""
    value = text_of(code, "CodeValue") or text_of(code, "LongCodeValue") or text_of(code, "URNCodeValue")
    return f"{value} {text_of(code, 'CodingSchemeDesignator')}".strip()


def unit_text(unit: Dataset) -> str:
    """Return a unit as people write it behind a number."""
    value = text_of(unit, "CodeValue")
    return _UNITS.get(value, value.strip("{}"))  # braces hold a word for what is counted


def reference_text(reference: Dataset) -> str:
    """Return which object is referred to, by kind and short UID, with its frames or segments."""
    text = (
        f"{class_name(reference.get('ReferencedSOPClassUID'))} {short_uid(reference.get('ReferencedSOPInstanceUID'))}"
    )
    for keyword, word in (("ReferencedFrameNumber", "frame"), ("ReferencedSegmentNumber", "segment")):
        numbers = text_of(reference, keyword)
        if numbers:
            text += f", {word}{'s' if ',' in numbers else ''} {numbers}"
    return text


def counted(names: Iterable[str]) -> str:
    """Return how many there are of each: ``12 CT, 1 Segmentation``."""
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in found.items())


def moment(dataset: Dataset, prefix: str) -> str:
    """Return date and time of an event, such as ``Content``, as people write them."""
    return f"{day(text_of(dataset, f'{prefix}Date'))} {time_of_day(text_of(dataset, f'{prefix}Time'))}".strip()


def day(date: str) -> str:
    """Return a value of VR DA with hyphens."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def time_of_day(time: str) -> str:
    """Return a value of VR TM with colons, without fractions of a second."""
    return f"{time[:2]}:{time[2:4]}:{time[4:6]}" if len(time) >= 6 and time[:6].isdigit() else time
