"""Everything that carries finished objects out of the node: C-STORE, STOW-RS, FHIR, folders."""

from dicom_node.send.outgoing import Outgoing, Sender, Sent

__all__ = ["Outgoing", "Sender", "Sent"]
