"""Destination kind ``hl7``: a RIS, an EHR or an interface engine that takes results as HL7 v2 ORU^R01 over MLLP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dicom_node.config.outgoing import SrSopClass
from dicom_node.config.section import KeyFile, Port, SiteFile
from dicom_node.core.entities import MediaType
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, Caller, DestinationKind

if TYPE_CHECKING:
    from dicom_node.deliver.connections.mllp import MllpPeer
    from dicom_node.deliver.outgoing import Sender
    from dicom_node.fhir.hl7.receiver import Receiver


class Hl7Destination(DestinationKind):
    """A receiver of HL7 v2.5.1 messages over MLLP, with or without TLS."""

    kind: Literal["hl7"] = Field(description="How results get there.")
    host: str = Field(min_length=1, description="Address of the receiver.")
    port: Port = Field(2575, description="Port of the receiver.")
    receiving_application: str = Field("", description="MSH-5, as the receiver calls itself.")
    receiving_facility: str = Field("", description="MSH-6.")
    sending_application: str = Field("", description="MSH-3; empty: `node.ae_title`.")
    sending_facility: str = Field("", description="MSH-4; empty: `node.institution`.")
    assigning_authority: str = Field(
        "", description="Who assigned PatientID (PID-3.4.1) where the images name nobody in IssuerOfPatientID."
    )
    accession: Literal["OBR-18", "OBR-3", "OBR-2"] = Field(
        "OBR-18", description="Where the receiver looks for the accession number, to find its order."
    )
    replacement: Literal["P", "C"] = Field(
        "P", description="Result status of a message that replaces an earlier one: preliminary again, or corrected."
    )
    withdrawal: Literal["P", "W", "X", "D"] = Field(
        "P",
        description="Result status of observations that are withdrawn: `P` says it in words alone; `W` posted as "
        "wrong, `X` cancelled (OBR-25 too), `D` deleted.",
    )
    pdf: bool = Field(False, description="Send the report as PDF too, within the message (OBX of type ED).")
    tls: bool = Field(False, description="Speak TLS.")
    ca: SiteFile | None = Field(
        None, description="Authorities (PEM) that sign its certificate; default: `dicom_tls.ca`, else the system's."
    )
    tls_server_name: str = Field(
        "", description="Name its certificate must bear; default: `host`; `*`: any name, if `ca` signed it."
    )
    client_certificate: SiteFile | None = Field(
        None, description="Certificate (PEM) to show there instead of that of `[dicom_tls]`."
    )
    client_certificate_key: KeyFile | None = Field(
        None, description="Private key (PEM) of `client_certificate`; none: it is in the certificate's file."
    )
    send_test_message: bool = Field(
        False, description="Let `dicom-node doctor` send a test message too (MSH-11 `T`, a patient who does not exist)."
    )

    @property
    def takes(self) -> frozenset[str]:
        """HL7 v2 messages."""
        return frozenset({MediaType.HL7})

    def wanted(self, site_report: SrSopClass) -> WantedOutputs:  # noqa: ARG002 - it gets no DICOM object
        """Return that a message is to be made, and the PDF that goes into it."""
        outputs = OutputSet(
            structured_report="off", secondary_capture=False, segmentation="off", encapsulated_pdf=self.pdf,
            hl7_message=True,
        )  # fmt: skip
        return WantedOutputs(outputs=outputs, reports=("off",))

    def sender(self, caller: Caller) -> Sender:
        """Return what sends stored messages."""
        from dicom_node.deliver.senders.hl7 import Hl7Sender  # noqa: PLC0415 - settings must load fast

        return Hl7Sender(
            self._peer(caller), self._receiver(), self.viewer_url or caller.viewer_url, caller.knows_patient_systems
        )

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:  # noqa: ARG002 - it gets the message only
        """Connect, over TLS where that is set; send a test message only where that is asked for."""
        from dicom_node.deliver.checks import check_hl7  # noqa: PLC0415

        trial = (caller.ae_title, self._receiver()) if self.send_test_message else None
        return check_hl7(self._peer(caller), trial)

    def reach(self, caller: Caller) -> None:
        """Connect."""
        from dicom_node.deliver.checks import reach_hl7  # noqa: PLC0415

        reach_hl7(self._peer(caller))

    def _peer(self, caller: Caller) -> MllpPeer:
        from dicom_node.deliver.connections.mllp import MllpPeer  # noqa: PLC0415
        from dicom_node.dimse.negotiation import Tls  # noqa: PLC0415

        own = caller.tls
        shown = (self.client_certificate, self.client_certificate_key)
        shown = shown if self.client_certificate else (own.certificate, own.private_key)
        tls = Tls(self.tls_server_name or self.host, self.ca or own.ca, *shown) if self.tls else None
        return MllpPeer(self.host, self.port, caller.timeout_s, tls)

    def _receiver(self) -> Receiver:
        from dicom_node.fhir.hl7.receiver import Receiver  # noqa: PLC0415

        return Receiver(
            applications=(self.sending_application, self.receiving_application),
            facilities=(self.sending_facility, self.receiving_facility),
            assigning_authority=self.assigning_authority, accession=self.accession, replacement=self.replacement,
            withdrawal=self.withdrawal,
        )  # fmt: skip
