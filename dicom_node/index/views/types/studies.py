"""Studies: in a list, and one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dicom_node.core.entities import DeletionState, InstanceRole, JobState, KeptKind, StudyState
from dicom_node.index.views.types.deliveries import DeliveryView, OpenEvent
from dicom_node.index.views.types.results import JobView, ResultView


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
