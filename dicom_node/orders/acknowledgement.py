"""What is answered to a message: original and enhanced acknowledgement (HL7 v2.5.1 2.9.2, 2.9.3)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.orders.hl7_message import Hl7Segment, MessageRefused

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})(?:-(\d+))?")
#: The names of table 0357 that go with the codes which this node gives.
_CONDITIONS = {
    "0": "Message accepted", "100": "Segment sequence error", "101": "Required field missing",
    "102": "Data type error", "103": "Table value not found", "200": "Unsupported message type",
    "201": "Unsupported event code", "202": "Unsupported processing id", "203": "Unsupported version id",
    "204": "Unknown key identifier", "205": "Duplicate key identifier", "207": "Application internal error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Acknowledger:
    """Whom the answers are from: MSH-3 and MSH-4."""

    application: str
    facility: str = ""


def acknowledgements(
    header: Hl7Segment | None, refused: MessageRefused | None, speaker: Acknowledger
) -> Sequence[bytes]:
    """Return what goes back: one answer, or in enhanced mode those of the two that MSH-15 and MSH-16 ask for.

    `header` is the MSH segment of the message (`None`: it has none), `refused` why it was not taken.
    """
    accept, application = (header.value(15), header.value(16)) if header else ("", "")
    if not (accept or application):
        return [_answer("A", header, refused, speaker)]
    wanted = [("C", accept), ("A", application)]
    return [_answer(kind, header, refused, speaker) for kind, when in wanted if _is_wanted(when.upper(), refused)]


def _is_wanted(when: str, refused: MessageRefused | None) -> bool:
    """Tell it by table 0155: always, never, on error or reject, on success; what is not said is never."""
    return when == "AL" or (when == "ER" and refused is not None) or (when == "SU" and refused is None)


def _answer(kind: str, header: Hl7Segment | None, refused: MessageRefused | None, speaker: Acknowledger) -> bytes:
    how = "A" if refused is None else "R" if refused.is_final else "E"
    control_id = header.value(10) if header else ""
    lines = [_header(header, speaker), _fields("MSA", kind + how, control_id, str(refused or ""))]
    if refused is not None:
        lines.append(_error(refused))
    return "".join(f"{line}\r" for line in lines).encode("utf-8")


def _header(header: Hl7Segment | None, speaker: Acknowledger) -> str:
    def said(field: int, component: int = 1) -> str:
        return header.value(field, component) if header else ""

    event = _escaped(said(9, 2))
    kind = f"ACK^{event}^ACK" if event else "ACK"
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
    addressed = [speaker.application, speaker.facility, said(3), said(4), now, ""]
    beside = [uuid.uuid4().hex[:20], said(11) or "P", said(12) or "2.5.1", "", "", "", "", "", "UNICODE UTF-8"]
    return "|".join(["MSH|^~\\&", *map(_escaped, addressed), kind, *map(_escaped, beside)])


def _error(refused: MessageRefused) -> str:
    """Return the ERR segment of v2.5: where (ERR-2), the condition (ERR-3), its severity, and what to do (ERR-8)."""
    place = _PLACE.fullmatch(refused.place)
    where = f"{place[1]}^1^{place[2] or ''}".rstrip("^") if place else ""
    condition = f"{refused.code}^{_CONDITIONS.get(refused.code, '')}^HL70357"
    return "|".join(["ERR", "", where, condition, "E", "", "", "", _escaped(str(refused))])


def _fields(*values: str) -> str:
    return "|".join(map(_escaped, values))


def _escaped(text: str) -> str:
    for mark, name in (("\\", "E"), ("|", "F"), ("^", "S"), ("~", "R"), ("&", "T")):
        text = text.replace(mark, f"\0{name}\0")
    return text.replace("\0", "\\").replace("\r", " ").replace("\n", " ")
