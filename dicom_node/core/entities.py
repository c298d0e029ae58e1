"""The nouns of the node: frozen dataclasses, standard library only, no input or output.

Times are aware `datetime`s in UTC. UIDs are plain strings. Names follow the DICOM keyword in snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class StudyState(StrEnum):
    """Where one revision of a study stands; which may follow which is in `lifecycle`."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    ANALYSING = "ANALYSING"
    REPORTED = "REPORTED"
    NOT_ANALYSED = "NOT_ANALYSED"
    FAILED = "FAILED"


class JobState(StrEnum):
    """Where one analysis (study revision x route) stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    PARTIAL = "PARTIAL"
    NOT_ANALYSABLE = "NOT_ANALYSABLE"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class JobStage(StrEnum):
    """How far one analysis has come on its way from the queue to its destinations, in this order.

    What no model answers for (a study that is declined, a review) goes without loading and running.
    """

    QUEUED = "queued"
    #: Images, model and whoever gets the result are put together; then it waits until a worker process is free.
    PLANNING = "planning"
    #: The worker process starts, or brings the model into memory; one that has it there already passes this by.
    LOADING = "loading"
    #: The model answers.
    RUNNING = "running"
    #: Objects, FHIR resources and messages are made of the answer.
    BUILDING = "building"
    #: What was made is kept and entered.
    SAVING = "saving"
    #: Destinations are still owed something of the result.
    DELIVERING = "delivering"
    FINISHED = "finished"


class DeliveryState(StrEnum):
    """Where one object stands on its way to one destination."""

    PENDING = "PENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    PARKED = "PARKED"
    DISCARDED = "DISCARDED"


class Proof(StrEnum):
    """How a destination was proved to have an object."""

    COMMITMENT = "COMMITMENT"
    QUERY = "QUERY"


class ResultState(StrEnum):
    """Whether a result holds: replaced by a later one, withdrawn by a person or a correction, rejected in review."""

    CURRENT = "CURRENT"
    SUPERSEDED = "SUPERSEDED"
    WITHDRAWN = "WITHDRAWN"
    REJECTED = "REJECTED"


class ObjectState(StrEnum):
    """Whether the bytes of an object are kept; of a purged one a tombstone stays."""

    STORED = "STORED"
    PURGED = "PURGED"


class DestinationState(StrEnum):
    """Whether anything is sent to a destination: suspended by a person, or because it refused the credentials."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class ReviewState(StrEnum):
    """What a named person has said of a result."""

    UNREVIEWED = "UNREVIEWED"
    ACCEPTED = "ACCEPTED"
    MODIFIED = "MODIFIED"
    REJECTED = "REJECTED"


class DecisionState(StrEnum):
    """Where a person's decision on a result stands: it waits for a second reader, what follows is being made, it is
    done, it fell (the second reader objected, or the result was replaced before the reviewed one was made), or it
    failed: the reviewed result could not be made, and nobody tries any more."""

    AWAITS_SECOND = "AWAITS_SECOND"
    DECIDED = "DECIDED"
    DONE = "DONE"
    FALLEN = "FALLEN"
    FAILED = "FAILED"


class CommitmentState(StrEnum):
    """Where a request for storage commitment stands: to be reported, reported, or given up."""

    PENDING = "PENDING"
    REPORTED = "REPORTED"
    GIVEN_UP = "GIVEN_UP"


class InstanceRole(StrEnum):
    """What a received object is to the node: only `SOURCE` objects trigger analysis or count for completeness.

    A `REJECTED` one would be a source, but a rejection note in use names it (see `rejections`).
    """

    SOURCE = "SOURCE"
    REJECTED = "REJECTED"
    EVIDENCE = "EVIDENCE"
    OWN_RESULT = "OWN_RESULT"


class Presence(StrEnum):
    """Whether a finding is there (DICOM CID 240); `UNDETERMINED` means the model could not tell."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    UNDETERMINED = "UNDETERMINED"


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept: value, coding scheme designator (SCT, DCM, LN, UCUM …), meaning (at most 64 characters)."""

    value: str
    scheme: str
    meaning: str


# --- what was received -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendingPeer:
    """Who sent an object and to whom: the calling and called AE titles and the peer's address."""

    calling_ae_title: str
    called_ae_title: str
    host: str


@dataclass(frozen=True, slots=True)
class PatientNumber:
    """A patient's number and who gave it out; `authority` is as PID-3.4 or IssuerOfPatientID have it."""

    value: str
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One received object. `object_key` finds its bytes in the object store; `attributes` are for routing.

    `attributes` maps a DICOM keyword in snake_case to its text value (multi-values joined by a backslash, as on
    the wire). They hold no patient name.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sha256: str
    size_bytes: int
    object_key: str
    role: InstanceRole
    attributes: Mapping[str, str]
    received_at: datetime
    sender: SendingPeer
    #: Whose it says it is; kept once for each study, and not known of one that is read from the index.
    patient: PatientNumber | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The source instances of one series, in order of SOP Instance UID."""

    series_instance_uid: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One revision of a study: a late image opens the next revision."""

    study_instance_uid: str
    revision: int
    state: StudyState
    series: tuple[Series, ...]
    #: First arrival of this revision and latest arrival of a source instance.
    first_received_at: datetime
    last_received_at: datetime


# --- what the hospital's information systems say -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPatient:
    """What a registration says of a patient: the number in use, and the demographics where they were said.

    `name` is of VR PN, `birth_date` of VR DA, `sex` of VR CS as PatientSex has it. `is_moved`: images may have an
    earlier number of the patient.
    """

    number: PatientNumber
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    is_moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNumber:
    """An order's number and the namespace or OID of who gave it out (HL7 v2 data type EI)."""

    value: str
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderContext:
    """What an order says about a study: which procedure was asked for, why, and how urgently.

    `priority` is one of FHIR's: ``stat``, ``asap``, ``urgent``, ``routine``; `requested_at` an ISO 8601 time as it was
    stated, with its zone where one was. What was not said is empty or `None`. Who ordered is not kept.
    """

    accession_number: str = ""
    placer: OrderNumber | None = None
    filler: OrderNumber | None = None
    procedure: Code | None = None
    reason: str = ""
    priority: str = ""
    requested_at: str = ""
    study_instance_uid: str = ""
    is_cancelled: bool = False


class Purpose(StrEnum):
    """What an analysis is for."""

    PRIMARY = "primary"
    COMPARISON = "comparison"
    FOLLOW_UP = "follow-up"
    FOCUSED = "focused"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class StatedRequest:
    """Why somebody wants an analysis, and what for; `None`: not said, "" nothing (any more)."""

    indication: str | None = None
    purpose: str | None = None


# --- what a model found ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its concept and UCUM unit; never a bare float. `value` is already rounded for reporting.

    `derivation` says how one number came from many (mean, maximum …), TID 300 row "Derivation".
    """

    name: Code
    value: float
    unit: Code
    derivation: Code | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _plain(self.value))

    @property
    def label(self) -> str:
        """What people read: the derivation before the concept, ``Mean Attenuation Coefficient``."""
        return f"{self.derivation.meaning} {self.name.meaning}" if self.derivation else self.name.meaning


@dataclass(frozen=True, slots=True)
class Withheld:
    """A number that is not reported, in place of its `Measurement`: `reason` is a code of `reasons`, `message` says
    in a sentence which number of what is withheld and why."""

    name: Code
    reason: str
    message: str
    derivation: Code | None = None

    @property
    def label(self) -> str:
        """What people would have read, as `Measurement.label`."""
        return f"{self.derivation.meaning} {self.name.meaning}" if self.derivation else self.name.meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A closed polygon on one source image, in the image's own pixel coordinates.

    `points_xy_px` are (column, row) pairs with 0,0 at the outer corner of the first pixel (PS3.3 C.18.6.1.2);
    first and last point are equal. `frame_number` counts from 1 and is set where the image has many frames.
    """

    sop_instance_uid: str
    points_xy_px: tuple[tuple[float, float], ...]
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing the model evaluated: every class it looked at, present or not.

    `key` is stable across runs of the same model (``left-lung``, ``pneumonia``) and seeds the tracking UID.
    `probability` is the model's score, 0..1, `None` when it gives none; `score` names what that number is where it is
    neither a probability nor an output of a classifier, such as a rank among others. `segment_number` ties the finding
    to a mask. `withheld` are numbers that would stand among `measurements`, and must not. `explanation_key` names the
    picture (see `analysis.Picture.key`) that shows why.
    """

    key: str
    label: str
    code: Code
    site: Code
    laterality: Code | None = None
    presence: Presence | None = None
    probability: float | None = None
    threshold: float | None = None
    score: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    region: Region | None = None
    segment_number: int | None = None
    explanation_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("probability", "threshold"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else _plain(number))


def _plain(number: float) -> float:
    """Return a number as Python's own: models give those of numpy, which JSON and HL7 do not know how to write."""
    return number if type(number) in (int, float) else float(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which algorithm answered; all of it is written into every object.

    `digest` is the sha256 over the model's weights and configuration; `device_uid` changes whenever it does
    (IHE AI Results). `parameters` are ``name=value`` texts such as ``threshold=0.5``.
    """

    name: str
    version: str
    manufacturer: str
    digest: str
    device_uid: str
    parameters: tuple[str, ...] = ()
    intended_use: str = ""
    limits: str = ""
    calibrated: bool = False


# --- what goes out -----------------------------------------------------------------------------------------------


class MediaType(StrEnum):
    """What objects are by their bytes (PS3.18 8.7.3, FHIR R4 2.1.0.6; HL7 v2 has none that is registered, this is the
    one of HL7 over HTTP); `ANY` is every one (RFC 9110 12.5.1)."""

    DICOM = "application/dicom"
    FHIR = "application/fhir+json"
    HL7 = "application/hl7-v2"
    ANY = "*/*"


class ArtifactKind(StrEnum):
    """The kinds of object the node produces. The order is the order of sending: what an SR refers to goes first."""

    SECONDARY_CAPTURE = "SC"
    SEGMENTATION = "SEG"
    PARAMETRIC_MAP = "PM"
    PRESENTATION_STATE = "GSPS"
    KEY_OBJECTS = "KOS"
    ENCAPSULATED_PDF = "PDF"
    STRUCTURED_REPORT = "SR"
    #: Says that an earlier object is withdrawn, so it goes when what replaces it has gone.
    REJECTION_NOTE = "REJECT"
    FHIR_BUNDLE = "FHIR"
    HL7_MESSAGE = "ORU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A finished object, its bytes kept under `object_key` and only ever re-sent, never rebuilt.

    `uid` is the SOP Instance UID, or for a FHIR Bundle or HL7 message one derived from the job and the output set it
    speaks of.
    `description` says what it shows (``Influence map: Pneumonia``); it never names the patient.
    `preview_key` finds a PNG of the picture, for the API.
    """

    uid: str
    kind: ArtifactKind
    media_type: str
    object_key: str
    sha256: str
    size_bytes: int
    order: int
    description: str = ""
    sop_class_uid: str = ""
    series_instance_uid: str = ""
    preview_key: str = ""
    #: Keys of the output sets it belongs to (see `outputs.OutputSet`); none: it goes wherever its kind is taken.
    output_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A DICOM object of the node: its kind, and its SOP Instance UID."""

    kind: ArtifactKind
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutResult:
    """What a receiver is told of the result that an object belongs to: UIDs, names, states and codes; no text that a
    person or a peer wrote, and of the patient nothing but the `accession_number`, for destinations that ask for it.

    `result` is the job key, `replaces` what the destination shows of the results that this one took the place of,
    `taken_back` what it shows of this line's withdrawn results.
    """

    study_instance_uid: str
    revision: int
    route: str
    model: str
    model_version: str
    model_digest: str
    result: str
    sequence: int
    state: JobState
    reason: str
    standing: ResultState
    replaces: tuple[ObjectName, ...] = ()
    taken_back: tuple[ObjectName, ...] = ()
    accession_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where results go; it `takes` objects of these media types, ``*/*`` being any.

    `output_key` is the key of the output set it gets, `bundle_key` that of the set its FHIR Bundle speaks of; empty:
    whatever is of a type it takes.
    """

    name: str
    takes: frozenset[str]
    output_key: str = ""
    bundle_key: str = ""

    def accepts(self, media_type: str) -> bool:
        """Tell whether it takes objects of this media type."""
        return media_type in self.takes or MediaType.ANY in self.takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which studies go to which model, how long to wait, and where the results go.

    `when` is a list of alternatives; each alternative maps attribute names to conditions that must all hold for
    one series (see `predicates`). `rank` orders the candidate series, best first (see `routing`).
    """

    name: str
    model: str
    destinations: tuple[str, ...]
    when: tuple[Mapping[str, object], ...] = ()
    rank: tuple[str, ...] = ()
    quiet_period_s: float = 30.0
    max_wait_s: float = 7200.0
    #: ``images``: as they say; otherwise ``stat``, ``high``, ``routine`` or ``low``.
    priority: str = "images"
    #: The route that this one shadows: run and compared, nothing delivered; empty for a route that delivers.
    shadow_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """What one run of one model on one study ended with, as it is stored.

    `state` is DONE, PARTIAL or NOT_ANALYSABLE. `summary` is the result as JSON-ready data for the API: findings,
    measurements, notes, model, stage times.
    """

    state: JobState
    reason: str = ""
    message: str = ""
    artifacts: tuple[Artifact, ...] = ()
    summary: Mapping[str, object] = field(default_factory=dict)
    #: Keys of the output sets it was made in.
    output_keys: tuple[str, ...] = ()
