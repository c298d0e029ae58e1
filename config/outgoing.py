"""Sections on results: what is made, where it goes, how it is delivered."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from dicom_node.config.presets import SrSopClass
from dicom_node.config.section import Seconds, Section


class ResultSettings(Section):
    sr_sop_class: SrSopClass = Field(
        "auto",
        description="SOP class of structured reports where a destination names none: `auto` (the first of the others "
        "that it takes), `comprehensive3d`, `comprehensive`, `enhanced` or `off`.",
    )


class DeliverySettings(Section):
    first_retry_s: Seconds = Field(5, description="Wait after the first failed attempt; doubles each time.")
    max_retry_s: Seconds = Field(600, description="Longest wait between attempts. There is no last attempt.")
    timeout_s: Seconds = Field(60, description="Time limit of one attempt.")
    ask_again_s: Seconds = Field(86400, description="How long it is remembered what a DICOM destination takes.")


class DestinationSettings(Section):
    """What every destination has; the kinds, with what each needs and does, are in `deliver.kinds`."""

    name: str = Field(min_length=1, description="Name used by routes.")
    kind: str = Field(description="How results get there.")


class FhirSettings(Section):
    patient_system: str = Field("", description="Identifier system of PatientID when the images name no issuer.")
    issuers: Mapping[str, str] = Field(
        {},
        description="IssuerOfPatientID to FHIR identifier system. Once there is an entry, patients of any other named "
        "issuer are refused; while there is none, `patient_system` holds for all.",
    )
    accession_system: str = Field("", description="Identifier system of AccessionNumber.")
    dicomweb_url: str = Field("", description="WADO-RS address of the PACS, for the FHIR Endpoint.")
