"""All retrievals of this process: asked, waiting, running, finished. What its end cuts off can be taken up again."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dicom_node.config.settings import Settings
from dicom_node.core.errors import IndexUnavailable, NotFound, RetrievalStopped, SourceUnavailable
from dicom_node.end import VitalThread
from dicom_node.index.database import Database
from dicom_node.index.received.retrievals import OpenRetrieval, forget, interrupted, remember
from dicom_node.retrieve.kinds import make_sources
from dicom_node.retrieve.retrieval import FINISHED, Retrieval, RetrievalState, Watch, new_retrieval, perform
from dicom_node.retrieve.sink import RetrieveSink, SinkParts, WantedStudy
from dicom_node.retrieve.source import Source

_log = logging.getLogger(__name__)
#: Retrievals that run at once; more would only share the same disk.
_AT_ONCE = 2
_MOST_WAITING = 500
_REMEMBERED = 1000
_GONE = "The source is no longer in the configuration."


class Retrievals:
    """Runs retrievals in the background. Safe to share between threads."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        sink: SinkParts,
        called_ae_title: str,
        memory: RetrievalMemory | None = None,
    ) -> None:
        """Without `memory` they end with the process."""
        #: By name; others may take their place. What runs goes on with the source that it began with.
        self.sources = sources
        self._memory = memory
        self._sink = sink
        self._called_ae_title = called_ae_title
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Retrieval] = OrderedDict()
        self._arrivals: dict[str, RetrieveSink] = {}
        self._waiting: deque[str] = deque()
        self._running = 0
        self._stopped = threading.Event()

    def source(self, name: str | None) -> Source:
        """Return the source of this name; without a name, the only one there is. Raises `NotFound`."""
        known = ", ".join(self.sources) or "none; add a [[source]] to the configuration"
        if name is None and len(self.sources) == 1:
            return next(iter(self.sources.values()))
        if name is None:
            raise NotFound(f"Name the source to fetch from. Configured: {known}.")
        if name not in self.sources:
            raise NotFound(f"No source has this name. Configured: {known}.")
        return self.sources[name]

    def ask(self, wanted: WantedStudy, source_name: str | None = None) -> Retrieval:
        """Queue a retrieval and return it; the same one that still waits or runs is returned instead of a second.

        Raises `NotFound` when there is no such source, `SourceUnavailable` when too many wait already.
        """
        source = self.source(source_name)
        with self._lock:
            for known in self._known.values():
                if known.state not in FINISHED and (known.source, known.wanted) == (source.name, wanted):
                    return known
            if len(self._waiting) >= _MOST_WAITING:
                raise SourceUnavailable(f"{_MOST_WAITING} retrievals wait already. Ask again later.")
            retrieval = new_retrieval(str(uuid.uuid4()), source.name, wanted)
            if self._memory:
                self._memory.remember(retrieval)
            self._queue(retrieval)
            return retrieval

    def take_up(self) -> None:
        """Queue again what the last end of the node cut off; what it cannot is shown as failed."""
        for retrieval in self._memory.interrupted() if self._memory else ():
            taken = retrieval
            if retrieval.source not in self.sources:
                taken = replace(retrieval, state=RetrievalState.FAILED, reason=_GONE, finished_at=datetime.now(UTC))
                self._forget(retrieval.id)
            _log.info("retrieval taken up", extra={
                "retrieval": taken.id, "source": taken.source, "study": taken.study_instance_uid,
                "state": taken.state.value, "why": taken.reason})  # fmt: skip
            with self._lock:
                self._queue(taken)

    def get(self, id_: str) -> Retrieval:
        """Return a retrieval as it stands. Raises `NotFound`."""
        with self._lock:
            if id_ not in self._known:
                raise NotFound(
                    "No such retrieval. One that has ended is remembered until the node restarts; what had come is "
                    "kept: ask for the study again to have the rest."
                )
            return self._current(self._known[id_])

    def all(self) -> Sequence[Retrieval]:
        """Return every retrieval that is remembered, newest first."""
        with self._lock:
            return [self._current(one) for one in reversed(self._known.values())]

    def stop(self) -> None:
        """Take no more objects; what has come is kept, and what has not is fetched after the next start."""
        self._stopped.set()
        with self._lock:
            self._waiting.clear()

    # --- inside; with the lock held ----------------------------------------------------------------------------

    def _current(self, retrieval: Retrieval) -> Retrieval:
        arrivals = self._arrivals.get(retrieval.id)
        return retrieval if arrivals is None else retrieval.with_progress(arrivals.counts.progress)

    def _queue(self, retrieval: Retrieval) -> None:
        self._known[retrieval.id] = retrieval
        self._forget_oldest()
        if retrieval.state not in FINISHED:
            self._waiting.append(retrieval.id)
            self._start_waiting()

    def _forget_oldest(self) -> None:
        finished = [id_ for id_, one in self._known.items() if one.state in FINISHED]
        for id_ in finished[: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[id_]

    def _start_waiting(self) -> None:
        while self._waiting and self._running < _AT_ONCE:
            self._running += 1
            VitalThread(self._run, f"retrieve-{self._running}", self._waiting.popleft()).start()

    # --- in the thread of one retrieval ------------------------------------------------------------------------

    def _run(self, id_: str) -> None:
        with self._lock:
            retrieval = self._known[id_] = replace(self._known[id_], state=RetrievalState.RUNNING)
        self._finish(self._performed(retrieval))
        if not self._stopped.is_set():
            self._forget(id_)

    def _performed(self, retrieval: Retrieval) -> Retrieval:
        """Fetch, and return how it ended."""
        try:
            watch = Watch(begun=lambda arrivals: self._watch(retrieval.id, arrivals), stopped=self._stopped.is_set)
            return perform(retrieval, self.source(retrieval.source), self._sink, self._called_ae_title, watch)
        except NotFound:
            return replace(retrieval, state=RetrievalState.FAILED, reason=_GONE)
        except RetrievalStopped as stop:
            what_next = "It goes on after the next start." if self._memory else "Ask again."
            return replace(retrieval, state=RetrievalState.FAILED, reason=f"{stop} {what_next}")
        except Exception:  # noqa: BLE001 - the thread's door: one retrieval's fault stays its own
            _log.exception("retrieval failed unexpectedly", extra={"retrieval": retrieval.id})
            why = "The node failed; its log has the error. Report it."
            return replace(retrieval, state=RetrievalState.FAILED, reason=why)

    def _forget(self, id_: str) -> None:
        """Let the index forget it; when that cannot be reached, the next start fetches again what is here already."""
        try:
            if self._memory:
                self._memory.forget(id_)
        except IndexUnavailable as error:
            _log.error("a retrieval that has ended stays in the index", extra={"retrieval": id_, "why": str(error)})

    def _watch(self, id_: str, arrivals: RetrieveSink) -> None:
        with self._lock:
            self._arrivals[id_] = arrivals

    def _finish(self, retrieval: Retrieval) -> None:
        with self._lock:
            current = self._current(retrieval)
            self._arrivals.pop(retrieval.id, None)
            self._known[retrieval.id] = replace(current, finished_at=current.finished_at or datetime.now(UTC))
            self._running -= 1
            self._start_waiting()


def open_retrievals(settings: Settings, sink: SinkParts, memory: RetrievalMemory | None = None) -> Retrievals:
    """Return what fetches studies from the configured sources. Raises `SettingsError`."""
    return Retrievals(make_sources(settings), sink, settings.node.ae_title, memory)


# --- what outlives the process -------------------------------------------------------------------------------------

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
