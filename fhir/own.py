"""Let nothing out but what the builders of this package make: the process that wrote a bundle also ran a model's code,
which must not act with the node's credentials, nor speak for a physician.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.builders.verification import VERIFIED, is_sealed
from dicom_node.fhir.json_types import Json, to_json_bytes

#: What a bundle of the node may hold, and the statuses in which a report of the node may be.
_KINDS = frozenset({
    "Device", "DocumentReference", "Endpoint", "ImagingStudy", "Observation", "DiagnosticReport", "Provenance",
})  # fmt: skip
_UNREVIEWED = frozenset({"preliminary", "partial", "entered-in-error"})
_JUDGED = frozenset({"Observation", "DiagnosticReport"})
#: What only a reviewed bundle holds: a reader, and the final word of a document.
_OF_READERS = ("contained", "resultsInterpreter", "docStatus")
#: How it looks for what is there already: by numbers and tags of the node's own.
_OWN_SEARCHES = ("identifier=", "_tag=")


def own_bundle(data: bytes) -> Json:
    """Return the bundle that is kept as these bytes. Raises `ReportInvalid` for what the node does not make."""
    try:
        bundle = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReportInvalid("It is no JSON.") from error
    if not isinstance(bundle, dict):
        raise ReportInvalid("It is no FHIR Bundle.")
    entries = bundle.get("entry")
    if not (isinstance(entries, list) and entries and all(map(_is_own, entries)) and _is_of_one_mind(entries)):
        raise ReportInvalid("It asks the EHR for more than a report of the node does.")
    return bundle


def require_unreviewed(data: bytes) -> None:
    """Raise `ReportInvalid` for a bundle that a person answers for, and for any that the node does not make.

    Readers differ on a member that stands there twice, so the bytes must be those that the node itself would write.
    """
    bundle = own_bundle(data)
    resources = [entry["resource"] for entry in bundle["entry"]]
    judged = [one for one in resources if one["resourceType"] in _JUDGED]
    if any(one["status"] in VERIFIED for one in judged) or any(
        name in one for one in resources for name in _OF_READERS
    ):
        raise ReportInvalid("It says that a person answers for it, and no person has reviewed it.")
    if _canonical(bundle) != data:
        raise ReportInvalid("It is not written as the node writes it.")


def _canonical(bundle: Json) -> bytes:
    try:
        return to_json_bytes(bundle)
    except (ValueError, RecursionError):
        return b""


def _is_of_one_mind(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing in a bundle is verified, or all of it is, under the seal of the node, by a reader it names."""
    judged = [entry["resource"] for entry in entries if entry["resource"]["resourceType"] in _JUDGED]
    if not any(one["status"] in VERIFIED for one in judged):
        return True
    reports = [one for one in judged if one["resourceType"] == "DiagnosticReport"]
    return all(map(is_sealed, judged)) and all(one.get("resultsInterpreter") for one in reports)


def _is_own(entry: object) -> bool:
    match entry:
        case {
            "resource": {"resourceType": str(kind), **resource},
            "request": {"method": str(method), "url": str(url), **more},
        }:
            pass
        case _:
            return False
    if kind not in _KINDS or (kind in _JUDGED and str(resource.get("status")) not in _UNREVIEWED | VERIFIED):
        return False
    if kind == "DocumentReference" and "subject" in resource:  # a model card is about nobody
        return False
    place, _, search = url.partition("?")
    if method == "POST":
        search = str(more.pop("ifNoneExist", "")) if not search else ""
    return place == kind and method in {"POST", "PUT"} and search.startswith(_OWN_SEARCHES) and not more
