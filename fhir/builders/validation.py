"""Judge a finished bundle before it may leave: R4 structure, required codes, references, and the node's own rules.

`fhir.resources` has no R4 package; R4B is the same for every resource used here. It checks structure but no required
value sets, hence the tables below.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.json_types import Json
from fhir.resources.R4B import get_fhir_model_class


def check_bundle(bundle: Json, *, is_verified: bool = False) -> None:
    """Raise `ReportInvalid` naming resource, element and fault (never a value: it could be the patient's).

    `is_verified`: a person has reviewed the result, so that it is final and nothing else.
    """
    entries = bundle["entry"]
    known = [entry["fullUrl"] for entry in entries]
    if len(set(known)) != len(known):
        raise ReportInvalid("Two entries of the FHIR bundle have the same fullUrl; this is a fault of the builders.")
    for entry in entries:
        check_resource(entry["resource"], is_verified=is_verified)
        _check_references(entry["resource"], set(known))


def check_resource(resource: Json, *, is_verified: bool = False) -> None:
    """Raise `ReportInvalid` when this resource alone breaks R4 or holds a code that its element does not allow."""
    kind = resource["resourceType"]
    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
        raise ReportInvalid(
            f"The FHIR {kind} would not be valid R4: {places}. Correct the model card or the settings it comes from."
        ) from None
    for path, value in _leaves(resource, kind):
        last_two = ".".join(path.split(".")[-2:])
        own = VERIFIED_CODES.get(path) if is_verified else None
        allowed = own or ALLOWED_CODES.get(path) or ALLOWED_EVERYWHERE.get(last_two)
        if allowed is not None and value not in allowed:
            raise ReportInvalid(f"{path} of the FHIR {kind} is {value!r}; allowed: {', '.join(sorted(allowed))}.")


def _check_references(resource: Json, known: set[str]) -> None:
    for path, value in _leaves(resource, resource["resourceType"]):
        if path.endswith(".reference") and str(value).startswith("urn:") and value not in known:
            raise ReportInvalid(f"{path} of the FHIR bundle points to no entry; this is a fault of the builders.")


def _leaves(node: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield (element path without indices, value) for every primitive value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, path)
    else:
        yield path, node


# --- required value sets of R4 4.0.1, narrowed to what the node may say ----------------------------------------------

#: By full element path. A report or Observation is never final before a physician has reviewed it.
ALLOWED_CODES: dict[str, frozenset[str]] = {
    "Device.status": frozenset({"active", "inactive", "entered-in-error", "unknown"}),
    "Device.deviceName.type": frozenset(
        {
            "udi-label-name",
            "user-friendly-name",
            "patient-reported-name",
            "manufacturer-name",
            "model-name",
            "other",
        }
    ),
    "Endpoint.status": frozenset({"active", "suspended", "error", "off", "entered-in-error", "test"}),
    "ImagingStudy.status": frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"}),
    "Observation.status": frozenset({"preliminary", "entered-in-error"}),
    "DiagnosticReport.status": frozenset({"preliminary", "partial", "entered-in-error"}),
    "DocumentReference.status": frozenset({"current", "superseded", "entered-in-error"}),
    "DocumentReference.docStatus": frozenset({"preliminary", "entered-in-error"}),
    "Provenance.entity.role": frozenset({"derivation", "revision", "quotation", "source", "removal"}),
}

#: In place of those, for what a physician has reviewed.
VERIFIED_CODES: dict[str, frozenset[str]] = {
    "Observation.status": frozenset({"final"}),
    "DiagnosticReport.status": frozenset({"final", "amended"}),
}

#: By the last two parts of the path, for data types that occur in many resources.
ALLOWED_EVERYWHERE: dict[str, frozenset[str]] = {
    "identifier.use": frozenset({"usual", "official", "temp", "secondary", "old"}),
    "text.status": frozenset({"generated", "extensions", "additional", "empty"}),
}
