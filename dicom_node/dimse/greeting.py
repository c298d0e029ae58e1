"""Ask a DICOM peer whether it answers, which classes it takes, and whether it is a node like this one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID
from dicom_node.dimse.line import Line, PeerErrors
from dicom_node.dimse.negotiation import Remote, deferred_rejection
from dicom_node.dimse.tls import library_arguments

#: Verification SOP Class (PS3.4 A.4).
VERIFICATION = UID("1.2.840.10008.1.1")
_PEER_ERRORS = PeerErrors(DeliveryDeferred, "", deferred_rejection)


@dataclass(frozen=True, slots=True)
class Echo:
    """How a peer answered: the SOP classes it accepted, and whether it is a node like this one."""

    accepted: frozenset[str]
    implementation: str
    is_this_product: bool


def echo(remote: Remote, sop_classes: Iterable[str] = ()) -> Echo:
    """Associate, C-ECHO and release, proposing `sop_classes` as well.

    Raises `DeliveryDeferred` when nobody answers, `DeliveryRefused` when the association is rejected or the echo
    fails.
    """
    Line(remote, _PEER_ERRORS).close()  # tells a wrong address from a wrong AE title: the library reports both alike
    entity = AE(ae_title=remote.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = remote.timeout_s
    for sop_class in (VERIFICATION, *sop_classes):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls_args = library_arguments(remote.tls, remote.host)
    association = entity.associate(remote.host, remote.port, ae_title=remote.called_ae_title, tls_args=tls_args)
    if not association.is_established:
        answer = association.acceptor.primitive if association.is_rejected else None
        reason = getattr(answer, "reason_str", "") or "no answer to the association request"
        raise DeliveryRefused(f"{remote} rejects the association of {remote.calling_ae_title}: {reason}.")
    try:
        accepted = frozenset(str(context.abstract_syntax) for context in association.accepted_contexts)
        implementation = str(association.acceptor.implementation_class_uid or "")
        version = association.acceptor.implementation_version_name or implementation
        if VERIFICATION in accepted:
            status = association.send_c_echo()
            if status.get("Status") != 0:
                raise DeliveryRefused(f"{remote} does not answer C-ECHO with success.")
        return Echo(accepted - {VERIFICATION}, str(version), implementation == IMPLEMENTATION_CLASS_UID)
    finally:
        association.release()
