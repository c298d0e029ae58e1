"""The outcome of a storage commitment, told to the peer's own listener over a new association (PS3.4 J.3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from dicom_node.core.errors import DeliveryDeferred
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.tls import library_arguments


@dataclass(frozen=True, slots=True)
class CommitmentOutcome:
    """What an N-EVENT-REPORT says: 1 all committed, 2 failures exist; and which."""

    event_type: int
    data_set: Dataset


def report_outcome(remote: Remote, outcome: CommitmentOutcome) -> int:
    """Send the N-EVENT-REPORT and return the status of the answer.

    Raises `DeliveryDeferred` when the peer is away, does not take the service, or does not answer.
    """
    try:
        tls_args = library_arguments(remote.tls, remote.host)
    except OSError as error:
        raise DeliveryDeferred(f"{remote} cannot be called: {error.strerror or error}. Check [dicom_tls].") from error
    ae = AE(ae_title=remote.calling_ae_title)
    ae.implementation_class_uid, ae.implementation_version_name = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = remote.timeout_s
    ae.add_requested_context(StorageCommitmentPushModel)
    # The one who asks for the association is the SCP of this service: it says so by role selection.
    role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    association = ae.associate(
        remote.host, remote.port, ae_title=remote.called_ae_title, ext_neg=[role], tls_args=tls_args
    )
    if not association.is_established:
        raise DeliveryDeferred(f"{remote} did not accept an association for Storage Commitment; tried again later.")
    try:
        answer, _ = association.send_n_event_report(
            outcome.data_set, outcome.event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except ValueError as error:  # no accepted context
        association.abort()
        raise DeliveryDeferred(f"{remote} does not take reports of Storage Commitment; tried again later.") from error
    if association.is_established:
        association.release()
    if not answer:
        raise DeliveryDeferred(f"{remote} did not answer the report of Storage Commitment; tried again later.")
    return int(answer.Status)
