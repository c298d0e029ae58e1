"""Destination kind ``fhir``: an EHR that takes reports as FHIR R4 resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from dicom_node.config.peers import TokenWebPeer
from dicom_node.core.capability_match import WantedOutputs
from dicom_node.core.entities import MediaType
from dicom_node.deliver.kinds.kind import Answer, Caller, DestinationKind, ProofQuestions

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import Sender


_NO_SYSTEM = "Set fhir.patient_system or fhir.issuers: without them the node cannot find whose report it is."


class FhirDestination(TokenWebPeer, DestinationKind):
    """An EHR, by FHIR R4. `url` is the server's base address."""

    kind: Literal["fhir"] = Field(description="How results get there.")
    can_prove: ClassVar[frozenset[str]] = frozenset({"query"})
    patient: Literal["match", "logical"] = Field(
        "match",
        description="`match` finds the Patient by identifier and parks if it is not exactly one; "
        "`logical` sends the identifier without a look-up.",
    )

    @property
    def takes(self) -> frozenset[str]:
        """FHIR Bundles."""
        return frozenset({MediaType.FHIR})

    def sender(self, caller: Caller) -> Sender:
        """Return a FHIR client that sends stored Bundles."""
        from dicom_node.deliver.senders.fhir import FhirSender  # noqa: PLC0415 - settings must load fast
        from dicom_node.deliver.web import authentication  # noqa: PLC0415

        return FhirSender(self.url, authentication(self), caller.timeout_s, self.patient)

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
        from dicom_node.deliver.senders.fhir import FhirSender  # noqa: PLC0415

        sender = self.sender(caller)
        assert isinstance(sender, FhirSender)
        return ProofQuestions(sender.has)

    def reach(self, caller: Caller) -> None:
        """Ask for a report that does not exist."""
        from dicom_node.deliver.checks import NO_REPORT, reach_web  # noqa: PLC0415

        reach_web(self, NO_REPORT, caller.timeout_s)
