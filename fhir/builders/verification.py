"""Who answers for a reviewed report, in FHIR; and the seal by which the node knows its own final word again.

A report or Observation that is final belongs to whoever made it so. The node may replace one that it has itself sent as
final, and only if nobody has touched it since: the seal is made of the job, the status and the conclusion.
"""

from __future__ import annotations

import hashlib

from dicom_node.core.assessment.review import Reviewer
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.dicom_values import one_line
from dicom_node.fhir.builders.identifiers import DICOM_UID_SYSTEM, JOB_SYSTEM
from dicom_node.fhir.json_types import Json, without_empty

#: What the node says of a report that a person has reviewed.
VERIFIED = frozenset({"final", "amended"})
#: Identifiers by which the node knows what it has itself told as verified.
SEAL_SYSTEM = f"urn:oid:{derived_uid('identifier-system', 'verification')}"
#: What a person's number in the hospital is an identifier of; whose system it is, nobody tells the node.
_READER, _ROLE = "reader", "reader-role"


def practitioner(reader: Reviewer) -> Json:
    """Return a reference to a reader by name, and by number where the hospital has given one."""
    number = {"value": one_line(reader.identifier)} if reader.identifier else None
    return without_empty({"type": "Practitioner", "identifier": number, "display": one_line(reader.readable_name)})


def contained_reader(reader: Reviewer, number: int) -> list[Json]:
    """Return the Practitioner and, where the organisation is known, the PractitionerRole of a reader (R4 2.3.5).

    They are contained: the node creates no people in an EHR.
    """
    family, given, middle, prefix, suffix = (*reader.name.split("=")[0].split("^"), "", "", "", "", "")[:5]
    name = without_empty({
        "text": one_line(reader.readable_name), "family": one_line(family), "prefix": _words(prefix),
        "given": [*_words(given), *_words(middle)], "suffix": _words(suffix),
    })  # fmt: skip
    identifiers = [{"value": one_line(reader.identifier)}] if reader.identifier else []
    person: Json = {"resourceType": "Practitioner", "id": f"{_READER}-{number}", "name": [name]}
    person |= {"identifier": identifiers} if identifiers else {}
    if not reader.organization:
        return [person]
    role = {
        "resourceType": "PractitionerRole", "id": f"{_ROLE}-{number}",
        "practitioner": {"reference": f"#{_READER}-{number}"},
        "organization": {"display": one_line(reader.organization)},
    }  # fmt: skip
    return [person, role]


def interpreter(contained: list[Json], reader: Reviewer) -> Json:
    """Return the reference of a report to the last of what is contained of a reader."""
    last = contained[-1]
    named = {"display": one_line(reader.readable_name)}
    return {"reference": f"#{last['id']}", "type": last["resourceType"], **named}


def _words(text: str) -> list[str]:
    return [part] if (part := one_line(text)) else []


# --- the seal --------------------------------------------------------------------------------------------------------


def sealed(resource: Json) -> Json:
    """Return a verified resource with the seal of the node."""
    others = [one for one in resource["identifier"] if one.get("system") != SEAL_SYSTEM]
    return {**resource, "identifier": [*others, {"system": SEAL_SYSTEM, "value": _digest(resource)}]}


def is_sealed(resource: Json) -> bool:
    """Tell whether a resource is final by the word of the node, and as the node has told it."""
    found = [one for one in resource.get("identifier") or () if isinstance(one, dict)]
    seals = [one.get("value") for one in found if one.get("system") == SEAL_SYSTEM]
    return bool(seals) and seals == [_digest(resource)]


def _digest(resource: Json) -> str:
    numbers = {one.get("system"): one.get("value") for one in reversed(resource["identifier"]) if isinstance(one, dict)}
    made_by = numbers.get(JOB_SYSTEM) or numbers.get(DICOM_UID_SYSTEM)
    status = resource.get("docStatus") or resource.get("status")
    told = "\x1f".join(map(str, (made_by, status, resource.get("conclusion", ""))))
    return hashlib.sha256(told.encode()).hexdigest()[:32]
