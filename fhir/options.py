"""What the site says about its identifiers and addresses, as the FHIR builders need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from zoneinfo import ZoneInfo

from dicom_node.config.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirOptions:
    """Mirrors the settings sections `fhir` and `node` (`fhir_options`).

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


def fhir_options(settings: Settings) -> FhirOptions:
    """Return what the settings of a site say of it."""
    node, fhir = settings.node, settings.fhir
    return FhirOptions(
        patient_system=fhir.patient_system,
        issuers=fhir.issuers,
        accession_system=fhir.accession_system,
        dicomweb_url=fhir.dicomweb_url,
        organization=node.institution,
        intended_use=node.intended_use,
        time_zone=ZoneInfo(node.time_zone) if node.time_zone else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirProfile:
    """What one receiver gets other than every one does; applied when a stored Bundle is sent.

    `categories`: code systems of the report's category, of ``v2-0074`` and ``loinc``. `us_core`: the report follows the
    US Core note profile. `procedures` maps the study's description to a LOINC code, perhaps with its name behind a
    blank. `drop`: types of resources that are left out. `pdf`: ``attachment``, ``link`` or ``none``. `as_document`: a
    DocumentReference instead of a DiagnosticReport, whatever the receiver says. `headers` go with every request.
    """

    categories: tuple[str, ...] = ("v2-0074",)
    us_core: bool = False
    procedures: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    pdf: str = "attachment"
    as_document: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
