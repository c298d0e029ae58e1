"""The outcome of a storage commitment, told to the peer's own listener over a new association (PS3.4 J.3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from dicom_node.core.errors import DeliveryDeferred
from dicom_node.dimse.association import Association
from dicom_node.dimse.command_set import Field, event_report_command
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import Remote, deferred_rejection
from dicom_node.dimse.vocabulary import PLAIN_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

_MESSAGE_ID = 1


@dataclass(frozen=True, slots=True)
class CommitmentOutcome:
    """What an N-EVENT-REPORT says: 1 all committed, 2 failures exist; and which."""

    event_type: int
    data_set: Dataset


class _ReportAssociation(Association):
    """An association on which one report is sent. Raises `DeliveryDeferred` when there is no one, or they say no."""

    peer_errors = PeerErrors(DeliveryDeferred, "Tried again later.", partial(deferred_rejection, section="peer"))
    asked_pdu_bytes = 65536  # responses are commands only
    longest_sent_bytes = 131072


def report_outcome(remote: Remote, outcome: CommitmentOutcome) -> int:
    """Send the N-EVENT-REPORT and return the status of the answer.

    Raises `DeliveryDeferred` when the peer is away, does not take the service, or does not answer.
    """
    # The one who asks for the association is the SCP of this service: it says so by role selection.
    proposed = [(STORAGE_COMMITMENT, PLAIN_TRANSFER_SYNTAXES)]
    with _ReportAssociation(remote, proposed, [STORAGE_COMMITMENT]) as association:
        context = association.context_of(STORAGE_COMMITMENT)
        if context is None:
            raise DeliveryDeferred(f"{remote} does not take reports of Storage Commitment; tried again later.")
        context_id, syntax = context[0], UID(context[1])
        data_set = encode(outcome.data_set, syntax.is_implicit_VR, syntax.is_little_endian)
        assert data_set is not None, "the report is made of UIDs and numbers"
        command = event_report_command(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, outcome.event_type, _MESSAGE_ID)
        association.send(context_id, command, data_set)
        return association.response(Field.N_EVENT_REPORT_RSP, _MESSAGE_ID)
