"""What a reviewer changes of a model's findings, and adds to them; looked at before anything of it is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dicom_node.core.assessment.review import ReviewedFinding
from dicom_node.core.entities import Code, Finding, Measurement, Presence, Region
from dicom_node.core.errors import ReviewRefused
from dicom_node.headers.image_size import ImageSize

#: So many points an outline has at most, and so many findings a reviewer adds.
MOST_POINTS, MOST_ADDED = 1024, 32
#: No number of a report is larger.
LARGEST = 1e9
_FEWEST_POINTS = 3
#: Units of lengths, areas, volumes, masses, shares and times (UCUM): none of them is below 0, as attenuations may be.
_NEVER_NEGATIVE = frozenset(
    ("mm", "cm", "m", "mm2", "cm2", "m2", "mm3", "cm3", "mL", "ml", "L", "l", "mg", "g", "kg", "%", "ms", "s", "min")
)
#: Control characters, line ends and tabs excepted, what turns the order of reading round, and halves of characters.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: As words can stand in DICOM and in FHIR: a backslash would make two values of them (PS3.5 6.2), and a code has no
#: blank at its ends and no two of them together (FHIR R4, code).
_WORDS = re.compile(r"[^\s\\]+( [^\s\\]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedMeasurement:
    """A corrected number: its place among the finding's measurements, from 0, and the UCUM code of its unit."""

    place: int
    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFinding:
    """What a reviewer says of one finding of the model; what is not said stays as the model said it.

    `has_region`: `region` is what holds now, `None` being none. `removed`: it should not have been reported at all.
    """

    key: str
    presence: Presence | None = None
    measurements: tuple[ChangedMeasurement, ...] = ()
    text: str = ""
    region: Region | None = None
    has_region: bool = False
    removed: bool = False

    @property
    def changes_more(self) -> bool:
        """Whether anything but a text or a removal is said."""
        return self.presence is not None or bool(self.measurements) or self.has_region


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFinding:
    """What a reviewer has found and the model has not: coded, and where it is."""

    code: Code
    site: Code
    label: str = ""
    laterality: Code | None = None
    presence: Presence = Presence.PRESENT
    text: str = ""
    region: Region | None = None


#: Finds the size of a source image of the result by its SOP Instance UID; raises `ReviewRefused` for another image.
SizeOf = Callable[[str], ImageSize]


def reviewed_findings(
    said: Sequence[Finding], changes: Sequence[ChangedFinding], added: Sequence[AddedFinding], size_of: SizeOf
) -> tuple[ReviewedFinding, ...]:
    """Return all findings as they stand after a review, those that were added last. Raises `ReviewRefused`."""
    by_key = _by_key(said, changes)
    if len(added) > MOST_ADDED:
        raise ReviewRefused(f"At most {MOST_ADDED} findings can be added.")
    kept = [_reviewed(one, by_key.get(one.key), size_of) for one in said]
    return (*kept, *(_added(one, number, said, size_of) for number, one in enumerate(added, start=1)))


def _by_key(said: Sequence[Finding], changes: Sequence[ChangedFinding]) -> Mapping[str, ChangedFinding]:
    known, by_key = {one.key for one in said}, {one.key: one for one in changes}
    if len(by_key) != len(changes):
        raise ReviewRefused("One finding is changed twice. Say all that changes of it once.")
    if unknown := sorted(set(by_key) - known):
        raise ReviewRefused(f"The result has no finding {unknown[0]!r}; it has: {', '.join(sorted(known)) or 'none'}.")
    return by_key


def _reviewed(said: Finding, change: ChangedFinding | None, size_of: SizeOf) -> ReviewedFinding:
    if change is None:
        return ReviewedFinding(finding=said, said_by_model=said)
    require_text(change.text)
    if change.removed and change.changes_more:
        raise ReviewRefused(f"Finding {said.key!r} is removed and changed. Do one of the two.")
    now = replace(
        said,
        presence=change.presence or said.presence,
        measurements=_measured(said, change.measurements),
        region=_on_image(change.region, size_of) if change.has_region else said.region,
    )
    return ReviewedFinding(finding=now, said_by_model=said, text=change.text, removed=change.removed)


def _measured(said: Finding, changes: Sequence[ChangedMeasurement]) -> tuple[Measurement, ...]:
    measurements = list(said.measurements)
    for change in changes:
        if not 0 <= change.place < len(measurements):
            raise ReviewRefused(f"Finding {said.key!r} has no measurement {change.place}; they count from 0.")
        measured = measurements[change.place]
        if change.unit != measured.unit.value:
            raise ReviewRefused(
                f"{measured.label} of {said.key!r} is in {measured.unit.value!r}. Give the number in the same unit."
            )
        if not math.isfinite(change.value) or abs(change.value) > LARGEST:
            raise ReviewRefused(f"{measured.label} of {said.key!r} cannot be that number.")
        if change.value < 0 and measured.unit.value in _NEVER_NEGATIVE:
            raise ReviewRefused(f"{measured.label} of {said.key!r} cannot be below 0.")
        measurements[change.place] = replace(measured, value=change.value)
    return tuple(measurements)


def _added(one: AddedFinding, number: int, said: Sequence[Finding], size_of: SizeOf) -> ReviewedFinding:
    require_text(one.text)
    for code in filter(None, (one.code, one.site, one.laterality)):
        _require_words(code.value, code.scheme, code.meaning)
    if one.label:
        _require_words(one.label)
    key, taken = f"added-{number}", {finding.key for finding in said}
    while key in taken:
        key = f"{key}-by-reviewer"
    finding = Finding(
        key=key, label=one.label or one.code.meaning, code=one.code, site=one.site, laterality=one.laterality,
        presence=one.presence, region=_on_image(one.region, size_of),
    )  # fmt: skip
    return ReviewedFinding(finding=finding, said_by_model=None, text=one.text)


def _on_image(region: Region | None, size_of: SizeOf) -> Region | None:
    """Return an outline closed; one that leaves its image, or encloses nothing, is refused."""
    if region is None:
        return None
    size, points = size_of(region.sop_instance_uid), region.points_xy_px
    if len(points) > MOST_POINTS or len(set(points)) < _FEWEST_POINTS:
        raise ReviewRefused(f"An outline has {_FEWEST_POINTS} to {MOST_POINTS} points that differ.")
    if not _encloses_something(points):
        raise ReviewRefused("The points of an outline lie on one line: it encloses nothing.")
    if not all(0 <= x <= size.columns and 0 <= y <= size.rows for x, y in points):
        raise ReviewRefused(f"A point lies outside the image, which is {size.columns} x {size.rows} pixels.")
    if not (1 <= (region.frame_number or 1) <= size.frames) or (region.frame_number is None and size.frames > 1):
        raise ReviewRefused(f"The image has {size.frames} frames. Say by its number, from 1, on which the outline is.")
    return replace(region, points_xy_px=points if points[0] == points[-1] else (*points, points[0]))


def _encloses_something(points: Sequence[tuple[float, float]]) -> bool:
    """Tell whether one of the triangles, of the first corner and two that follow each other, has an area."""
    (x, y), *others = points
    return any((ax - x) * (by - y) != (bx - x) * (ay - y) for (ax, ay), (bx, by) in pairwise(others))


def require_text(text: str) -> None:
    """Raise `ReviewRefused` for a text that nobody can read."""
    if _UNWRITABLE.search(text):
        raise ReviewRefused("A text holds characters that nobody can read. Write it as plain text.")


def _require_words(*texts: str) -> None:
    """Raise `ReviewRefused` for a code, or what it is called, that no report could hold."""
    for text in texts:
        require_text(text)
        if not _WORDS.fullmatch(text):
            raise ReviewRefused(f"{text!a} cannot be coded: write it in one line, with single blanks and no backslash.")
