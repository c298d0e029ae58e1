"""Before a node that was put back from a backup sends anything of an older study: is it there already?

What was delivered after the backup is still owed in it, and what was analysed after it is analysed again: under the
same UIDs, at another time. A destination that can be asked gets none of it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from dicom_node.core.entities import Artifact
from dicom_node.core.errors import QueryNotOffered
from dicom_node.deliver.outgoing import SentObject
from dicom_node.index.database import Database
from dicom_node.index.outbox.deliveries import DeliveryBatch
from dicom_node.index.studies import is_received_before
from dicom_node.storage.spool import Spool


class AlreadyThere:
    """Asks one destination; `restored_at` is when the node was put back, `has` which of these objects it has."""

    def __init__(self, restored_at: datetime, has: Callable[[Sequence[SentObject]], Collection[str]]) -> None:
        self._restored_at = restored_at
        self._has = has

    def found(self, database: Database, spool: Spool, batch: DeliveryBatch) -> Collection[str]:
        """Return the UIDs of those objects of a batch that the destination has, none for a study that came later.

        One that cannot be asked is sent everything: the UIDs are the same. Raises `DeliveryDeferred`.
        """
        with database.read() as connection:
            if not is_received_before(connection, batch.study_instance_uid, self._restored_at):
                return ()
        try:
            return self._has([_sent_object(batch, one.artifact, spool) for one in batch.items])
        except QueryNotOffered:
            return ()


def _sent_object(batch: DeliveryBatch, one: Artifact, spool: Spool) -> SentObject:
    return SentObject(
        batch.study_instance_uid, one.series_instance_uid, one.sop_class_uid, one.uid, one.kind.value, one.media_type,
        one.sha256, spool.path(one.object_key),
    )  # fmt: skip
