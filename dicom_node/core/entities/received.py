"""What was received: objects, series, studies, and who sent them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dicom_node.core.entities.states import InstanceRole, StudyState


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
