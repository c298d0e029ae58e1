"""Let nothing out but what the builders of this package make: the process that wrote a message also ran a model's code,
which must not act with the node's name.
"""

from __future__ import annotations

import re

import hl7

from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.hl7.grammar import CHARACTER_SET, MESSAGE_TYPE, VERSION, coded, read, value
from dicom_node.fhir.hl7.message import control_id
from dicom_node.fhir.hl7.observations import NOTICE, REVIEWED, WITHDRAWN
from dicom_node.fhir.hl7.order import CORRECTED, PRELIMINARY, VERIFIED

#: A message with a long report as PDF; nothing of the node comes near it.
LONGEST_BYTES = 32 * 1024 * 1024
_ORDER = re.compile(r"MSH PID ORC OBR( OBX)+")
_TYPES = frozenset({"TX", "CWE", "NM", "HD", "ED"})
#: Whoever may not occur: a frame's ends would begin a message of their own (MLLP), NUL ends text for some receivers.
_UNWANTED = re.compile(r"[\x00-\x0c\x0e-\x1f\x7f]")
#: MSH-3, MSH-4 and the fields that every message has; OBR and OBX fields that no builder sets are a physician's.
_MSH_FIELDS = frozenset({0, 1, 2, 3, 4, 7, 9, 10, 11, 12, 18})
_PID_FIELDS = frozenset({0, 1, 3, 5, 7, 8})
_ORC_FIELDS = frozenset({0, 1, 2, 3})
_OBR_FIELDS = frozenset({0, 1, 2, 3, 4, 7, 18, 22, 24, 25, 27, 31, 32, 33})
_OBX_FIELDS = frozenset({0, 1, 2, 3, 4, 5, 6, 11, 14, 16, 17, 18, 19, 23})
#: Who answers for a result: only where somebody does.
_READERS = {"OBR": (32, 33), "OBX": (16,)}
_ALLOWED = {"MSH": _MSH_FIELDS, "PID": _PID_FIELDS, "ORC": _ORC_FIELDS, "OBR": _OBR_FIELDS, "OBX": _OBX_FIELDS}


def checked(data: bytes, uid: str) -> str:
    """Return the message that is kept as the object `uid`. Raises `ReportInvalid` for what the node does not make."""
    try:
        text = data.decode("utf-8") if len(data) <= LONGEST_BYTES else ""
    except UnicodeDecodeError:
        text = ""
    if not text or _UNWANTED.search(text):
        raise ReportInvalid("It is no text of HL7 v2, or too long for one.")
    found = read(text)
    if not _ORDER.fullmatch(" ".join(str(one[0]) for one in found)) or str(found) != text:
        raise ReportInvalid("It has other segments than a result of the node.")
    _check_header(found.segment("MSH"), uid)
    said = value(found.segments("OBX")[0], 3)
    if said not in {coded(NOTICE), coded(REVIEWED), coded(WITHDRAWN)}:
        raise ReportInvalid("It does not begin by saying whether anybody has verified this AI result.")
    _check_standing(found, said)
    for one in found:
        _check_segment(one, value(found.segment("OBR"), 25))
    return text


def require_unreviewed(data: bytes, uid: str) -> None:
    """Raise `ReportInvalid` for a message that a person answers for, and for any that `checked` refuses."""
    if value(read(checked(data, uid)).segment("OBR"), 25) != PRELIMINARY:
        raise ReportInvalid("It says that a person answers for it, and no person has reviewed it.")


def _check_standing(found: hl7.Message, said: str) -> None:
    """A result is final when it names who verified it, and never otherwise; what is taken back may have been either."""
    request = found.segment("OBR")
    allowed: dict[str, frozenset[str]] = {
        coded(NOTICE): frozenset({PRELIMINARY}),
        coded(REVIEWED): VERIFIED,
        coded(WITHDRAWN): frozenset({PRELIMINARY, CORRECTED}),
    }
    if value(request, 25) not in allowed[said]:
        raise ReportInvalid("It calls itself something other than what it begins by saying.")
    if bool(value(request, 32)) != (value(request, 25) in VERIFIED):
        raise ReportInvalid("It is final without a name, or names somebody who has not verified it.")


def _check_header(msh: hl7.Segment, uid: str) -> None:
    stated = [str(value(msh, number)) for number in (2, 9, 10, 11, 12, 18)]
    if stated != [r"^~\&", MESSAGE_TYPE, control_id(uid), "P", VERSION, CHARACTER_SET]:
        raise ReportInvalid("Its header is not that of the result it is kept as.")


def _check_segment(found: hl7.Segment, status: str) -> None:
    name = str(found[0])
    if any(str(one) for number, one in enumerate(found) if number not in _ALLOWED[name]):
        raise ReportInvalid(f"It fills a field of {name} that the node leaves empty.")
    if name == "ORC" and value(found, 1) != "RE":
        raise ReportInvalid("It gives an order.")
    if status == PRELIMINARY and any(value(found, number) for number in _READERS.get(name, ())):
        raise ReportInvalid("It names a person who answers for what nobody has verified.")
    if name == "OBX":
        _check_observation(found, status)


def _check_observation(found: hl7.Segment, status: str) -> None:
    if value(found, 2) not in _TYPES or value(found, 11) != status:
        raise ReportInvalid("One of its observations has another status, or a type that the node does not use.")
    if value(found, 2) == "ED" and not value(found, 5).startswith("^application^pdf^Base64^"):
        raise ReportInvalid("It holds a document that is no PDF.")
