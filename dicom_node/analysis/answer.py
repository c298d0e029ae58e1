"""What a model run hands to the builders of DICOM and FHIR objects: findings plus arrays in source geometry.

Lives between `inference` and `sr_writer`, which never import each other. Every array refers to *source* pixels:
rows and columns of the received images, slices in the order of `Analysis.sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.core.drift.features import Features
from dicom_node.core.entities import Code, Finding, JobState, ModelIdentity


class SourceFrame(Dataset):
    """One frame of a multi-frame object, as the single-frame image it could have been.

    It has the UIDs of the whole object, the frame's own functional groups as plain attributes, and only its own pixels;
    `frame_number` counts from 1 (PS3.3 C.7.6.6).
    """

    frame_number: int


def frame_number_of(source: Dataset) -> int | None:
    """Return which frame of its object a source is, `None` for a whole object."""
    return source.frame_number if isinstance(source, SourceFrame) else None


def whole_objects(sources: Iterable[Dataset]) -> tuple[Dataset, ...]:
    """Return one source of every object, in order of first appearance: frames of one object share its UID."""
    found: dict[str, Dataset] = {}
    for source in sources:
        found.setdefault(str(source.SOPInstanceUID), source)
    return tuple(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One labelled structure: `mask` is bool, (slices, rows, columns), aligned with `Analysis.sources`."""

    number: int
    label: str
    category: Code
    type: Code
    mask: NDArray[np.bool_]
    #: Key of the finding that measures this segment; both get the same tracking UID.
    finding_key: str
    anatomic_region: Code | None = None
    #: RGB 0..255 recommended for display.
    color_rgb: tuple[int, int, int] = (230, 120, 40)
    #: How sure the model is of each voxel, 0..1, shaped as `mask`; kept only where a destination wants it.
    probability_zyx: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saliency:
    """Why the model said so: `map` is float 0..1, (rows, columns), on the pixels of one source image."""

    finding_key: str
    sop_instance_uid: str
    map: NDArray[np.float32]
    #: How it was made, e.g. ``Grad-CAM, layer features.relu``.
    method: str
    #: Counts from 1; set where the source image has many frames.
    frame_number: int | None = None
    #: Drawn as three panels (the image, the map, both) and not as the map over the image alone.
    in_three_panels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts per bin for the summary page; `bin_edges` has one entry more than `counts`."""

    title: str
    x_label: str
    bin_edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    #: Vertical lines worth seeing, label by position.
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One model's answer about one study.

    `sources` are the analysed images, headers and pixels (pydicom datasets), in volume order for a volume (by
    position along the slice normal) and in instance order otherwise; frames of an enhanced object are
    `SourceFrame`s. `notes` are plain sentences for the timeline and the summary page: which acquisition was used and
    why, what was excluded, what limits the answer.
    """

    model: ModelIdentity
    sources: tuple[Dataset, ...]
    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...] = ()
    saliencies: tuple[Saliency, ...] = ()
    histogram: Histogram | None = None
    #: Indices into `sources` worth a picture of their own, most telling first.
    key_slices: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    #: Set when only part of the wanted result could be had (e.g. lungs truncated).
    partial: bool = False
    #: Images of further series that were read together with `sources`: headers. No array lies on them.
    further_sources: tuple[Dataset, ...] = ()
    #: Numbers about the answer itself, by name: how far apart the networks were whose mean it is.
    figures: Mapping[str, float] = field(default_factory=dict)
    stage_times_s: Mapping[str, float] = field(default_factory=dict)
    #: What is kept to see drift (`core.drift.features`).
    features: Features = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAnalysed:
    """A study the model declined: the coded reason, a sentence for people, and the images it looked at."""

    model: ModelIdentity
    sources: tuple[Dataset, ...]
    reason: str
    message: str
    notes: Sequence[str] = ()
    #: What is kept to see drift (`core.drift.features`).
    features: Features = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declined:
    """The node itself decides not to ask the model: no series fits, every attempt failed, or the model may not run.

    `model` is set for a model whose files must not even be looked at by the worker process.
    """

    reason: str
    message: str
    model: ModelIdentity | None = None


def analysed_images(answer: Analysis | NotAnalysed) -> tuple[Dataset, ...]:
    """Return all that was looked at: the sources first, then what was read together with them."""
    return (*answer.sources, *(answer.further_sources if isinstance(answer, Analysis) else ()))


def with_headers(answer: Analysis | NotAnalysed, changed: Callable[[Dataset], Dataset]) -> Analysis | NotAnalysed:
    """Return the answer with each image's header changed; the same answer where none is."""
    sources = tuple(map(changed, answer.sources))
    further = tuple(map(changed, analysed_images(answer)[len(sources) :]))
    if all(new is old for new, old in zip((*sources, *further), analysed_images(answer), strict=True)):
        return answer
    if isinstance(answer, Analysis):
        return replace(answer, sources=sources, further_sources=further)
    return replace(answer, sources=sources)


def state_of(answer: Analysis | NotAnalysed) -> JobState:
    """Return the state in which a job with this answer ends."""
    if isinstance(answer, NotAnalysed):
        return JobState.NOT_ANALYSABLE
    return JobState.PARTIAL if answer.partial else JobState.DONE
