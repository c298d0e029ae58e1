"""What a model run hands to the builders of DICOM and FHIR objects: findings plus arrays in source geometry;
and the same as JSON-ready data for the API.

Lives between `inference` and `sr_writer`, which never import each other. Every array refers to *source* pixels:
rows and columns of the received images, slices in the order of `Analysis.sources`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import (
    ArtifactKind,
    Code,
    Finding,
    JobState,
    ModelIdentity,
    OrderContext,
    ReviewState,
    StatedPatient,
)
from dicom_node.core.outputs.artifact_kinds import HeatMaps, OutputSet


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One stored instance offered to a model: where its bytes are, and which SOP instance it is."""

    path: Path
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The earlier SR of the same study and route that this result replaces (PredecessorDocumentsSequence).

    It is what the index knows of that report: its file may be damaged or gone by now.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    instance_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnObject:
    """An object of an earlier result of the same study and route that a rejection note takes back (IHE IOCM).

    One that the new result has too (equal UID) is not taken back.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    #: Keys of the output sets of this context whose destinations got it; others are not told of it.
    output_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """The model and route under which the reports on a study began.

    A route that is renamed, or given another model, goes on in the same line: the EHR sees one report.
    """

    model: str
    route: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedResult:
    """An earlier result of the same study and route that this one replaces: who made it, and what shows it."""

    job_key: str
    #: SOP Instance UIDs of its objects.
    object_uids: tuple[str, ...] = ()
    #: Whether a person had verified it, so that it was told as final.
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedObject:
    """An object of the reviewed result that stays as it is and that the reviewed report refers to: a picture, a mask.

    `picture_key` and `finding_key` are those of the `WrittenObject` that it was; `segment_numbers` the segments of a
    mask by the key of the finding that each belongs to.
    """

    kind: ArtifactKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    output_keys: tuple[str, ...] = ()
    picture_key: str = ""
    finding_key: str = ""
    segment_numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """All that the builders must know beside the analysis itself; equal contexts give equal bytes.

    `started_at` is when the analysis of this job first started; every time written into an object comes from it.
    """

    job_key: str
    route_name: str
    started_at: datetime
    ae_title: str
    node_uid: str
    institution: str = ""
    #: What the destinations want, without repetition, that of the first destination first; FHIR speaks of the first.
    output_sets: tuple[OutputSet, ...] = (OutputSet(),)
    #: What this result replaces and the PACS still shows, for the rejection note.
    withdrawn: tuple[WithdrawnObject, ...] = ()
    heat_maps: HeatMaps = "model"
    #: "clinical" or "research"; research adds RESEARCH ONLY to every text.
    intended_use: str = "clinical"
    #: True when the study was cut off by the hard cap and may be incomplete.
    study_partial: bool = False
    #: IANA name of the zone of images that carry no TimezoneOffsetFromUTC; empty: the zone of this machine.
    time_zone_name: str = ""
    predecessor: Predecessor | None = None
    #: By key of the output set, where its destinations were sent another earlier report than `predecessor`.
    predecessors: Mapping[str, Predecessor] = field(default_factory=dict)
    #: The results that this one replaces, oldest first, those that were withdrawn excepted.
    replaced: tuple[ReplacedResult, ...] = ()
    #: Empty: this model and route begin it.
    line: ReportLine | None = None
    #: What tells this node from every other, whatever it is called; empty: `node_uid`.
    node_id: str = ""
    #: How many results of this study and route were withdrawn before: reports begin a series of their own after that.
    withdrawn_before: int = 0
    #: The order by which the study was made, where the RIS has told it.
    order: OrderContext | None = None
    #: What the analysis is for, a `Purpose`, where somebody has said so; why it is wanted stands in `order`.
    purpose: str = ""
    #: Who the patient is by the word of a registration, where it has said so.
    patient: StatedPatient | None = None
    #: The decision that this report tells; `None`: nobody has reviewed it, and it says so.
    review: Review | None = None
    #: What of the reviewed result the report refers to, in the order in which it was sent.
    kept: tuple[ReviewedObject, ...] = ()

    @property
    def told_at(self) -> datetime:
        """When what is told here was first said: the start of the analysis, or the decision about its result."""
        return self.started_at if self.review is None else self.review.verified_at

    @property
    def is_correction(self) -> bool:
        """Whether a verified result takes the place of one that was verified before."""
        return self.review is not None and any(one.verified for one in self.replaced)

    @property
    def tracked_by(self) -> str:
        """The job key by which findings are tracked: a finding that was reviewed is the same finding."""
        return self.job_key if self.review is None else self.review.of_job_key

    def predecessor_for(self, wanted: OutputSet) -> Predecessor | None:
        """Return the earlier report that the report of one output set replaces."""
        return self.predecessors.get(wanted.key, self.predecessor)


def as_reviewed(answer: Analysis | NotAnalysed, context: ReportContext) -> Analysis | NotAnalysed:
    """Return the answer with the findings that stand after the review; without a review, the answer itself.

    Raises `ValueError` for a review that no report can tell, so that nothing calls itself verified that is not.
    """
    review = context.review
    if review is None:
        return answer
    if isinstance(answer, NotAnalysed):
        raise ValueError("A study that was not analysed has no result to review.")
    if review.state not in {ReviewState.ACCEPTED, ReviewState.MODIFIED}:
        raise ValueError(f"A result whose review is {review.state} has no verified report; withdraw it or wait.")
    if context.job_key == review.of_job_key:
        raise ValueError("A reviewed result needs a job key of its own; the one that it reviews stays as it is.")
    return replace(answer, findings=tuple(one.told for one in review.findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A rendered secondary capture: RGB uint8 (rows, columns, 3).

    `key` is ``summary``, ``not-analysed``, or ``heatmap:<finding key>:<sop instance uid>``; further pages are
    ``summary:2`` and so on. `source` is the image it was drawn from.
    """

    key: str
    rgb: NDArray[np.uint8]
    description: str
    source: Dataset | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAnalysed:
    """A study the model declined: the coded reason, a sentence for people, and the images it looked at."""

    model: ModelIdentity
    sources: tuple[Dataset, ...]
    reason: str
    message: str
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Declined:
    """The node itself decides not to ask the model: no series fits, every attempt failed, or the model may not run.

    `model` is set for a model whose files must not even be looked at by the worker process.
    """

    reason: str
    message: str
    model: ModelIdentity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenObject:
    """A DICOM object a builder has finished: the dataset, its place in the order of sending, and a picture of it."""

    kind: ArtifactKind
    dataset: Dataset
    order: int
    description: str
    #: PNG bytes for the API, where the object is a picture.
    preview_png: bytes | None = None
    #: Key of the `Picture` it holds, if it holds one.
    picture_key: str = ""
    #: Key of the finding it explains, if it is no picture and about one finding.
    finding_key: str = ""
    #: Keys of the output sets it belongs to.
    output_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMade:
    """A kind of object that was wanted and could not be made, or not wholly; it holds nothing of the patient."""

    kind: ArtifactKind
    #: What people call it, ``segmentation``.
    name: str
    #: Class of the error, and ``module:line`` of its origin.
    error: str
    where: str
    #: How many objects of the kind were made before.
    made: int = 0
    #: What the images lack, where that and no error is why.
    lacks: str = ""

    @property
    def sentence(self) -> str:
        """What the readers of the result are told."""
        how_far = f"only {self.made} made" if self.made else "none made"
        why = f"the images lack {self.lacks}" if self.lacks else f"of an error of the node ({self.error})"
        return f"NOT COMPLETE: {self.name} ({self.kind}), {how_far} because {why}."


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenResult:
    """The objects of a result, and the answer with notes on what could not be made of it."""

    answer: Analysis | NotAnalysed
    objects: tuple[WrittenObject, ...]
    not_made: tuple[NotMade, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """Everything a worker process needs for one job; crosses the process border by pickle.

    `parameters` are the site's overrides of the model card (``{"threshold": 0.6}``). The worker writes finished
    objects into `out_dir` and returns their names. `model_digest` is that of the model as it was admitted; a folder
    that has changed since is not run ("": any). `channel_series` are the series of a model that reads several
    together, in the order of its card's channels.
    """

    context: ReportContext
    model_dir: Path
    files: tuple[SourceFile, ...]
    out_dir: Path
    parameters: Mapping[str, float] = field(default_factory=dict)
    model_digest: str = ""
    channel_series: tuple[str, ...] = ()


#: What goes with every showing of a result.
MARK = "AI result - NOT VERIFIED. Decision support only."
REVIEWED_MARK = "AI result, reviewed and verified by a named person."


def mark_of(review: Review | None) -> str:
    """Return what goes with every showing of a result with this review, or with none."""
    return MARK if review is None else REVIEWED_MARK


def summarise(answer: Analysis | NotAnalysed, review: Review | None = None) -> dict[str, object]:
    """Return the answer without arrays and without anything that names the patient."""
    sources = [str(source.SOPInstanceUID) for source in whole_objects(answer.sources)]
    common: dict[str, object] = {
        "mark": mark_of(review),
        "state": state_of(answer).value,
        "model": asdict(answer.model),
        "node_version": __version__,
        "source_sop_instance_uids": sources,
        "notes": list(answer.notes),
        "finished_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if isinstance(answer, NotAnalysed):
        return common | {"reason": answer.reason, "message": answer.message, "findings": []}
    further = [str(source.SOPInstanceUID) for source in whole_objects(answer.further_sources)]
    common |= {"further_source_sop_instance_uids": further} if further else {}
    common |= {"figures": dict(answer.figures)} if answer.figures else {}
    return common | {
        "findings": [finding_data(finding) for finding in answer.findings],
        "stage_times_s": {stage: round(seconds, 3) for stage, seconds in answer.stage_times_s.items()},
    }


def state_of(answer: Analysis | NotAnalysed) -> JobState:
    """Return the state in which a job with this answer ends."""
    if isinstance(answer, NotAnalysed):
        return JobState.NOT_ANALYSABLE
    return JobState.PARTIAL if answer.partial else JobState.DONE


def finding_data(finding: Finding) -> dict[str, object]:
    """Return a finding as JSON-ready data; what is not finite is `None`."""
    data = asdict(finding)
    for written, measurement in zip(data["measurements"], finding.measurements, strict=True):
        written["label"] = measurement.label
        written["value"] = _number(measurement.value)
    for written, withheld in zip(data["withheld"], finding.withheld, strict=True):
        written["label"] = withheld.label
    data |= {"probability": _number(finding.probability), "threshold": _number(finding.threshold)}
    if finding.region is not None:
        data["region"] = {"sop_instance_uid": finding.region.sop_instance_uid,
                          "points_xy_px": [list(point) for point in finding.region.points_xy_px]}  # fmt: skip
        if finding.region.frame_number is not None:
            data["region"]["frame_number"] = finding.region.frame_number
    return data


def _number(value: float | None) -> float | None:
    """Return a number that JSON has; `None` for one that is not finite."""
    return value if value is not None and math.isfinite(value) else None
