"""What goes out: objects, where they go and by which route, and what a run ended with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dicom_node.core.drift.features import Features
from dicom_node.core.entities.states import JobState, ResultState


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
    #: What is kept to see drift; empty where no model was asked.
    features: Features = field(default_factory=dict)
