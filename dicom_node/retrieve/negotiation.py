"""What is proposed to a PACS (PS3.8 9.3.2), in C-GET with the roles turned round (PS3.7 D.3.3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.errors import SourceRefused, SourceUnavailable
from dicom_node.send.negotiation import Proposal, Remote
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: The largest PDU taken.
MAX_PDU_BYTES = 131072
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_REJECTED_TRANSIENT = 2

UserInformation = MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification

#: (source, reason) of a rejection (PS3.8 9.3.4) that people can do something about.
_ADVICE = {
    (1, 3): "It does not know calling AE title {calling}: register it there, or set node.ae_title.",
    (1, 7): "It does not answer to called AE title {called}: correct ae_title of this source.",
    (3, 1): "It is overloaded for the moment; ask again later.",
    (3, 2): "It has reached its limit of associations; ask again later.",
}


def request_pdu(remote: Remote, proposed: Sequence[Proposal], stored_here: Iterable[str]) -> bytes:
    """Encode the A-ASSOCIATE-RQ; for the SOP classes `stored_here` the node offers to be the one who stores."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(_APPLICATION_CONTEXT)
    primitive.calling_ae_title = remote.calling_ae_title
    primitive.called_ae_title = remote.called_ae_title
    primitive.presentation_context_definition_list = [_context(number, one) for number, one in enumerate(proposed)]
    primitive.user_information = [*_who_we_are(), *(_provider_role(uid) for uid in sorted(set(stored_here)))]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
    return request.encode()


def rejection(remote: Remote, pdu: bytes) -> SourceRefused | SourceUnavailable:
    """Say what an A-ASSOCIATE-RJ means."""
    answer = A_ASSOCIATE_RJ()
    answer.decode(pdu)
    why = (answer.source or 0, answer.reason_diagnostic or 0)
    advice = _ADVICE.get(why, f"Reason: {answer.reason_str}.")
    advice = advice.format(calling=remote.calling_ae_title, called=remote.called_ae_title)
    text = f"{remote} rejected the association ({answer.result_str}). {advice}"
    return SourceUnavailable(text) if answer.result == _REJECTED_TRANSIENT else SourceRefused(text)


def _context(number: int, proposal: Proposal) -> PresentationContext:
    context = build_context(proposal[0], list(proposal[1]))
    context.context_id = 2 * number + 1
    return context


def _who_we_are() -> tuple[UserInformation, ...]:
    longest = MaximumLengthNotification()
    longest.maximum_length_received = MAX_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return longest, implementation, version


def _provider_role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(sop_class_uid)
    role.scu_role, role.scp_role = False, True
    return role
