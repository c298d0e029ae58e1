"""Ask a DICOM peer without sending it an object: is it there, and which results does it take?"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.core.artifact_kinds import RESULT_CLASSES
from dicom_node.core.errors import DeliveryDeferred
from dicom_node.dimse.dicom_file import UNCOMPRESSED
from dicom_node.dimse.negotiation import VERIFICATION, Remote
from dicom_node.dimse.statuses import SUCCESS
from dicom_node.dimse.storage_scu import StoreAssociation


@dataclass(frozen=True, slots=True)
class AgreedContexts:
    """What a peer agreed to: transfer syntaxes by SOP class of results, and what it calls itself."""

    implementation: str
    accepted: Mapping[str, tuple[str, ...]]


def probe_peer(remote: Remote) -> AgreedContexts:
    """Associate, proposing every class of result in each transfer syntax it can be sent in, and release.

    Raises `DeliveryDeferred` when nobody answers or the association is rejected.
    """
    proposed = [(uid, (syntax,)) for uid in RESULT_CLASSES for syntax in UNCOMPRESSED]
    with StoreAssociation(remote, [(VERIFICATION, UNCOMPRESSED), *proposed]) as association:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for sop_class_uid, syntax in sorted(association.accepted):
            if sop_class_uid in RESULT_CLASSES:
                found[sop_class_uid].append(syntax)
        return AgreedContexts(association.implementation, {uid: tuple(syntaxes) for uid, syntaxes in found.items()})


def echo(remote: Remote) -> float:
    """Associate, C-ECHO, release; return the seconds it took.

    Raises `DeliveryDeferred` when there is no answer or a rejection, `DeliveryRefused` when C-ECHO is not accepted.
    """
    started = time.monotonic()
    with StoreAssociation(remote, [(VERIFICATION, UNCOMPRESSED)]) as association:
        status = association.echo()
    if status != SUCCESS:
        raise DeliveryDeferred(f"{remote} answered C-ECHO with 0x{status:04X}; look into its log.")
    return time.monotonic() - started
