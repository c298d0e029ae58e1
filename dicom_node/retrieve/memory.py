"""What outlives the process: retrievals that have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dicom_node.index.database import Database
from dicom_node.index.retrievals import OpenRetrieval, forget, interrupted, remember
from dicom_node.retrieve.retrieval import Retrieval, RetrievalState

#: A retrieval under which the node ended so often may be why it did.
_MOST_INTERRUPTIONS = 3


@dataclass(frozen=True, slots=True)
class RetrievalMemory:
    """Keeps the open retrievals of one receiver in the index."""

    database: Database
    receiver_id: str

    def remember(self, retrieval: Retrieval) -> None:
        """Keep it until `forget`."""
        asked = OpenRetrieval(
            id=retrieval.id,
            source=retrieval.source,
            study_instance_uid=retrieval.study_instance_uid,
            series_instance_uids=retrieval.series_instance_uids,
            asked_at=retrieval.asked_at,
        )
        with self.database.write() as connection:
            remember(connection, self.receiver_id, asked)

    def forget(self, id_: str) -> None:
        """Drop it: it has ended."""
        with self.database.write() as connection:
            forget(connection, id_)

    def interrupted(self) -> Sequence[Retrieval]:
        """Return what the last end of this receiver cut off: to be queued again, or given up."""
        with self.database.write() as connection:
            found = [_taken_up(one) for one in interrupted(connection, self.receiver_id)]
            for one in found:
                if one.state is RetrievalState.FAILED:
                    forget(connection, one.id)
        return found


def _taken_up(asked: OpenRetrieval) -> Retrieval:
    queued = Retrieval(
        id=asked.id,
        source=asked.source,
        study_instance_uid=asked.study_instance_uid,
        series_instance_uids=asked.series_instance_uids,
        state=RetrievalState.QUEUED,
        asked_at=asked.asked_at,
    )
    if asked.interrupted <= _MOST_INTERRUPTIONS:
        return queued
    why = f"The node ended {asked.interrupted} times before this was over; see its log. Ask again."
    return replace(queued, state=RetrievalState.FAILED, reason=why, finished_at=datetime.now(UTC))
