"""Analyses, their results, what people decided on these, and the objects of studies and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dicom_node.core.entities import ArtifactKind, DecisionState, JobStage, JobState, ResultState, ReviewState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One analysis: study revision x route. `decision` tells which series was chosen and why or why not.

    `next_attempt_at` is when one that has failed is tried again; `None`: it has not failed, or is tried no more.
    """

    id: int
    revision: int
    route: str
    model: str
    state: JobState
    study_partial: bool
    series_instance_uid: str
    decision: Mapping[str, Any]
    shadow_of: str = ""
    job_key: str
    reason: str
    message: str
    attempts: int
    next_attempt_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How much is done: `step` of `steps` stages behind it, and how many of its `deliveries` have arrived or were given
    up (`settled`)."""

    step: int
    steps: int
    settled: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One analysis on its way. `job_key` leads to its result, "" until there is one; `reason` is a code and `message` a
    sentence on how it ended, or why its last attempt failed."""

    id: int
    study_instance_uid: str
    revision: int
    route: str
    model: str
    state: JobState
    stage: JobStage
    progress: JobProgress
    attempts: int
    priority: str
    shadow_of: str
    job_key: str
    reason: str
    message: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactView:
    """One produced object. Its bytes and its preview have addresses of their own."""

    uid: str
    job_key: str
    kind: ArtifactKind
    media_type: str
    description: str
    sop_class_uid: str
    series_instance_uid: str
    sha256: str
    size_bytes: int
    has_preview: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """Where the bytes of one produced object lie in the object store. `preview_key` is empty when it has no picture."""

    uid: str
    kind: ArtifactKind
    media_type: str
    object_key: str
    sha256: str
    preview_key: str


@dataclass(frozen=True, slots=True)
class KeptDicomObject:
    """Where one DICOM object of a study lies: received and in use, or of a result that holds."""

    object_key: str
    sha256: str
    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class KeptArtifact:
    """Where one object of a result lies that is no DICOM object: a FHIR Bundle, an HL7 message."""

    uid: str
    kind: ArtifactKind
    media_type: str
    object_key: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewView:
    """What somebody decided on a result. `state` says where the decision stands, `result` which result tells it, `note`
    why it fell or failed, or why its result could not be made yet. `findings` are as they stand after it."""

    id: int
    job_key: str
    decision: ReviewState
    state: DecisionState
    reasons: Sequence[str]
    text: str
    findings: Sequence[Mapping[str, Any]]
    reviewer: str
    reviewer_account: str
    decided_at: datetime
    second_reader: str
    second_account: str
    second_decided_at: datetime | None
    note: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultView:
    """One stored answer. `current` tells it from those that were withdrawn, or that a later one has replaced."""

    job_key: str
    study_instance_uid: str
    revision: int
    route: str
    model: str
    state: JobState
    reason: str
    message: str
    sequence: int
    current: bool
    #: Whether it holds, why not and since when not.
    standing: ResultState = ResultState.CURRENT
    standing_reason: str = ""
    standing_at: datetime | None = None
    #: The route it shadows, to whose answer it is compared; nothing of it is delivered.
    shadow_of: str = ""
    #: What a person has said of it, who and when; the result that tells it, and of that one, which was reviewed.
    review_state: ReviewState = ReviewState.UNREVIEWED
    reviewer: str = ""
    reviewed_at: datetime | None = None
    awaits_second_reader: bool = False
    #: Why the result that tells the review is not there yet, and why it never will be.
    review_waits: str = ""
    review_failed: str = ""
    successor: str = ""
    review_of: str = ""
    summary: Mapping[str, Any]
    created_at: datetime
    artifacts: Sequence[ArtifactView]
