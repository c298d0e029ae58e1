"""What the site says about its identifiers and addresses, as the FHIR builders need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirOptions:
    """Mirrors the settings sections `fhir` and `node`; whoever wires the node converts them.

    `issuers` maps IssuerOfPatientID to the identifier system of PatientID; `patient_system` is that of images that
    name no issuer, or of all when `issuers` is empty. `time_zone` is the zone of images that do not carry
    TimezoneOffsetFromUTC; `None` is the machine's own.
    """

    patient_system: str = ""
    issuers: Mapping[str, str] = field(default_factory=dict)
    accession_system: str = ""
    dicomweb_url: str = ""
    organization: str = ""
    intended_use: str = "clinical"
    time_zone: tzinfo | None = None
