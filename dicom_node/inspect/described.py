"""What there is to say about one object, as data: the terminal and JSON show the same."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
