"""What the server says it can do (CapabilityStatement), as far as the node needs to know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.core.errors import CredentialsRefused, DeliveryRefused
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import children, text
from dicom_node.fhir.json_types import Json


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """Whether the server takes transactions, with the conditional writes the bundle relies on."""

    transactions: bool


def read_capabilities(exchange: Exchange) -> ServerCapabilities | None:
    """Read the CapabilityStatement; `None` when the server refuses to show it.

    Raises `DeliveryRefused` when it speaks another version of FHIR than R4.
    """
    asked = "the request for its CapabilityStatement"
    try:
        statement = exchange.json(exchange.get("metadata", asked), asked)
    except (DeliveryRefused, CredentialsRefused):
        return None
    said = text(statement, "fhirVersion") or "4.0.1"
    if not said.startswith("4.0"):
        named = said if re.fullmatch(r"[0-9.]{1,12}", said) else "of an unknown version"
        raise DeliveryRefused(
            f"The FHIR server speaks FHIR {named}; reports are written in R4 (4.0.1). "
            "Set url of the destination to the server's R4 address."
        )
    rest = [one for one in children(statement, "rest") if text(one, "mode") in {"server", ""}]
    return ServerCapabilities(transactions=any(_takes_transactions(one) for one in rest))


def _takes_transactions(rest: Json) -> bool:
    codes = {text(one, "code") for one in children(rest, "interaction")}
    return "transaction" in codes and not _denies_conditional_creates(children(rest, "resource"))


def _denies_conditional_creates(resources: Iterable[Json]) -> bool:
    """Tell whether it says no outright; silence is common and means nothing."""
    return any(text(one, "type") in _CREATED and one.get("conditionalCreate") is False for one in resources)


_CREATED = {"DiagnosticReport", "Observation", "Device", "ImagingStudy", "Provenance"}
