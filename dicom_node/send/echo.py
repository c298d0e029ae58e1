"""Ask a DICOM application whether it is there."""

from __future__ import annotations

import time

from dicom_node.errors import DeliveryDeferred
from dicom_node.send.association import Association
from dicom_node.send.dicom_file import UNCOMPRESSED
from dicom_node.send.negotiation import VERIFICATION, Remote
from dicom_node.send.statuses import SUCCESS


def echo(remote: Remote) -> float:
    """Associate, C-ECHO, release; return the seconds it took.

    Raises `DeliveryDeferred` when there is no answer or a rejection, `DeliveryRefused` when C-ECHO is not accepted.
    """
    started = time.monotonic()
    with Association(remote, [(VERIFICATION, UNCOMPRESSED)]) as association:
        status = association.echo()
    if status != SUCCESS:
        raise DeliveryDeferred(f"{remote} answered C-ECHO with 0x{status:04X}; look into its log.")
    return time.monotonic() - started
