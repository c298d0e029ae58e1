"""One retrieval from beginning to end: what became of it, in a record that the API and the command line show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from dicom_node.core.entities import SendingPeer
from dicom_node.core.errors import NotFound, RetrievalStopped, RetrieveError
from dicom_node.retrieve.sink import Progress, RetrieveSink, SinkParts, WantedStudy
from dicom_node.retrieve.source import Source

_log = logging.getLogger(__name__)


class RetrievalState(StrEnum):
    """Where a retrieval stands. The last four are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    PARTIAL = "PARTIAL"
    NOT_FOUND = "NOT_FOUND"
    FAILED = "FAILED"


FINISHED = frozenset({RetrievalState.DONE, RetrievalState.PARTIAL, RetrievalState.NOT_FOUND, RetrievalState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """What was asked and how far it has come. `received` counts objects that are durable and indexed here.

    `expected` is `None` until the PACS has told how many there are, or when it does not tell.
    """

    id: str
    source: str
    study_instance_uid: str
    series_instance_uids: tuple[str, ...]
    state: RetrievalState
    expected: int | None = None
    received: int = 0
    failed: int = 0
    reason: str = ""
    asked_at: datetime
    finished_at: datetime | None = None

    @property
    def wanted(self) -> WantedStudy:
        """What to ask the source for."""
        return WantedStudy(self.study_instance_uid, self.series_instance_uids)

    def with_progress(self, progress: Progress) -> Retrieval:
        """Return it with new counts."""
        return replace(self, expected=progress.expected, received=progress.received, failed=progress.failed)


def new_retrieval(id_: str, source: str, wanted: WantedStudy) -> Retrieval:
    """Return a retrieval that has not begun."""
    return Retrieval(
        id=id_,
        source=source,
        study_instance_uid=wanted.study_instance_uid,
        series_instance_uids=wanted.series_instance_uids,
        state=RetrievalState.QUEUED,
        asked_at=datetime.now(UTC),
    )


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on: `begun` is given the arrivals as soon as there are any, `stopped` tells that the node is ending."""

    begun: Callable[[RetrieveSink], None] = lambda _arrivals: None
    stopped: Callable[[], bool] = lambda: False


def perform(retrieval: Retrieval, source: Source, sink: SinkParts, called_ae_title: str, watch: Watch) -> Retrieval:
    """Fetch and return the finished retrieval. Raises only `RetrievalStopped`; what came until then is kept."""
    arrivals = RetrieveSink(sink, SendingPeer(source.ae_title, called_ae_title, source.host), watch.stopped)
    watch.begun(arrivals)
    outcome, failure = "aborted", None
    try:
        source.fetch(retrieval.wanted, arrivals)
        outcome = "released"
    except RetrievalStopped:
        outcome = "lost"
        raise
    except (NotFound, RetrieveError) as error:
        failure = error
    finally:
        arrivals.close(outcome)
    arrivals.confirm(retrieval.wanted)
    finished = _judged(retrieval, arrivals.counts.progress, failure)
    _log.info("retrieval finished", extra=_described(finished))
    return finished


def _judged(retrieval: Retrieval, progress: Progress, failure: Exception | None) -> Retrieval:
    """Say what it came to: all, a part, nothing, or not even that."""
    at = datetime.now(UTC)
    counted = replace(retrieval.with_progress(progress), finished_at=at)
    name = retrieval.source
    if isinstance(failure, NotFound) and not progress.received:
        return replace(counted, state=RetrievalState.NOT_FOUND, reason=str(failure))
    if failure is not None:
        return replace(counted, state=RetrievalState.FAILED, reason=str(failure))
    if not progress.received and not progress.failed and not progress.expected:
        return replace(counted, state=RetrievalState.NOT_FOUND, reason=f"{name} sent nothing for this study.")
    missing = max(0, (progress.expected or 0) - progress.received)
    if missing or progress.failed:
        why = progress.reason or f"{name} could not send them, or none of them in an encoding this node takes."
        reason = f"{max(missing, progress.failed)} objects did not come. {why}"
        return replace(counted, state=RetrievalState.PARTIAL, reason=reason)
    return replace(counted, state=RetrievalState.DONE)


def _described(retrieval: Retrieval) -> dict[str, object]:
    """Return what the log says: no patient in it."""
    return {
        "retrieval": retrieval.id,
        "source": retrieval.source,
        "study": retrieval.study_instance_uid,
        "state": retrieval.state.value,
        "expected": retrieval.expected,
        "received": retrieval.received,
        "failed": retrieval.failed,
        "why": retrieval.reason,
    }
