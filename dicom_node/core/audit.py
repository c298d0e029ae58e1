"""What is kept of an act that touches patients' data or the node's safety: who, from where, what, on what, its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dicom_node.core.principal import Principal


class AuditedAct(StrEnum):
    """The acts that are audited."""

    APPLICATION_STARTED = "application-started"
    APPLICATION_STOPPED = "application-stopped"
    SETTINGS_IN_FORCE = "settings-in-force"
    #: Somebody had the settings read again; what changed, or why nothing did.
    SETTINGS_RELOADED = "settings-reloaded"
    SIGN_IN = "sign-in"
    SIGN_OUT = "sign-out"
    ACCOUNT_CHANGED = "account-changed"
    KEY_CHANGED = "key-changed"
    ACCESS_REFUSED = "access-refused"
    ASSOCIATION_REFUSED = "association-refused"
    STUDY_RECEIVED = "study-received"
    STUDY_SENT = "study-sent"
    STUDY_IMPORTED = "study-imported"
    STUDY_RETRIEVED = "study-retrieved"
    RESULT_READ = "result-read"
    IMAGES_READ = "images-read"
    HISTORY_READ = "history-read"
    QUERY = "query"
    EXPORT = "export"
    RETRY = "retry"
    RERUN = "rerun"
    WITHDRAWAL = "withdrawal"
    DISCARD = "discard"
    #: A person keeps a study, or lets it go; asks for what the rules say to be deleted now; and what was deleted.
    HOLD = "hold"
    RELEASE = "release"
    PURGE = "purge"
    DELETION = "deletion"
    REVIEW = "review"
    MODEL_DECISION = "model-decision"
    #: A person suspended or resumed a destination; or a route, or wrote it anew.
    DESTINATION_CHANGED = "destination-changed"
    ROUTE_CHANGED = "route-changed"
    #: A person knows of an alarm.
    ALARM_ACKNOWLEDGED = "alarm-acknowledged"
    AUDIT_READ = "audit-read"
    #: Somebody stands for a trail that is older than its anchor: a backup was put back.
    AUDIT_ACCEPTED = "audit-accepted"
    #: Acts of care that nobody could write down, nor keep for later.
    AUDIT_GAP = "audit-gap"


class AuditOutcome(StrEnum):
    """How it ended; the values are those of EventOutcomeIndicator (DICOM PS3.15 A.5.2)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedEvent:
    """One act. `detail` holds identifiers, counts and reasons in the node's words, never a patient's name."""

    act: AuditedAct
    actor: Principal
    #: Network address of whoever acted; "" for the node itself and for the command line.
    address: str = ""
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    study_instance_uid: str = ""
    #: PatientID and its issuer, as the study has them.
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    #: What else there is to say. The trail adds `roles`, those of whoever acted; those that somebody gets are `given`.
    detail: Mapping[str, object] = field(default_factory=dict)


class Audit(Protocol):
    """Where acts are written down."""

    def record(self, event: AuditedEvent) -> None:
        """Write one act down, durably. Raises `AuditUnavailable`; an act by a person is then refused."""

    def note(self, event: AuditedEvent, key: str = "") -> None:
        """Write down what the node or a peer did, now or when it can be; never raises, for care goes on.

        What is told again under the same key is written down once.
        """

    @property
    def fault(self) -> str:
        """Why nothing can be written down at this moment, "" when it can."""
        ...
