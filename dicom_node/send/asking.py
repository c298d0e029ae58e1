"""Ask a DICOM peer which results it takes, by proposing them all and sending none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.fitting import RESULT_CLASSES
from dicom_node.send.association import Association
from dicom_node.send.dicom_file import UNCOMPRESSED
from dicom_node.send.negotiation import VERIFICATION, Remote


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a peer agreed to: transfer syntaxes by SOP class of results, and what it calls itself."""

    implementation: str
    accepted: Mapping[str, tuple[str, ...]]


def ask(remote: Remote) -> Agreement:
    """Associate, proposing every class of result in each transfer syntax it can be sent in, and release.

    Raises `DeliveryDeferred` when nobody answers or the association is rejected.
    """
    proposed = [(uid, (syntax,)) for uid in RESULT_CLASSES for syntax in UNCOMPRESSED]
    with Association(remote, [(VERIFICATION, UNCOMPRESSED), *proposed]) as association:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for sop_class_uid, syntax in sorted(association.accepted):
            if sop_class_uid in RESULT_CLASSES:
                found[sop_class_uid].append(syntax)
        return Agreement(association.implementation, {uid: tuple(syntaxes) for uid, syntaxes in found.items()})
