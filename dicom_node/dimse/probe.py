"""Ask a DICOM peer without sending it an object: is it there, who is it, and which results does it take?"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.core.errors import DeliveryDeferred
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.dimse.dicom_file import UNCOMPRESSED
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import Remote, read_rejection
from dicom_node.dimse.statuses import SUCCESS
from dicom_node.dimse.storage_scu import StoreAssociation
from dicom_node.dimse.vocabulary import VERIFICATION


@dataclass(frozen=True, slots=True)
class AgreedContexts:
    """What a peer agreed to: transfer syntaxes by SOP class of results, and what it calls itself."""

    implementation: str
    accepted: Mapping[str, tuple[str, ...]]


def probe_peer(remote: Remote, *, with_echo: bool = False) -> AgreedContexts:
    """Associate, proposing every class of result in each transfer syntax it can be sent in, and release.

    `with_echo` sends a C-ECHO as well, if the peer accepts Verification. Raises `DeliveryDeferred` when nobody answers,
    the association is rejected or the echo fails.
    """
    proposed = [(uid, (syntax,)) for uid in RESULT_CLASSES for syntax in UNCOMPRESSED]
    with _ProbeAssociation(remote, [(VERIFICATION, UNCOMPRESSED), *proposed]) as association:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for sop_class_uid, syntax in sorted(association.accepted):
            if sop_class_uid in RESULT_CLASSES:
                found[sop_class_uid].append(syntax)
        if with_echo and association.context_of(VERIFICATION):
            _check_echo(remote, association)
        return AgreedContexts(
            association.implementation,
            {uid: tuple(syntaxes) for uid, syntaxes in found.items()},
        )


def echo(remote: Remote, association: type[StoreAssociation] | None = None) -> float:
    """Associate, C-ECHO, release; return the seconds it took. What `association` is for decides what errors advise.

    Raises `DeliveryDeferred` when there is no answer or a rejection, `DeliveryRefused` when C-ECHO is not accepted.
    """
    started = time.monotonic()
    with (association or _ProbeAssociation)(remote, [(VERIFICATION, UNCOMPRESSED)]) as opened:
        _check_echo(remote, opened)
    return time.monotonic() - started


def _check_echo(remote: Remote, association: StoreAssociation) -> None:
    status = association.echo()
    if status != SUCCESS:
        raise DeliveryDeferred(f"{remote} answered C-ECHO with 0x{status:04X}; look into its log.")


def _rejection(remote: Remote, pdu: bytes) -> DeliveryDeferred:
    return DeliveryDeferred(read_rejection(remote, pdu, "destination").text)


class _ProbeAssociation(StoreAssociation):
    """An association that asks only, for a person or for what is planned next: nothing is tried again later."""

    peer_errors = PeerErrors(DeliveryDeferred, "", _rejection)
