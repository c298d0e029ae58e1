"""The schema of audit messages, PS3.15 A.5.1, transcribed from its RELAX NG: what may be in which element, in order."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from xml.etree import ElementTree as ET

_TOKEN = r"\S(.*\S)?"
_CODE = {"csd-code": _TOKEN, "codeSystemName": _TOKEN, "displayName?": _TOKEN, "originalText": _TOKEN}
_TIME, _BASE64 = "time", "base64"


@dataclass(frozen=True)
class Rule:
    """Attributes by name with their pattern (`?`: may be absent), and children in order with how many there may be."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[tuple[str, str], ...] = ()
    text: str = ""


RULES: Mapping[str, Rule] = {
    "AuditMessage": Rule({}, (
        ("EventIdentification", "1"), ("ActiveParticipant", "+"), ("AuditSourceIdentification", "1"),
        ("ParticipantObjectIdentification", "*"),
    )),
    "EventIdentification": Rule(
        {"EventActionCode?": "[CRUDE]", "EventDateTime": _TIME, "EventOutcomeIndicator": "0|4|8|12"},
        (("EventID", "1"), ("EventTypeCode", "*"), ("EventOutcomeDescription", "?")),
    ),
    "EventID": Rule(_CODE), "EventTypeCode": Rule(_CODE), "RoleIDCode": Rule(_CODE),
    "ParticipantObjectIDTypeCode": Rule(_CODE),
    "EventOutcomeDescription": Rule(text=".*"),
    "ActiveParticipant": Rule(
        {"UserID": ".*", "AlternativeUserID?": ".*", "UserName?": ".*", "UserIsRequestor": "true|false|1|0",
         "NetworkAccessPointID?": _TOKEN, "NetworkAccessPointTypeCode?": "[1-5]"},
        (("RoleIDCode", "*"), ("MediaIdentifier", "?")),
    ),
    "AuditSourceIdentification": Rule(
        {"AuditEnterpriseSiteID?": _TOKEN, "AuditSourceID": _TOKEN}, (("AuditSourceTypeCode", "*"),)
    ),
    "AuditSourceTypeCode": Rule({"csd-code": _TOKEN, **{f"{key}?": _TOKEN for key in ("codeSystemName", "displayName",
                                                                                  "originalText")}}),
    "ParticipantObjectIdentification": Rule(
        {"ParticipantObjectID": _TOKEN, "ParticipantObjectTypeCode?": "[1-4]",
         "ParticipantObjectTypeCodeRole?": "[1-9]|1[0-9]|2[0-6]", "ParticipantObjectDataLifeCycle?": "[1-9]|1[0-5]",
         "ParticipantObjectSensitivity?": _TOKEN},
        (("ParticipantObjectIDTypeCode", "1"), ("ParticipantObjectName", "?"), ("ParticipantObjectQuery", "?"),
         ("ParticipantObjectDetail", "*"), ("ParticipantObjectDescription", "*"), ("MPPS", "*"), ("Accession", "*"),
         ("SOPClass", "*"), ("ParticipantObjectContainsStudy", "?"), ("Encrypted", "?"), ("Anonymized", "?")),
    ),
    "ParticipantObjectName": Rule(text=_TOKEN), "ParticipantObjectQuery": Rule(text=_BASE64),
    "ParticipantObjectDetail": Rule({"type": _TOKEN, "value": _BASE64}),
    "SOPClass": Rule({"UID?": _TOKEN, "NumberOfInstances": "[0-9]+"}, (("Instance", "*"),)),
}  # fmt: skip


def faults(message: bytes) -> list[str]:
    """Return what the schema does not allow in a message; nothing for a valid one."""
    root = ET.fromstring(message)
    return list(_faults(root)) if root.tag == "AuditMessage" else [f"the root is {root.tag}"]


def _faults(element: ET.Element) -> Iterator[str]:
    rule = RULES.get(element.tag)
    if rule is None:
        yield f"{element.tag} is no element of the schema"
        return
    patterns = {name.rstrip("?"): pattern for name, pattern in rule.attributes.items()}
    yield from (f"{element.tag} lacks {name}" for name in rule.attributes
                if not name.endswith("?") and name not in element.attrib)  # fmt: skip
    for name, value in element.attrib.items():
        if name not in patterns or not _fits(value, patterns[name]):
            yield f"{element.tag} has {name}={value!r}"
    if not _fits(element.text or "", rule.text):
        yield f"{element.tag} has the text {element.text!r}"
    order = "".join(f"({name} ){'' if many == '1' else many}" for name, many in rule.children)
    found = "".join(f"{child.tag} " for child in element)
    if not re.fullmatch(order, found):
        yield f"{element.tag} holds {found!r}, not {order!r}"
    if element.tag == "ParticipantObjectIdentification" and {"ParticipantObjectName", "ParticipantObjectQuery"} <= {
        child.tag for child in element
    }:
        yield "a participant object has a name and a query"
    for child in element:
        yield from _faults(child)


def _fits(value: str, pattern: str) -> bool:
    if pattern == _TIME:
        return datetime.fromisoformat(value).tzinfo is not None
    if pattern == _BASE64:
        return bool(value) and base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
    return re.fullmatch(pattern, value, re.DOTALL) is not None
