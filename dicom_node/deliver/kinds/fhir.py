"""Destination kind ``fhir``: an EHR that takes reports as FHIR R4 resources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from pydantic import Field, SecretStr, field_validator

from dicom_node.config.peers import SmartWebPeer
from dicom_node.config.section import Section
from dicom_node.core.entities import MediaType
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, Caller, DestinationKind, ProofQuestions
from dicom_node.fhir.options import FhirProfile

if TYPE_CHECKING:
    from dicom_node.deliver.senders.fhir import FhirSender


FhirPreset = Literal["base", "us-core", "lean", "documents"]
_PRESETS: Mapping[FhirPreset, FhirProfile] = {
    "base": FhirProfile(),
    # The categories and the note profile that servers of the United States search by.
    "us-core": FhirProfile(categories=("loinc", "v2-0074"), us_core=True),
    # The report with its Observations, for servers that take few types of resources.
    "lean": FhirProfile(
        categories=("loinc", "v2-0074"),
        drop=frozenset({"Device", "DocumentReference", "Endpoint", "ImagingStudy", "Provenance"}),
    ),
    "documents": FhirProfile(categories=("loinc",), as_document=True),
}
assert set(_PRESETS) == set(get_args(FhirPreset))

#: Headers that the node sets itself, or that have keys of their own.
_OWN_HEADERS = frozenset({
    "accept", "authorization", "cache-control", "connection", "content-length", "content-type", "host", "if-match",
    "if-none-exist", "prefer", "transfer-encoding",
})  # fmt: skip
_LOINC = re.compile(r"(\d{3,7}-\d)( [ -~]+)?")


Droppable = Literal["Device", "DocumentReference", "Endpoint", "ImagingStudy", "Observation", "Provenance"]


class FhirProfileSettings(Section):
    """What one EHR gets other than its preset says; what is not set stays as the preset has it."""

    categories: tuple[Literal["v2-0074", "loinc"], ...] | None = Field(
        None, min_length=1, description="Codes of the report's category: `v2-0074` (RAD), `loinc` (LP29684-5)."
    )
    us_core: bool | None = Field(None, description="Claim and follow the US Core profile of report notes.")
    procedures: Mapping[str, str] | None = Field(
        None, description="StudyDescription to the LOINC code of the report, as `24627-2` or `24627-2 CT Chest`."
    )
    drop: frozenset[Droppable] | None = Field(None, description="Types of resources that are not sent.")
    pdf: Literal["attachment", "link", "none"] | None = Field(
        None, description="The report's PDF: whole, by its address in the PACS, or not at all."
    )

    @field_validator("procedures")
    @classmethod
    def _codes_are_of_loinc(cls, table: Mapping[str, str] | None) -> Mapping[str, str] | None:
        for name, code in (table or {}).items():
            if not _LOINC.fullmatch(code):
                raise ValueError(f"{code!r} of {name!r} is no LOINC code, which is like 24627-2, perhaps with its name")
        return table


#: What the resources of a report need in a SMART scope; those that are never replaced need no `u`.
_WRITTEN = {
    "DiagnosticReport": "crus", "Observation": "crus", "ImagingStudy": "crus", "DocumentReference": "crus",
    "Device": "crs", "Endpoint": "crs", "Provenance": "crs",
}  # fmt: skip
_NO_SYSTEM = "Set fhir.patient_system or fhir.issuers: without them the node cannot find whose report it is."


class FhirDestination(SmartWebPeer, DestinationKind):
    """An EHR, by FHIR R4. `url` is the server's base address."""

    kind: Literal["fhir"] = Field(description="How results get there.")
    can_prove: ClassVar[frozenset[str]] = frozenset({"query"})
    patient: Literal["match", "logical"] = Field(
        "match",
        description="`match` finds the Patient by identifier and parks if it is not exactly one; "
        "`logical` sends the identifier without a look-up.",
    )
    preset: FhirPreset = Field("base", description="What the EHR takes: `base`, `us-core`, `lean` or `documents`.")
    profile: FhirProfileSettings | None = Field(
        None,
        description="What it gets other than its preset says; the keys are in "
        "[Connect an EHR](../how-to/connect-an-ehr.md#what-fits-the-receiver).",
    )
    headers: Mapping[str, SecretStr] = Field({}, description="Further headers of every request.")

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name, value in headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is no header that may be added: the node sets it, or it is none (RFC 9110)")
            if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value.get_secret_value()):
                raise ValueError(f"the value of {name!r} holds what no header may hold, or nothing")
        return headers

    @property
    def further_headers(self) -> Mapping[str, str]:
        """Headers that the site wants in every request."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}

    @property
    def fhir_profile(self) -> FhirProfile:
        """What it gets: the preset with what is set beside it."""
        changes = self.profile.model_dump(exclude_none=True) if self.profile else {}
        return replace(_PRESETS[self.preset], **changes, headers=self.further_headers)

    @property
    def needs(self) -> Mapping[str, str]:
        """What writing a report takes: patient and order are found, the report and its parts looked for and written."""
        written = {name: may for name, may in _WRITTEN.items() if name not in self.fhir_profile.drop}
        found = {"Patient": "rs", "ServiceRequest": "rs"} if self.patient == "match" else {"ServiceRequest": "rs"}
        return found | written

    @property
    def takes(self) -> frozenset[str]:
        """FHIR Bundles."""
        return frozenset({MediaType.FHIR})

    @property
    def server_address(self) -> str:
        """Whom the memory of what it does is about."""
        return self.url[:512]

    def sender(self, caller: Caller) -> FhirSender:
        """Return a FHIR client that sends stored Bundles."""
        from dicom_node.deliver.connections.web import authentication, verification  # noqa: PLC0415
        from dicom_node.deliver.senders.fhir import FhirSender  # noqa: PLC0415 - settings must load fast
        from dicom_node.fhir.client.client import Fit  # noqa: PLC0415

        fit = Fit(patient=self.patient, profile=self.fhir_profile, memory=caller.memory)
        return FhirSender(
            self.url,
            authentication(self),
            caller.timeout_s,
            fit,
            self.viewer_url or caller.viewer_url,
            verification(self),
        )

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:  # noqa: ARG002 - it gets the Bundle only
        """Ask which FHIR it speaks, and whether the login is good for the searches; patients must have a system."""
        from dicom_node.deliver.checks import check_fhir  # noqa: PLC0415

        answer = check_fhir(self, caller.timeout_s, finds_patients=self.patient == "match")
        if not answer.ok or self.patient == "logical" or caller.knows_patient_systems:
            return answer
        return Answer(False, f"{answer.text}; no identifier system of patients is set", _NO_SYSTEM)

    def proof_questions(self, caller: Caller) -> ProofQuestions | None:
        """Return what searches for the reports, where that is asked for: an EHR may keep them in another form."""
        if self.verify != "query":
            return None
        # Made for each question: a renewed certificate needs no restart, and one that cannot be read no node that ends.
        return ProofQuestions(lambda objects: self.sender(caller).has(objects))

    def reach(self, caller: Caller) -> None:
        """Ask for a report that does not exist."""
        from dicom_node.deliver.checks import NO_REPORT, reach_web  # noqa: PLC0415

        reach_web(self, NO_REPORT, caller.timeout_s)
