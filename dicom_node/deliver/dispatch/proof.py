"""Asks one destination whether it has kept what it took, in a thread of its own: sending never waits for an answer.

The best that it offers is used: a storage commitment, else a query for the objects. Where a report of a commitment does
not come in time it is asked by a query, and the next day again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.entities import Proof
from dicom_node.core.errors import DeliveryError, DeliveryRefused, DestinationAway, IndexUnavailable, QueryNotOffered
from dicom_node.core.uids import new_uid
from dicom_node.deliver.kinds.kind import ProofQuestions
from dicom_node.deliver.outgoing import SentObject
from dicom_node.dimse.commitment_scu import CommitmentReport
from dicom_node.dimse.vocabulary import EventStatus
from dicom_node.end import VitalThread
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.outbox import proofs
from dicom_node.index.outbox.destinations import suspension_of
from dicom_node.index.outbox.proofs import Evidence, ProofTimes, Unproved
from dicom_node.storage.spool import Spool

_POLL_S = 1.0
#: So long a destination is believed that it offers no storage commitment, or no query.
_NOT_OFFERED_S = 86400.0
_log = logging.getLogger(__name__)


class Prover:
    """Proves what one destination was sent."""

    def __init__(
        self, destination: str, questions: ProofQuestions, database: Database, spool: Spool, times: ProofTimes
    ) -> None:
        self._destination = destination
        self._questions = questions
        self._database = database
        self._spool = spool
        self._times = times
        self._no_commitment_until = self._no_query_until = 0.0
        self._why_no_commitment = ""
        self._database_away = OutageLog(_log, "proof waits for the database", "proof has the database again")
        self._stop = threading.Event()
        self._thread = VitalThread(self._run, f"proof-{destination}")

    def start(self) -> None:
        """Begin to ask in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the question under way; what is left is asked at the next start."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    @property
    def is_working(self) -> bool:
        """Tell whether its thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._step():
                self._stop.wait(_POLL_S)

    def _step(self) -> bool:
        try:
            is_asked = self.ask_once()
            self._database_away.worked(destination=self._destination)
            return is_asked
        except IndexUnavailable as error:
            self._database_away.failed(str(error), {"destination": self._destination})
        except Exception:  # noqa: BLE001 - the proof door: one question's fault must not end the others
            _log.exception("proof failed unexpectedly", extra={"destination": self._destination})
        return False

    def ask_once(self) -> bool:
        """Ask for what is due; `False` when nothing is, without a lock, or a person has suspended it."""
        with self._database.read() as connection:
            suspension = suspension_of(connection, self._destination)
            is_left_alone = suspension is not None and suspension.by != ""
            if is_left_alone or not proofs.is_any_unproved(
                connection, self._destination, self._times, now_in(connection)
            ):
                return False
        with self._database.write() as connection:
            due = proofs.claim_unproved(connection, self._destination, self._times, now_in(connection))
        others = [one for one in due if not self._asks_for_commitment(one)]
        to_commit = [one for one in due if one not in others]
        if to_commit:
            others += self._not_asked_to_commit(to_commit)
        if others:
            self._ask_by_query(others)
        return bool(due)

    def _asks_for_commitment(self, one: Unproved) -> bool:
        """Tell whether a commitment is asked for: not where a report is overdue that a query can do without, and not
        to see whether what was committed is still there, where a query says that."""
        now = time.monotonic()
        if self._questions.commit is None or now < self._no_commitment_until:
            return False
        is_alone = self._questions.has is None or now < self._no_query_until
        return is_alone or not (one.awaits_report or one.was_proved)

    # --- storage commitment --------------------------------------------------------------------------------------

    def _not_asked_to_commit(self, items: Sequence[Unproved]) -> Sequence[Unproved]:
        """Ask under a new transaction, which is written down before; what comes of it comes as a report.

        Return those that are to be asked for otherwise at once: it does not offer that, or did not take the request.
        In the latter case it may have heard it all the same, so that a report under that transaction counts.
        """
        assert self._questions.commit is not None
        with self._database.write() as connection:
            asked = proofs.begin_transaction(connection, items, new_uid(), self._times, now_in(connection))
        pairs = [(one.sop_class_uid, one.uid) for one in asked]
        what = {"destination": self._destination, "transaction": asked[0].transaction_uid, "objects": len(asked)}
        try:
            self._questions.commit(asked[0].transaction_uid, pairs, self._take)
        except QueryNotOffered as error:
            self._no_commitment_until = time.monotonic() + _NOT_OFFERED_S
            self._why_no_commitment = str(error)
            _log.info("storage commitment not offered", extra={"destination": self._destination, "why": str(error)})
            with self._database.write() as connection:
                proofs.end_transaction(connection, asked)
            return items
        except DeliveryError as error:
            _log.warning("storage commitment not asked for", extra=what | {"why": str(error)})
            if self._questions.has is not None:
                return asked
            self._ask_later(items, error)
            return []
        _log.info("storage commitment asked for", extra=what)
        return []

    def _take(self, report: CommitmentReport) -> int:
        return taken(self._database, report)

    # --- queries -------------------------------------------------------------------------------------------------

    def _ask_by_query(self, items: Sequence[Unproved]) -> None:
        if self._questions.has is None:
            self._cannot_tell(items, self._why_no_commitment)
            return
        try:
            there = self._questions.has([_sent_object(one, self._spool) for one in items])
        except QueryNotOffered as error:
            self._no_query_until = time.monotonic() + _NOT_OFFERED_S
            self._cannot_tell(items, f"{self._why_no_commitment} {error}".strip())
        except DeliveryError as error:
            if isinstance(error, DeliveryRefused) and len(items) > 1:  # one of them: by halves it is found
                middle = len(items) // 2
                self._ask_by_query(items[:middle])
                self._ask_by_query(items[middle:])
            else:
                self._ask_later(items, error)
        else:
            self._note([one for one in items if one.uid in there], [one for one in items if one.uid not in there])

    def _ask_later(self, items: Sequence[Unproved], error: DeliveryError) -> None:
        note = proofs.note_away if isinstance(error, DestinationAway) else proofs.put_off
        with self._database.write() as connection:
            note(connection, items, str(error), self._times, now_in(connection))

    def _note(self, there: Sequence[Unproved], absent: Sequence[Unproved]) -> None:
        evidence = Evidence(Proof.QUERY, "it is found there.")
        with self._database.write() as connection:
            now = now_in(connection)
            proofs.note_proved(connection, there, evidence, now)
            gone = proofs.note_absent(connection, absent, "A query does not find it.", self._times, now)
        if there:
            _log.info("objects proved", extra={"destination": self._destination, "objects": len(there), "how": "query"})
        if gone:
            _log.error("destination does not have what it took", extra={
                "destination": self._destination, "objects": len(gone), "uids": [one.uid for one in gone][:10],
                "advice": "They are sent again, and parked if that does not help; look into its log."})  # fmt: skip

    def _cannot_tell(self, items: Sequence[Unproved], why: str) -> None:
        """What was to come and has not is waited for until the next day; where nothing can come, nobody asks again.

        Who wants a commitment, and nothing else, is asked for it for a week: it may be switched on.
        """
        insists = self._questions.has is None
        overdue = [one for one in items if insists or one.awaits_report or one.was_proved]
        others = [one for one in items if one not in overdue]
        with self._database.write() as connection:
            now = now_in(connection)
            proofs.put_off(connection, overdue, why or "No report has come.", self._times, now)
            if others:
                proofs.give_up(connection, others, f"It offers no proof. {why}".rstrip(), now)
        if others:
            _log.warning("destination offers no proof", extra={"destination": self._destination, "why": why})


def taken(database: Database, report: CommitmentReport) -> EventStatus:
    """Enter a report of a storage commitment, from whichever association it came; return the answer to it."""
    try:
        with database.write() as connection:
            outcome = proofs.take_report(connection, report, now_in(connection))
    except IndexUnavailable:
        return EventStatus.PROCESSING_FAILURE
    what = {"transaction": report.transaction_uid, "by": report.told_by, "destination": outcome.destination}
    if not outcome.is_known:
        _log.warning("report of an unknown storage commitment", extra=what)
        return EventStatus.PROCESSING_FAILURE
    level = logging.ERROR if outcome.missing else logging.INFO
    _log.log(level, "storage commitment reported", extra=what | {
        "committed": outcome.proved, "failed": outcome.missing})  # fmt: skip
    return EventStatus.SUCCESS


def _sent_object(one: Unproved, spool: Spool) -> SentObject:
    return SentObject(
        one.study_instance_uid, one.series_instance_uid, one.sop_class_uid, one.uid, one.kind.value, one.media_type,
        one.sha256, spool.path(one.object_key),
    )  # fmt: skip
