"""The whole exception tree. Every message says what happened, to what, and what to do.

NodeError
├── SettingsError            the configuration cannot be used
├── UnreadableObject         a file that `inspect` was given is no DICOM object, or damaged where it matters
├── RefusedObject            a received object that must not be acknowledged (carries the DIMSE status)
├── IndexUnavailable         the database does not answer; nothing is acknowledged meanwhile
├── SpoolUnavailable         the object store cannot be written (full, read-only)
├── ObjectDeleted            retention removed an object's file while the same object came again; it is written anew
├── ProviderAway             the OpenID provider does not answer as it should; ask again later
├── SignInDenied             the OpenID provider does not vouch for whoever signs in, or gives them no role here
│   └── GrantEnded           … any more: they were signed out there, or what they were granted was taken back
├── BackupFault              a backup cannot be made, is damaged, or cannot be put back where it was asked to
├── TimeUnavailable          a time server does not tell the time, or not so that it can be believed
├── AuditUnavailable         an act cannot be written into the audit trail and is refused
├── NotFound                 a study, job, delivery or model that the operator named does not exist
├── Conflict                 what is asked does not fit what is there: a name that is taken, the last administrator
│   ├── AlreadyReviewed      … somebody has decided on the result
│   ├── BeingReviewed        … somebody else is reviewing the result at this moment
│   └── NotReviewable        … the result holds no more, or is none that a person decides on
├── ReviewRefused            a decision on a result that says what cannot be: a number without end, a point outside
├── AccountRefused           a new name, role or password that cannot be taken
├── SignInDelayed            a sign-in that is not looked at now (carries the wait)
├── IllegalTransition        a state change that `lifecycle` does not allow
├── InferenceError           a model run that failed and may be tried again
│   ├── ModelUnavailable     the model folder is missing, altered or not usable here
│   └── WorkerDied           the worker process crashed, ran out of time or out of memory
├── ReportInvalid            a report the node built breaks its own standard and must not leave
├── NotAnalysable            a study the model must not answer for (carries a coded reason); a result, not a fault
├── SourceDamaged            the disk holds other bytes of images than came; the study is told so
├── RetrieveError            a study could not be fetched from a PACS
│   ├── SourceUnavailable    the PACS does not answer, or fell silent in the middle; ask again later
│   │   └── SourceFault      it answers, with an error of its own; one object may be the reason
│   ├── SourceRefused        the PACS says no; a human must change something first
│   │   └── QueryRefused     … to a query (carries the DIMSE status)
│   ├── NoRoomLeft           the node itself cannot store what comes: disk full, database away
│   └── RetrievalStopped     the node was stopped during the retrieval
└── DeliveryError
    ├── DeliveryDeferred     the destination cannot take it now; try again later
    │   ├── DestinationAway      … nor anything else: nobody answers there
    │   ├── DestinationBusy      … nor anything else: it asks to be left in peace for a time
    │   └── CredentialsRefused   … nor anything else: it does not let this node in until a person has seen to it
    │       └── SignInRefused        … whatever is sent: who the node is is not known there, or not believed
    ├── DeliveryRefused      the destination will never take it as it is; park it for a human
    │   └── ClassRefused     … since it takes no objects of this SOP class at all; another may do
    └── QueryNotOffered      the destination cannot be asked what it has; what is sent does not depend on it
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path


class StoreStatus(IntEnum):
    """Answers to C-STORE (PS3.4 Table B.2-1 and PS3.7 Annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class NodeError(Exception):
    """Base of every error the node raises on purpose."""


class SettingsError(NodeError):
    """The configuration cannot be used."""


class UnreadableObject(NodeError):
    """A file that somebody wants to look into is no DICOM object, or is damaged where it matters."""


class RefusedObject(NodeError):
    """A received object that must not be acknowledged; `status` is the DIMSE status to answer (PS3.4 GG.4)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class IndexUnavailable(NodeError):
    """The database does not answer; received studies stay with their sender until it does."""


class BackupFault(NodeError):
    """A backup cannot be made, is damaged, or cannot be put back where it was asked to."""


class TimeUnavailable(NodeError):
    """A time server does not tell the time; `kiss` is the code by which it asks to be left alone, if it does."""

    def __init__(self, message: str, kiss: str = "") -> None:
        super().__init__(message)
        self.kiss = kiss


class AuditUnavailable(NodeError):
    """An act cannot be written into the audit trail; acts by people are refused until it can."""


class SpoolUnavailable(NodeError):
    """The object store cannot be written."""


class ObjectDeleted(NodeError):
    """The file of an object that is being entered was deleted a moment ago, with its study: write it again."""


class ProviderAway(NodeError):
    """The OpenID provider does not answer, or not as it should; asking again later may help."""


class SignInDenied(NodeError):
    """The OpenID provider does not vouch for whoever signs in, or they have no role here."""


class AnotherSignIn(SignInDenied):
    """The OpenID provider answers a sign-in that was begun before the present one, or in another browser."""


class GrantEnded(SignInDenied):
    """The OpenID provider does not vouch for somebody any more: signed out there, or taken back."""


class NotFound(NodeError):
    """What the operator named does not exist."""


class Conflict(NodeError):
    """What is asked does not fit what is there: a name that is taken, the last administrator."""


class ChangedMeanwhile(Conflict):
    """Somebody else has changed it since it was looked at."""


class AlreadyReviewed(Conflict):
    """Somebody has decided on the result before."""


class BeingReviewed(Conflict):
    """Somebody else is reviewing the result at this moment."""


class NotReviewable(Conflict):
    """The result holds no more, or it is none that a person decides on."""


class ReviewRefused(NodeError):
    """A decision on a result that says what cannot be, or does not say what it must."""


class AccountRefused(NodeError):
    """A new name, role or password that cannot be taken."""


class SignInDelayed(NodeError):
    """A sign-in that is not looked at now: too many failed, or too many are looked at."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class IllegalTransition(NodeError):
    """A state change that the lifecycle does not allow."""


class InferenceError(NodeError):
    """A model run that failed and may be tried again."""


class ModelUnavailable(InferenceError):
    """The model folder is missing, altered, or not usable on this machine."""


class WorkerDied(InferenceError):
    """The worker process crashed, ran out of time, or ran out of memory."""


class ReportInvalid(NodeError):
    """A report the node built breaks its own standard and must not leave; the message names element and fault."""


class NotAnalysable(NodeError):
    """The study must not be answered by this model; `reason` is a short stable code such as ``GAP_IN_SERIES``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CannotClean(NodeError):
    """Pixel data that cannot be made to say nothing but the picture, so that it does not leave; repeats no value."""


class SourceDamaged(NodeError):
    """Files of images that an analysis was to read hold other bytes than came; `paths` names them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(f"{len(paths)} stored images are damaged.")
        self.paths = tuple(paths)


class RetrieveError(NodeError):
    """A study could not be fetched from a PACS, or not all of it."""


class SourceUnavailable(RetrieveError):
    """The PACS does not answer, or fell silent in the middle; asking again later may help."""


class SourceFault(SourceUnavailable):
    """The PACS is there and answers with an error of its own; one object may be the reason."""


class SourceRefused(RetrieveError):
    """The PACS says no; a human must change something first."""


class QueryRefused(SourceRefused):
    """The PACS answers a query with a failure; `status` is its DIMSE status (PS3.4 C.4.1.1.4)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoRoomLeft(RetrieveError):
    """The node itself cannot store what comes: its disk is full or its database away."""


class RetrievalStopped(RetrieveError):
    """The node was stopped while a study was being fetched."""


class DeliveryError(NodeError):
    """A delivery attempt did not succeed."""


class DeliveryDeferred(DeliveryError):
    """The destination cannot take the object now. `retry_after_s` is the destination's own wish, if it named one.

    `most_attempts`: after so many for this object it is refused, for the destination has answered each; `None`: never.
    `may_have_arrived`: something of the object was sent before this happened, so it must be taken back if it holds no
    more, whoever is to blame.
    """

    may_have_arrived = False

    def __init__(self, message: str, retry_after_s: float | None = None, *, most_attempts: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.most_attempts = most_attempts


class DestinationAway(DeliveryDeferred):
    """Nobody answers at the destination: that is no fault of the object, and no other object would fare better."""


class DestinationBusy(DeliveryDeferred):
    """The destination asks for a time without requests; no other object would fare better."""


class CredentialsRefused(DeliveryDeferred):
    """The destination does not accept who the node says it is, or does not let it do this; nothing is sent to it
    until a person has put that right."""


class SignInRefused(CredentialsRefused):
    """The destination, or the server that vouches for the node there, does not know or believe who the node is. What
    was to be sent has no part in that."""


class DeliveryRefused(DeliveryError):
    """The destination will never take the object as it is; a human must change something first."""


class ClassRefused(DeliveryRefused):
    """The destination takes no objects of this SOP class; the result may be made in another."""


class QueryNotOffered(DeliveryError):
    """The destination does not say what it has: it knows no such query, or does not allow it to this node."""


def fault_told(error: BaseException) -> str:
    """Return what the operating system or TLS says behind the error of a connection, else its type.

    A library's own words may quote what the peer sent (h11 quotes the line that it cannot read), and a peer that fails
    may well be repeating the patient.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def tls_fault_told(error: BaseException) -> str:
    """Return what TLS says behind the error of a web connection, and what to do; empty where TLS is not the reason.

    Under TLS 1.3 a server refuses a certificate, or the lack of one, only after the handshake (RFC 8446 4.4.2.4): what
    fails then is the first read.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"shows a certificate that does not hold: {cause.verify_message.rstrip('.')}. Check who signed it "
                "(ca), its dates, and the name that it bears (url)"
            )
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return (
                f"ended TLS ({cause.reason}). Show it a certificate of this node (client_certificate), signed by an "
                "authority that it knows"
            )
        cause = cause.__cause__ or cause.__context__
    return ""
