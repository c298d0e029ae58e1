"""Ask a DICOM peer whether it answers and which of our results it takes."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.uids import IMPLEMENTATION_CLASS_UID

VERIFICATION = UID("1.2.840.10008.1.1")
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Echo:
    """How a peer answered: the SOP classes it accepted, and whether it is a node like this one."""

    accepted: frozenset[str]
    implementation: str
    is_this_product: bool


def echo(calling: str, called: str, host: str, port: int, sop_classes: Iterable[str] = ()) -> Echo:
    """Associate, C-ECHO and release, proposing `sop_classes` as well.

    Raises `DeliveryDeferred` when nobody answers, `DeliveryRefused` when the association is rejected or the echo
    fails.
    """
    _connect(host, port)
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
    for sop_class in (VERIFICATION, *sop_classes):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(host, port, ae_title=called)
    if not association.is_established:
        rejected = association.acceptor.primitive if association.is_rejected else None
        reason = getattr(rejected, "reason_str", "") or "no answer to the association request"
        raise DeliveryRefused(f"{called} at {host}:{port} rejects the association of {calling}: {reason}.")
    try:
        accepted = frozenset(str(context.abstract_syntax) for context in association.accepted_contexts)
        implementation = str(association.acceptor.implementation_class_uid or "")
        version = association.acceptor.implementation_version_name or implementation
        if VERIFICATION in accepted:
            status = association.send_c_echo()
            if status.get("Status") != 0:
                raise DeliveryRefused(f"{called} at {host}:{port} does not answer C-ECHO with success.")
        return Echo(accepted - {VERIFICATION}, str(version), implementation == IMPLEMENTATION_CLASS_UID)
    finally:
        association.release()


def _connect(host: str, port: int) -> None:
    """Tell a wrong address from a wrong AE title: the library reports both as an aborted association."""
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        raise DeliveryDeferred(f"Nobody answers at {host}:{port} ({error.strerror or error}).") from error
