"""What the read side of the index answers with: JSON-ready frozen dataclasses, no patient name or ID in any.

Descriptions and AE titles in them come from peers: whoever shows them treats them as plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dicom_node.core.entities import (
    ArtifactKind,
    DecisionState,
    DeletionState,
    DeliveryState,
    InstanceRole,
    JobStage,
    JobState,
    KeptKind,
    ResultState,
    ReviewState,
    StudyState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
    """Where one route stands with the current revision of a study."""

    route: str
    model: str
    state: JobState
    reason: str
    #: The route it shadows; empty for one that delivers.
    shadow_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCounts:
    """How many objects stand where on their way to their destinations."""

    pending: int = 0
    sent: int = 0
    committed: int = 0
    parked: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One study in a list. Counts are of source images in use: one version of each SOP Instance UID."""

    study_instance_uid: str
    revision: int
    state: StudyState
    reason: str
    first_received_at: datetime
    last_received_at: datetime
    updated_at: datetime
    description: str
    study_date: str
    modalities: Sequence[str]
    series: int
    instances: int
    routes: Sequence[RouteState]
    deliveries: DeliveryCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """Some studies, newest first. `older` and `newer` are cursors, `None` at the end of the list."""

    studies: Sequence[StudyLine]
    older: str | None
    newer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesView:
    """One received series; `instances` counts those in use, `superseded` earlier and unused versions of them."""

    series_instance_uid: str
    role: InstanceRole
    modality: str
    description: str
    body_part_examined: str
    instances: int
    superseded: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceVersion:
    """One version of an instance: when it came, from whom, and where it says that it belongs.

    `came` is `received` for the first one, else the kind of the timeline's line about it: `corrected`, `moved-here`,
    `encoded` (the same in another encoding), `unused`, `replaced` (no image). `changed` are keywords of attributes, of
    the whole batch in which it came. `flags` say why it may be no correction but a replacement by somebody else.
    """

    came: str
    received_at: datetime
    calling_ae_title: str
    source_host: str
    study_instance_uid: str
    series_instance_uid: str
    role: InstanceRole
    sha256: str
    in_use: bool
    superseded_at: datetime | None
    changed: Sequence[str]
    flags: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedInstance:
    """An instance that came in more than one version, in the order in which they came first."""

    sop_instance_uid: str
    versions: Sequence[InstanceVersion]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    """Some of the instances with more than one version, of `total` in the study."""

    total: int
    instances: Sequence[VersionedInstance]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One object on its way to one destination. `note` is the last answer of the destination.

    `warning` is the status with which it was stored otherwise than it was sent, such as ``0xB000``; empty: none.
    `proof` is how the destination was proved to have it, `COMMITMENT` or `QUERY`, empty while it is not; `proof_note`
    is what was answered, or why there is no proof.
    """

    id: int
    study_instance_uid: str
    artifact_uid: str
    artifact_kind: ArtifactKind
    artifact_description: str
    job_key: str
    destination: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    note: str
    created_at: datetime
    sent_at: datetime | None
    warning: str = ""
    proof: str = ""
    proof_note: str = ""
    transaction_uid: str = ""
    proved_at: datetime | None = None
    #: How often it was sent again, because it had not arrived, and because it was there and then was not.
    times_missing: int = 0
    times_lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEvent:
    """One event that a destination has not been told of, and that waits or is parked; `note` is its last answer."""

    id: str
    type: str
    destination: str
    state: DeliveryState
    attempts: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """What the order says by which a study was made; what it does not say is "". `priority` is one of FHIR's, and
    `requested_at` an ISO 8601 time as it was stated."""

    procedure: str
    reason: str
    priority: str
    requested_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedRequestView:
    """Why somebody wants a study analysed, before what its order says, and what for; a `route` of "" stands for all
    that have no statement of their own."""

    route: str
    indication: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionView:
    """What was deleted of a study, or is at this moment (MARKED): IMAGES or RESULTS, by which setting (`rule`), and by
    whom (`node`: by itself). `text` says it in a sentence."""

    kind: KeptKind
    state: DeletionState
    rule: str
    actor: str
    objects: int
    size_bytes: int
    marked_at: datetime
    ended_at: datetime | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldView:
    """Who keeps a study, why, and since when: nothing of it is deleted."""

    reason: str
    held_by: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """Everything known of one study, except its timeline. Of events those that wait or are parked."""

    study: StudyLine
    series: Sequence[SeriesView]
    jobs: Sequence[JobView]
    results: Sequence[ResultView]
    deliveries: Sequence[DeliveryView]
    open_events: Sequence[OpenEvent] = ()
    order: OrderView | None = None
    requests: Sequence[StatedRequestView] = ()
    deletions: Sequence[DeletionView] = ()
    hold: HoldView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientStudy:
    """One study of a patient, with all that was answered about it, newest first."""

    study: StudyLine
    results: Sequence[ResultView]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One thing that happened to a study. `actor` is who did it; empty where nobody of ours did, or it is not known."""

    at: datetime
    kind: str
    text: str
    actor: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationCounts:
    """What waits for one destination, and how much of what it took it is proved to have."""

    destination: str
    pending: int
    parked: int
    sent: int = 0
    committed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of everything there is; every state is listed, also when it is empty."""

    studies: Mapping[StudyState, int]
    jobs: Mapping[JobState, int]
    deliveries: Mapping[DeliveryState, int]
    destinations: Sequence[DestinationCounts]
    oldest_pending_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeToken:
    """A point in the history of the index; unequal tokens mean that something happened in between."""

    updated_at: datetime | None
    event_id: int
