"""What is proposed to a PACS (PS3.8 9.3.2), in C-GET with the roles turned round (PS3.7 D.3.3.4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    MPEG4HP41,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom.pdu import A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.core.errors import SourceRefused, SourceUnavailable
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_valid_uid
from dicom_node.dimse.negotiation import MAX_CONTEXTS, Proposal, Remote

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


# --- Which storage contexts a C-GET proposes: each SOP class with each encoding, so that bytes come as they are store

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
#: In order of worth, where not all fit. Deflated is left out: a small one can hold the processor for minutes.
_SYNTAXES = (
    *UNCOMPRESSED, JPEGLosslessSV1, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, JPEG2000, JPEGLSLossless,
    JPEGExtended12Bit, JPEGLossless, JPEGLSNearLossless, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, ExplicitVRBigEndian,
    MPEG4HP41, MPEG2MPML,
)  # fmt: skip

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_OF_MODALITY = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.4", "4.3", "4.2"),
    "PT": ("128", "130", "128.1"),
    "CR": ("1", "1.1", "1.1.1"),
    "DX": ("1.1", "1", "1.1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3", "1.1"),
    "US": ("6.1", "3.1", "6", "3", "6.2"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1", "12.1"),
    "NM": ("20",),
    "SM": ("77.1.6",),
    "OP": ("77.1.5.1", "77.1.5.2", "77.1.5.4"),
    "ES": ("77.1.1", "77.1.1.1"),
    "SR": ("88.11", "88.22", "88.33", "88.34", "88.50", "88.65", "88.67"),
    "PR": ("11.1", "11.2"),
    "SEG": ("66.4", "66.5"),
    "DOC": ("104.1",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5", "481.8"),
    "RTDOSE": ("481.2",),
    "RTIMAGE": ("481.1",),
    "REG": ("66.1", "66.3"),
}
#: What turns up in a study of any modality: captures, reports, key images, presentation states, segmentations.
_ANYWHERE = ("7", "88.59", "88.33", "88.22", "88.11", "88.34", "88.67", "11.1", "66.4", "7.4", "7.2", "104.1")
_MOST_COMMON = ("2", "4", "1", "1.1", "6.1", "3.1", "128", "20", "12.1", "12.2", "1.2", "13.1.3", "2.1", "4.1")


def storage_classes(told: Collection[str], modalities: Collection[str]) -> list[str]:
    """Return the SOP classes to propose: those the PACS `told`, else what such modalities make."""
    known = [uid for uid in told if is_valid_uid(uid)]
    if known:
        return sorted(set(known))
    own = [suffix for modality in sorted(set(modalities)) for suffix in _OF_MODALITY.get(modality, ())]
    return list(dict.fromkeys(_STORAGE + suffix for suffix in (*(own or _MOST_COMMON), *_ANYWHERE)))


def storage_proposals(sop_classes: Sequence[str], taken: int) -> list[Proposal]:
    """Return one context for each class and encoding as far as places reach beside those `taken`."""
    pairs: list[Proposal] = [(sop_class, (str(syntax),)) for syntax in _SYNTAXES for sop_class in sop_classes]
    return pairs[: MAX_CONTEXTS - taken]
