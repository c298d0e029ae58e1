"""Sections on results: what is made, where it goes, how it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from dicom_node.config.section import AeTitle, Port, Seconds, Section


class ResultSettings(Section):
    sr_sop_class: Literal["comprehensive3d", "comprehensive", "enhanced"] = Field(
        "comprehensive3d", description="SOP class of structured reports; choose what the PACS displays."
    )


class DeliverySettings(Section):
    first_retry_s: Seconds = Field(5, description="Wait after the first failed attempt; doubles each time.")
    max_retry_s: Seconds = Field(600, description="Longest wait between attempts. There is no last attempt.")
    timeout_s: Seconds = Field(60, description="Time limit of one attempt.")


class DestinationSettings(Section):
    name: str = Field(min_length=1, description="Name used by routes.")
    kind: Literal["dicom", "dicomweb", "fhir", "folder"] = Field(description="How results get there.")
    ae_title: AeTitle | None = Field(None, description="dicom: called AE title.")
    host: str = Field("", description="dicom: address of the PACS.")
    port: Port = Field(104, description="dicom: port of the PACS.")
    url: str = Field("", description="dicomweb, fhir: base address.")
    path: Path | None = Field(None, description="folder: where files are written.")
    token: SecretStr | None = Field(None, description="dicomweb, fhir: bearer token.")
    username: str = Field("", description="dicomweb, fhir: user for basic authentication.")
    password: SecretStr | None = Field(None, description="dicomweb, fhir: password for basic authentication.")
    patient: Literal["match", "logical"] = Field(
        "match",
        description="fhir: `match` finds the Patient by identifier and parks if it is not exactly one; "
        "`logical` sends the identifier without a look-up.",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"dicom": ("ae_title", "host"), "dicomweb": ("url",), "fhir": ("url",), "folder": ("path",)}
        missing = [key for key in needed[self.kind] if not getattr(self, key)]
        if missing:
            raise ValueError(f"destination {self.name!r} of kind {self.kind} needs {', '.join(missing)}")
        return self


class FhirSettings(Section):
    patient_system: str = Field("", description="Identifier system of PatientID when the images name no issuer.")
    issuers: Mapping[str, str] = Field(
        {},
        description="IssuerOfPatientID to FHIR identifier system. Once there is an entry, patients of any other named "
        "issuer are refused; while there is none, `patient_system` holds for all.",
    )
    accession_system: str = Field("", description="Identifier system of AccessionNumber.")
    dicomweb_url: str = Field("", description="WADO-RS address of the PACS, for the FHIR Endpoint.")
