"""What the acceptor can say: SOP classes, transfer syntaxes, reasons for rejecting and aborting. The conformance
statement's tables are written from here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

VERIFICATION = str(Verification)
STORAGE_COMMITMENT = str(StorageCommitmentPushModel)
STORAGE_COMMITMENT_INSTANCE = str(StorageCommitmentPushModelInstance)
STORAGE_SOP_CLASSES = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)

#: Accepted for storage, in the order in which one is chosen when a context proposes several: what needs no decoding
#: first. A small deflated data set can unfold to gigabytes, so none is offered.
TRANSFER_SYNTAXES = tuple(
    sorted(
        (str(syntax) for syntax in AllTransferSyntaxes if not syntax.is_deflated),
        key=lambda uid: (uid != "1.2.840.10008.1.2.1", uid != "1.2.840.10008.1.2"),
    )
)
#: For Verification and Storage Commitment, whose data sets are small.
PLAIN_TRANSFER_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


@dataclass(frozen=True, slots=True)
class Rejection:
    """An answer to A-ASSOCIATE-RQ (PS3.8 Table 9-21): result, source, reason, and why in words."""

    result: int
    source: int
    reason: int
    why: str


UNKNOWN_CALLER = Rejection(1, 1, 3, "calling AE title not recognised: it, its address or certificate is not listed")
UNKNOWN_CALLED = Rejection(1, 1, 7, "called AE title not recognised")
UNKNOWN_USER = Rejection(1, 1, 1, "user identity not accepted")
UNKNOWN_APPLICATION_CONTEXT = Rejection(1, 1, 2, "application context not supported")
UNKNOWN_PROTOCOL_VERSION = Rejection(1, 2, 2, "protocol version not supported")
CONGESTED = Rejection(2, 3, 1, "temporary congestion: less disk is free than the reserve")
TOO_MANY = Rejection(2, 3, 2, "local limit exceeded: too many associations, in all or of this peer")
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
