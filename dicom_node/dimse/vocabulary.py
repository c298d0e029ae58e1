"""What is said on associations: SOP classes, transfer syntaxes, reasons for rejecting and aborting.

The tables of the conformance statement are written from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from dicom_node.core.errors import StoreStatus

#: DICOM Application Context (PS3.7 A.2.1).
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = str(Verification)
STORAGE_COMMITMENT = str(StorageCommitmentPushModel)
STORAGE_COMMITMENT_INSTANCE = str(StorageCommitmentPushModelInstance)
STORAGE_SOP_CLASSES = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)

#: Accepted for storage and asked for when studies are fetched, in order of worth: all that the node decodes, and no
#: other, so that what was taken can be read (a test decodes an image in each). Deflated is left out although it could
#: be: a small data set can unfold to gigabytes.
TRANSFER_SYNTAXES = tuple(
    str(syntax)
    for syntax in (
        ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, JPEGBaseline8Bit,
        RLELossless, JPEG2000, JPEGLSLossless, JPEGExtended12Bit, JPEGLossless, JPEGLSNearLossless, HTJ2KLossless,
        HTJ2KLosslessRPCL, HTJ2K, ExplicitVRBigEndian,
    )
)  # fmt: skip
#: For Verification and Storage Commitment, whose data sets are small.
PLAIN_TRANSFER_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


class ActionStatus(IntEnum):
    """Answers to the N-ACTION of Storage Commitment (PS3.7 10.1.4.1.10)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_ACTION = 0x0123
    RESOURCE_LIMITATION = 0x0213


class EventStatus(IntEnum):
    """Answers to the N-EVENT-REPORT of Storage Commitment (PS3.7 10.1.1.1.8)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_EVENT_TYPE = 0x0113


#: All committed, and failures exist (PS3.4 J.3.3).
COMMITMENT_EVENTS = frozenset({1, 2})

#: When each answer is given, and what the sender can do.
STORE_ANSWERS: Mapping[StoreStatus, str] = {
    StoreStatus.SUCCESS: "The object is durable and will be in the index after any crash; also for an object that is "
    "there already with the same bytes.",
    StoreStatus.PROCESSING_FAILURE: "A fault of the node; its log says more. Send again.",
    StoreStatus.SOP_CLASS_NOT_SUPPORTED: "The presentation context was agreed for another SOP class than the command "
    "names.",
    StoreStatus.OUT_OF_RESOURCES: "Less disk is free than the reserve, the journal is full, or disk or database cannot "
    "be written. Send again later.",
    StoreStatus.DATA_SET_DOES_NOT_MATCH: "SOP Class or Instance UID differ between command and data set. Sending again "
    "does not help.",
    StoreStatus.CANNOT_UNDERSTAND: "No data set, not parseable, cut off, nested too deeply, or without valid SOP, "
    "Study and Series UIDs. Sending again does not help.",
}
ACTION_ANSWERS: Mapping[ActionStatus, str] = {
    ActionStatus.SUCCESS: "The request is durable; its outcome follows.",
    ActionStatus.PROCESSING_FAILURE: "A fault of the node; its log says more. Ask again.",
    ActionStatus.NO_SUCH_ACTION: "Action Type ID other than 1, Request Storage Commitment.",
    ActionStatus.RESOURCE_LIMITATION: "The request names more than about 5,000 objects, or nothing can be written now: "
    "ask for fewer at once, or later.",
}

EVENT_ANSWERS: Mapping[EventStatus, str] = {
    EventStatus.SUCCESS: "What follows from the report is durable; the same report again changes nothing.",
    EventStatus.PROCESSING_FAILURE: "The node awaits no report on this Transaction UID, cannot read the report, or "
    "cannot note it now.",
    EventStatus.NO_SUCH_EVENT_TYPE: "Event Type ID other than 1 and 2.",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """An answer to A-ASSOCIATE-RQ (PS3.8 Table 9-21): result, source, reason, why in words, and what counts call it."""

    result: int
    source: int
    reason: int
    why: str
    code: str


UNKNOWN_CALLER = Rejection(1, 1, 3, "calling AE title not recognised: it, its address or certificate is not listed",
                           "unknown-caller")  # fmt: skip
UNKNOWN_CALLED = Rejection(1, 1, 7, "called AE title not recognised", "unknown-called")
UNKNOWN_USER = Rejection(1, 1, 1, "user identity not accepted", "unknown-user")
UNKNOWN_APPLICATION_CONTEXT = Rejection(1, 1, 2, "application context not supported", "malformed")
UNKNOWN_PROTOCOL_VERSION = Rejection(1, 2, 2, "protocol version not supported", "malformed")
CONGESTED = Rejection(2, 3, 1, "temporary congestion: less disk is free than the reserve", "disk")
TOO_MANY = Rejection(2, 3, 2, "local limit exceeded: too many associations, in all or of this peer",
                     "too-many")  # fmt: skip
REJECTIONS = (
    UNKNOWN_CALLER, UNKNOWN_CALLED, UNKNOWN_USER, UNKNOWN_APPLICATION_CONTEXT, UNKNOWN_PROTOCOL_VERSION, CONGESTED,
    TOO_MANY,
)  # fmt: skip


class AbortReason(IntEnum):
    """A-ABORT of the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class PduType(IntEnum):
    """The PDUs of PS3.8 9.3."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7
