"""Destination kind ``fhir``: an EHR that takes reports as FHIR R4 resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dicom_node.config.peers import SmartWebPeer
from dicom_node.core.capability_match import WantedOutputs
from dicom_node.core.entities import MediaType
from dicom_node.deliver.kinds.kind import Answer, Caller, DestinationKind

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import Sender


#: What the resources of a report need in a SMART scope; those that are never replaced need no `u`.
_WRITTEN = {
    "DiagnosticReport": "crus", "Observation": "crus", "ImagingStudy": "crus",
    "Device": "crs", "Endpoint": "crs", "Provenance": "crs",
}  # fmt: skip
_NO_SYSTEM = "Set fhir.patient_system or fhir.issuers: without them the node cannot find whose report it is."


class FhirDestination(SmartWebPeer, DestinationKind):
    """An EHR, by FHIR R4. `url` is the server's base address."""

    kind: Literal["fhir"] = Field(description="How results get there.")
    patient: Literal["match", "logical"] = Field(
        "match",
        description="`match` finds the Patient by identifier and parks if it is not exactly one; "
        "`logical` sends the identifier without a look-up.",
    )

    @property
    def needs(self) -> Mapping[str, str]:
        """What writing a report takes: to find the patient, and to look for and write the report and its parts."""
        return {"Patient": "rs", **_WRITTEN} if self.patient == "match" else _WRITTEN

    @property
    def takes(self) -> frozenset[str]:
        """FHIR Bundles."""
        return frozenset({MediaType.FHIR})

    def sender(self, caller: Caller) -> Sender:
        """Return a FHIR client that sends stored Bundles."""
        from dicom_node.deliver.senders.fhir import FhirSender  # noqa: PLC0415 - settings must load fast
        from dicom_node.deliver.web import authentication, verification  # noqa: PLC0415

        return FhirSender(self.url, authentication(self), caller.timeout_s, self.patient, verification(self))

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:  # noqa: ARG002 - it gets the Bundle only
        """Ask which FHIR it speaks, and whether the login is good for the searches; patients must have a system."""
        from dicom_node.deliver.checks import check_fhir  # noqa: PLC0415

        answer = check_fhir(self, caller.timeout_s, finds_patients=self.patient == "match")
        if not answer.ok or self.patient == "logical" or caller.knows_patient_systems:
            return answer
        return Answer(False, f"{answer.text}; no identifier system of patients is set", _NO_SYSTEM)

    def reach(self, caller: Caller) -> None:
        """Ask for a report that does not exist."""
        from dicom_node.deliver.checks import NO_REPORT, reach_web  # noqa: PLC0415

        reach_web(self, NO_REPORT, caller.timeout_s)
