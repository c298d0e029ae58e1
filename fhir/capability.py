"""What a FHIR server says it can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.errors import DeliveryRefused
from dicom_node.fhir.exchange import Exchange
from dicom_node.fhir.json_types import Json


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Whether the server takes transactions, with the conditional writes the bundle relies on."""

    transactions: bool


def read_capabilities(exchange: Exchange) -> Capabilities | None:
    """Read the CapabilityStatement; `None` when the server refuses to show it.

    Raises `DeliveryRefused` when it speaks another version of FHIR than R4.
    """
    asked = "the request for its CapabilityStatement"
    try:
        statement = exchange.json(exchange.get("metadata", asked), asked)
    except DeliveryRefused:
        return None
    version = str(statement.get("fhirVersion", "4.0.1"))
    if not version.startswith("4."):
        raise DeliveryRefused(
            f"The FHIR server speaks FHIR {version}; reports are written in R4 (4.0.1). "
            "Set url of the destination to the server's R4 address."
        )
    rest = [one for one in statement.get("rest", []) if one.get("mode") == "server"]
    return Capabilities(transactions=any(_takes_transactions(one) for one in rest))


def _takes_transactions(rest: Json) -> bool:
    codes = {one.get("code") for one in rest.get("interaction", [])}
    return "transaction" in codes and not _denies_conditional_writes(rest.get("resource", []))


def _denies_conditional_writes(resources: Iterable[Json]) -> bool:
    """Tell whether it says no outright; silence is common and means nothing."""
    return any(
        (one.get("type") in {"DiagnosticReport", "Observation"} and one.get("conditionalUpdate") is False)
        or (one.get("type") in {"Device", "ImagingStudy", "Provenance"} and one.get("conditionalCreate") is False)
        for one in resources
    )
