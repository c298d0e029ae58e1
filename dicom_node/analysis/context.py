"""What a model run and the builders are told beside the images: who asks, what came before, what a person decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import ArtifactKind, OrderContext, ReviewState, StatedPatient
from dicom_node.core.outputs.artifact_kinds import HeatMaps, OutputSet


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
