"""Slices grouped into stacks that could be one volume: one series, acquisition, orientation, time, echo, b-value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import SourceFrame
from dicom_node.core.series.kernels import sharpness_of
from dicom_node.inference.images.exclusions import MAGNITUDE, complex_component
from dicom_node.inference.images.geometry import SlicePlane

#: Slices nearer than this share a position.
DUPLICATE_MM = 0.01
#: Headers repeat directions with rounding; 0.001 moves the far corner of a 500 mm field by half a millimetre.
_SAME_DIRECTION = 1e-3

#: Parts images of one volume as the acquisition does: some scanners write every few slices as a stack of their own.
_STACK_ID = "StackID"
#: Attributes that part images taken at the same place, and the words a stack is titled by. Numbers part as numbers.
_FACETS: tuple[tuple[str, str], ...] = (
    ("ComplexImageComponent", "component"),
    ("TemporalPositionIdentifier", "temporal position"),
    ("DiffusionBValue", "b-value"),
    ("DiffusionGradientOrientation", "gradient"),
    ("EchoTime", "echo time"),
    ("SequenceName", "sequence"),
    ("ImageType", "image type"),
)
#: Looked at only where slices still share a position: these may also change from slice to slice of one volume. Where a
#: single one parts them, the stacks are titled by its words.
_LATER_FACETS: tuple[tuple[str, str], ...] = (
    ("ConvolutionKernel", "kernel"),
    ("KVP", "kVp"),
    ("NominalPercentageOfCardiacPhase", "cardiac phase"),
    ("CardiacCyclePosition", "cardiac cycle position"),
    ("NominalCardiacTriggerDelayTime", "cardiac delay"),
    ("TriggerTime", "trigger time"),
    ("TemporalPositionTimeOffset", "time offset"),
    ("InversionTime", "inversion time"),
)
#: All that may part images.
PARTING = (
    "AcquisitionNumber",
    _STACK_ID,
    "FrameOfReferenceUID",
    *(keyword for keyword, _ in (*_FACETS, *_LATER_FACETS)),
)
#: Of stacks that show the same, the one is used whose values are most like those of other scans.
_USUAL_KVP = 120.0

_Sortable = tuple[int, float, str]
_Key = tuple[_Sortable, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice that may take part in a volume: `index` is the place of its object in the list offered to the gate.

    `header` is that of a single-frame image or a `SourceFrame`; `dimensions` are a frame's index values beside place.
    """

    index: int
    header: Dataset
    plane: SlicePlane
    dimensions: tuple[int, ...] = ()

    @property
    def modality(self) -> str:
        return str(self.header.get("Modality") or "")


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of one series, acquisition and orientation, ordered along the slice normal (then SOP Instance UID).

    `parted_by` names what sets it apart from its neighbours besides the acquisition: ``b-value 1000``. `stack_id` is
    the Stack ID of an enhanced object (PS3.3 C.7.6.16.2.2), where there are several.
    """

    series_instance_uid: str
    acquisition: str
    slices: tuple[Slice, ...]
    parted_by: str = ""
    stack_id: str = ""

    @property
    def positions_mm(self) -> list[float]:
        return [one.plane.along_normal_mm for one in self.slices]

    @property
    def shares_positions(self) -> bool:
        return len(self.slices) > 1 and bool(np.diff(self.positions_mm).min() < DUPLICATE_MM)

    @property
    def title(self) -> str:
        name = f"acquisition {self.acquisition}" if self.acquisition else "acquisition without number"
        stack = f"stack {self.stack_id}" if self.stack_id else ""
        return f"{', '.join(filter(None, (name, stack, self.parted_by)))} ({len(self.slices)} slices)"


def stacks_of(slices: Iterable[Slice]) -> list[Stack]:
    """Group by series, acquisition, what else was varied, and orientation; largest first, ties by those in order."""
    groups: dict[_Key, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[_key(one)].append(one)
    varied = [place for place in range(len(_FACETS)) if len({key[place + 3] for key in groups}) > 1]
    has_stacks = len({key[2] for key in groups}) > 1
    found: list[tuple[_Key, Stack]] = []
    for key, members in sorted(groups.items()):
        words = ", ".join(f"{_FACETS[place][1]} {_shown(key[place + 3])}" for place in varied)
        stack_id = _shown(key[2]) if has_stacks else ""
        for alike in _by_orientation(members):
            stack = Stack(key[0][2], _shown(key[1]), tuple(sorted(alike, key=_place)), words, stack_id)
            found.extend((key, part) for part in _parted(stack))
    found.sort(key=lambda pair: (-len(pair[1].slices), *_unlikeness(pair[1].slices[0])))
    return [stack for _, stack in found]


def _unlikeness(one: Slice) -> tuple[int, float]:
    """Say how far values are from those of other scans: of CT the kernel's sharpness, then the distance to 120 kVp; of
    MR whether they are magnitudes."""
    if one.modality != "CT":
        return int(complex_component(one.header) != MAGNITUDE), 0.0
    sharpness = sharpness_of(one.header.get("ConvolutionKernel"), str(one.header.get("Manufacturer") or ""))
    kvp = one.header.get("KVP")
    return sharpness.place, abs(float(kvp) - _USUAL_KVP) if isinstance(kvp, int | float) else 0.0


def joined(stacks: Sequence[Stack]) -> Stack | None:
    """Return all stacks as one where they differ in nothing but the acquisition and the Stack ID, `None` where they do
    not.

    Scanners that shoot step by step count an acquisition for every step, or a stack for every few slices. Those of a CT
    must follow each other: where they interleave they are phases of one region.
    """
    first = stacks[0]
    alike = all(
        one.series_instance_uid == first.series_instance_uid
        and one.parted_by == first.parted_by
        and _turned_alike(one.slices[0], first.slices[0])
        for one in stacks
    )
    if len(stacks) < 2 or not alike:
        return None
    slices = tuple(sorted((one for stack in stacks for one in stack.slices), key=_place))
    if first.slices[0].modality == "CT" and _returns([str(one.header.get("AcquisitionNumber")) for one in slices]):
        return None
    numbers, stack_ids = (
        _first_to_last([getattr(one, name) for one in stacks]) for name in ("acquisition", "stack_id")
    )
    return Stack(first.series_instance_uid, numbers, slices, first.parted_by, stack_ids)


def _first_to_last(names: Sequence[str]) -> str:
    ordered = sorted(set(names), key=lambda text: (len(text), text))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _parted(stack: Stack) -> list[Stack]:
    """Part slices that share positions by whatever else tells them apart, if that leaves one slice a position.

    By one attribute, where it tells as many parts as slices share a position; else by all of them and the dimensions;
    or by the object, of multi-frame objects that hold a volume each.
    """
    if not stack.shares_positions:
        return [stack]
    sharing = _most_sharing(stack.positions_mm)
    for keyword, words in _LATER_FACETS:
        parts = _parts(stack, partial(_facet, keyword))
        if len(parts) == sharing and not any(part.shares_positions for _, part in parts):
            return [_titled(part, f"{words} {_shown(value)}") for value, part in parts]
    for words, key in (("phase", _later), ("object", _object)):
        parts = _parts(stack, key)
        if len(parts) > 1 and not any(part.shares_positions for _, part in parts):
            return [_titled(part, f"{words} {number}") for number, (_, part) in enumerate(parts, start=1)]
    return [stack]


def _parts(stack: Stack, key: Callable[[Slice], Any]) -> list[tuple[Any, Stack]]:
    groups: dict[Any, list[Slice]] = defaultdict(list)
    for one in stack.slices:
        groups[key(one)].append(one)
    return [(value, replace(stack, slices=tuple(members))) for value, members in sorted(groups.items())]


def _facet(keyword: str, one: Slice) -> _Sortable:
    return _sortable(one.header.get(keyword))


def _later(one: Slice) -> tuple[tuple[int, ...], _Key]:
    return one.dimensions, tuple(_sortable(one.header.get(keyword)) for keyword, _ in _LATER_FACETS)


def _object(one: Slice) -> tuple[_Sortable, str]:
    """Return the place of a multi-frame object in its series; of single images nothing, for each is one object."""
    if not isinstance(one.header, SourceFrame):
        return _sortable(None), ""
    return _sortable(one.header.get("InstanceNumber")), str(one.header.get("SOPInstanceUID"))


def _most_sharing(positions_mm: Sequence[float]) -> int:
    """Return how many slices lie at the position that most of them share."""
    breaks = np.flatnonzero(np.diff(positions_mm) >= DUPLICATE_MM)
    return int(np.diff([-1, *breaks, len(positions_mm) - 1]).max())


def _titled(stack: Stack, words: str) -> Stack:
    return replace(stack, parted_by=", ".join(filter(None, (stack.parted_by, words))))


def _key(one: Slice) -> _Key:
    header = one.header
    facets = [_sortable(header.get(keyword)) for keyword, _ in _FACETS]
    if one.modality != "MR":
        # Makers of CT scanners write what they like behind the third value.
        facets[-1] = _sortable(None)
    apart = _sortable(header.get("AcquisitionNumber")), _sortable(header.get(_STACK_ID))
    return (_text(header.get("SeriesInstanceUID")), *apart, *facets)


def _by_orientation(slices: Sequence[Slice]) -> list[list[Slice]]:
    groups: list[list[Slice]] = []
    for one in sorted(slices, key=lambda s: (s.plane.directions, _place(s))):
        group = next((group for group in groups if _turned_alike(group[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _turned_alike(one: Slice, other: Slice) -> bool:
    pairs = zip(one.plane.directions, other.plane.directions, strict=True)
    return all(abs(a - b) < _SAME_DIRECTION for a, b in pairs)


def _returns(names: Sequence[str]) -> bool:
    """Whether some name comes again after another one."""
    runs = [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]
    return len(runs) != len(set(runs))


def _place(one: Slice) -> tuple[float, str, int]:
    frame_number = getattr(one.header, "frame_number", 0)
    return one.plane.along_normal_mm, str(one.header.get("SOPInstanceUID")), int(frame_number)


def _sortable(value: object) -> _Sortable:
    if value is None or value == "":
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    if isinstance(value, str):
        return _text(value)
    parts = value if isinstance(value, Iterable) else [value]
    return _text("\\".join(str(part) for part in parts))


def _text(value: object) -> _Sortable:
    return (2, 0.0, str(value or ""))


def _shown(key: _Sortable) -> str:
    kind, number, text = key
    return f"{number:g}" if kind == 1 else text
