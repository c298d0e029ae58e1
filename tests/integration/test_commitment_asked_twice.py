"""One request for storage commitment reaches two receivers at the same moment: it is kept once, and none fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from dicom_node.core.uids import derived_uid
from dicom_node.index.database import Database
from dicom_node.index.outbox.commitments import CommitmentRequest, add_request, due_requests
from tests.support.beside_each_other import beside_each_other
from tests.support.results.arrivals import after

NAMES = [str(number) for number in range(20)]
ASKED = CommitmentRequest(
    number=0, transaction_uid="", association_id="a", calling_ae_title="CT1", called_ae_title="AINODE",
    source_host="10.0.0.1", transfer_syntax_uid="1.2.840.10008.1.2.1", request=b"asked", attempts=0,
    requested_at=after(0),
)  # fmt: skip


def test_a_request_that_two_receivers_take_at_once_is_kept_once(index: Database) -> None:
    def take(receiver: str) -> Callable[[Connection, str], None]:
        def keep(connection: Connection, name: str) -> None:
            add_request(connection, receiver, replace(ASKED, transaction_uid=derived_uid("transaction", name)))

        return keep

    beside_each_other(index, NAMES, take("first"), take("second"))
    with index.read() as connection:
        kept = [one for receiver in ("first", "second") for one in due_requests(connection, receiver, after(1))]
    assert sorted(one.transaction_uid for one in kept) == sorted(derived_uid("transaction", name) for name in NAMES)
