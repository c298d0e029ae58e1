"""Two versions of one instance: what a correction is, and what only looks like one. Pure.

A SOP Instance UID may come again with other bytes: corrected at its source, moved to another study, compressed by an
archive, or replaced by somebody who should not. `docs/decisions/0015-corrections.md` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum


class PixelVerdict(StrEnum):
    """Whether two versions show the same picture, whatever their encoding."""

    EQUAL = "EQUAL"
    CHANGED = "CHANGED"
    #: They were not compared, or one of them cannot be decoded.
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells two versions apart beyond their encoding: keywords of top-level attributes, never values.

    An attribute that has no keyword is named by its tag, ``(0019,1001)``. `is_other_patient` by what both say of whom
    they are about, compared by meaning.
    """

    keywords: tuple[str, ...] = ()
    pixels: PixelVerdict = PixelVerdict.EQUAL
    is_other_patient: bool = False

    @property
    def is_encoding_only(self) -> bool:
        """Tell whether both say and show the same."""
        return not self.keywords and self.pixels is PixelVerdict.EQUAL


#: What nobody has looked at counts as changed: to analyse once more costs little, to miss a correction a patient.
NOT_COMPARED = Difference(pixels=PixelVerdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Which content it is, and by which key its bytes are found."""

    sha256: str
    object_key: str


class NotYetCompared(Exception):
    """Versions must be compared before they can be entered: `pairs` of old and new; the old ones are in `studies`."""

    def __init__(self, pairs: Set[tuple[StoredVersion, StoredVersion]], studies: Set[str]) -> None:
        super().__init__(f"{len(pairs)} pairs of versions are not compared yet.")
        self.pairs, self.studies = pairs, studies


@dataclass(frozen=True, slots=True)
class Comparison:
    """How arrivals differ from the versions they would take the place of, by the sha256 of old and new, and the
    studies in which those old versions are.

    What it lacks is asked for (`NotYetCompared`), or counts as changed where it does not ask.
    """

    differences: Mapping[tuple[str, str], Difference] = field(default_factory=dict)
    studies: Set[str] = frozenset()
    asks: bool = False

    def of(self, old_sha256: str, new_sha256: str) -> Difference | None:
        """Return how the new version differs from the old one, `None` where nobody has compared them."""
        return self.differences.get((old_sha256, new_sha256))


NOTHING_COMPARED = Comparison()
