"""The tables of the conformance statement, written from the code that negotiates and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

from pydicom.uid import UID
from pynetdicom.sop_class import _STORAGE_CLASSES

from dicom_node.core.errors import ClassRefused, CredentialsRefused, DeliveryRefused
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.dimse.dicom_file import UNCOMPRESSED
from dicom_node.dimse.retrieve_scu import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dicom_node.dimse.statuses import error_of, note_of
from dicom_node.dimse.vocabulary import (
    ACTION_ANSWERS,
    EVENT_ANSWERS,
    PLAIN_TRANSFER_SYNTAXES,
    REJECTIONS,
    STORAGE_COMMITMENT,
    STORAGE_SOP_CLASSES,
    STORE_ANSWERS,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    AbortReason,
)
from dicom_node.receive.commitment import FailureReason

#: What a Storage SCP may answer (PS3.4 Table B.2-1, PS3.7 Annex C): one of each range, and every warning.
_STORE_ANSWERS = (
    0x0000, 0x0001, 0x0107, 0x0110, 0x0111, 0x0116, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212,
    0x0213, 0xA700, 0xA900, 0xB000, 0xB006, 0xB007, 0xC000,
)  # fmt: skip
_SERVICES = (
    (VERIFICATION, "SCP, SCU", PLAIN_TRANSFER_SYNTAXES, "C-ECHO"),
    (
        STORAGE_COMMITMENT,
        "SCP, SCU",
        PLAIN_TRANSFER_SYNTAXES,
        "N-ACTION; N-EVENT-REPORT on that or on a new association",
    ),
    (
        STUDY_ROOT_FIND,
        "SCU",
        UNCOMPRESSED,
        "C-FIND of studies, series and instances to fetch; of one study, before its result is sent; of what was sent, "
        "whether it is there",
    ),
    (STUDY_ROOT_GET, "SCU", UNCOMPRESSED, "C-GET; the node is SCP of Storage in it, by role selection"),
    (STUDY_ROOT_MOVE, "SCU", UNCOMPRESSED, "C-MOVE with the node itself as destination"),
)


def services() -> str:
    """The SOP classes beside Storage, and what the node is in each."""
    rows = (
        [UID(uid).name, f"`{uid}`", role, ", ".join(UID(syntax).name for syntax in syntaxes), use]
        for uid, role, syntaxes, use in _SERVICES
    )
    return _table(["SOP class", "UID", "role", "transfer syntaxes", "used for"], rows)


def storage_sop_classes() -> str:
    """The storage SOP classes the node takes."""
    known = sorted((_name(uid), uid) for uid in STORAGE_SOP_CLASSES)
    return _table(["SOP class", "UID"], ([name, f"`{uid}`"] for name, uid in known))


def sent_sop_classes() -> str:
    """The storage SOP classes of results."""
    return _table(["SOP class", "UID"], ([_name(uid), f"`{uid}`"] for uid in RESULT_CLASSES))


def transfer_syntaxes() -> str:
    """The transfer syntaxes the listener accepts for every storage SOP class."""
    return _table(["transfer syntax", "UID"], ([UID(uid).name, f"`{uid}`"] for uid in TRANSFER_SYNTAXES))


def store_statuses() -> str:
    """What a C-STORE is answered with."""
    return _table(["status", "name", "when"], ([_hex(one), _words(one), when] for one, when in STORE_ANSWERS.items()))


def action_statuses() -> str:
    """What the N-ACTION of Storage Commitment is answered with."""
    return _table(["status", "name", "when"], ([_hex(one), _words(one), when] for one, when in ACTION_ANSWERS.items()))


def event_statuses() -> str:
    """What a report on a storage commitment that the node asked for is answered with."""
    return _table(["status", "name", "when"], ([_hex(one), _words(one), when] for one, when in EVENT_ANSWERS.items()))


def failure_reasons() -> str:
    """Failure Reason (0008,1197) of objects that are not committed."""
    return _table(["reason", "name"], ([_hex(one), _words(one)] for one in FailureReason))


def rejections() -> str:
    """The answers to an A-ASSOCIATE-RQ that is not accepted."""
    rows = ([str(one.result), str(one.source), str(one.reason), one.why] for one in REJECTIONS)
    return _table(["result", "source", "reason", "why"], rows)


def aborts() -> str:
    """The reasons with which the node aborts, source 2."""
    return _table(["reason", "name"], ([str(int(one)), _words(one)] for one in AbortReason))


def answers_to_results() -> str:
    """What the node makes of the answers to its own C-STORE."""
    return _table(
        ["status of the receiver", "what the node makes of it"], ([_hex(c), _made_of(c)] for c in _STORE_ANSWERS)
    )


def _name(uid: str) -> str:
    """Return the name of a SOP class; the dictionary of pydicom lags behind that of pynetdicom."""
    name = UID(uid).name
    if name != uid:
        return name
    keyword = next(keyword for keyword, known in _STORAGE_CLASSES.items() if known == uid)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword)


def _made_of(status: int) -> str:
    error = error_of(status, "", "")
    if error is None:
        return f"delivered: {note_of(status)}"
    if isinstance(error, CredentialsRefused):
        return "the destination is suspended until it lets the node in"
    if isinstance(error, ClassRefused):
        return "parked with the reason; the job is queued again for what the receiver takes, if it may"
    return "parked with the reason" if isinstance(error, DeliveryRefused) else "tried again later, without end"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(heads)}", *lines[1:]])


def _hex(status: int) -> str:
    return f"`0x{status:04X}`"


def _words(one: IntEnum) -> str:
    return one.name.replace("_", " ").lower()
