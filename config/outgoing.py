"""Sections on results: what is made, where it goes, how it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from dicom_node.config.presets import OutputSettings, Preset, SrSopClass
from dicom_node.config.section import AeTitle, Port, Seconds, Section


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
    name: str = Field(min_length=1, description="Name used by routes.")
    kind: Literal["dicom", "dicomweb", "fhir", "folder"] = Field(description="How results get there.")
    ae_title: AeTitle | None = Field(None, description="dicom: called AE title.")
    host: str = Field("", description="dicom: address of the PACS.")
    port: Port = Field(104, description="dicom: port of the PACS.")
    tls: bool = Field(False, description="dicom: speak TLS, showing the certificate of `[dicom_tls]` if there is one.")
    tls_ca: Path | None = Field(
        None,
        description="dicom: authorities (PEM) that sign its certificate; default: `dicom_tls.ca`, else the system's.",
    )
    tls_server_name: str = Field(
        "", description="dicom: name its certificate must bear; default: `host`; `*`: any name, if `ca` signed it."
    )
    url: str = Field("", description="dicomweb, fhir: base address.")
    path: Path | None = Field(None, description="folder: where files are written.")
    token: SecretStr | None = Field(None, description="dicomweb, fhir: bearer token.")
    username: str = Field("", description="dicomweb, fhir: user for basic authentication.")
    password: SecretStr | None = Field(None, description="dicomweb, fhir: password for basic authentication.")
    preset: Preset = Field(
        "generic-pacs",
        description="dicom, dicomweb, folder: which objects it gets: `generic-pacs`, `ohif`, `weasis` or `air`.",
    )
    outputs: OutputSettings | None = Field(
        None,
        description="dicom, dicomweb, folder: what it gets other than its preset says; "
        "the keys are in [Connect a PACS](../how-to/connect-a-pacs.md#which-objects-it-gets).",
    )
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
        chosen = {"preset", "outputs"} & self.model_fields_set
        if self.kind == "fhir" and chosen:
            raise ValueError(
                f"destination {self.name!r} of kind fhir gets the FHIR bundle only; remove {', '.join(sorted(chosen))}"
            )
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
