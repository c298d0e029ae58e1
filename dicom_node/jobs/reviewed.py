"""Results that tell what a person decided: made in the worker process from what was found, saved in one transaction.

What cannot be made now is tried again, and the review and the timeline say why it waits. After the last attempt the
decision has failed: the result stands as the model gave it, and a person decides again.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from dicom_node.core.entities import JobOutcome
from dicom_node.core.errors import IndexUnavailable, NodeError, SpoolUnavailable
from dicom_node.index.database import Database
from dicom_node.index.decided import reviews
from dicom_node.index.decided.reviews import ClaimedReview
from dicom_node.index.due import now_in
from dicom_node.index.results import add_objects, falls, is_written_in, save_reviewed_result
from dicom_node.index.transitions import record
from dicom_node.jobs.keeping import Worker, kept, marked, performed_by, require_own
from dicom_node.jobs.lease import lease_kept
from dicom_node.jobs.planning import JobSettings, Plan
from dicom_node.jobs.review_planning import ReviewPlanner
from dicom_node.jobs.tasks import Performed
from dicom_node.storage.folder import room_in
from dicom_node.storage.spool import Spool

#: So often it is tried, which takes about 20 minutes: a person waits for it, and what lasts longer needs another.
MOST_ATTEMPTS = 10
_RETRY_WAIT_S, _LONGEST_WAIT_S = 5.0, 300.0
#: A full disk is looked at again after so long; it costs no attempt.
_NO_ROOM_WAIT_S = 30.0
_log = logging.getLogger(__name__)


class ReviewedResults:
    """Makes what decisions wait for. Several threads may call one instance, and several instances share a database."""

    def __init__(self, database: Database, spool: Spool, worker: Worker, settings: JobSettings) -> None:
        self._database = database
        self._spool = spool
        self._worker = worker
        self._settings = settings
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Say that the worker process is about to be closed: what that interrupts is no failure."""
        self._stopping.set()

    def make_next(self) -> bool:
        """Make the result of the next decision; `False` where none waits.

        Raises `IndexUnavailable`, and `SpoolUnavailable` when the disk has no room: the decision waits.
        """
        with self._database.write() as connection:
            settings = self._settings
            claimed = reviews.claim_review(connection, settings.owner, now_in(connection), settings.lease_s)
        if claimed is None:
            return False
        if claimed.attempt > MOST_ATTEMPTS:  # those before ended with the process
            self._give_up(claimed, claimed.last_failure or "The node died every time that it was tried; see its log.")
            return True
        try:
            with lease_kept(lambda: self._renew(claimed), settings.lease_s, f"review {claimed.id}"):
                self._make(claimed)
        except IndexUnavailable:
            raise  # the lease runs out and it is made again, with the same result
        except SpoolUnavailable as error:
            self._give_back(claimed, str(error), _NO_ROOM_WAIT_S)
            raise
        except Exception as error:  # noqa: BLE001 - the worker's door: one bad review must not stop the others
            self._failed(claimed, error)
        return True

    def make_in_further_sets(self, wanted: Plan) -> None:
        """Make a reviewed result, that a plan leads to, in the output sets that destinations need by now.

        A destination may have refused the class of the verified report. Of a result of a model nothing is done.
        """
        with self._database.read() as connection:
            told = reviews.review_told_by(connection, wanted.key)
            if told is None or is_written_in(connection, wanted.key, wanted.delivery_plan.output_keys):
                return
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir, prefix="review-") as folder:
            plan = self._plan(told, Path(folder))
            performed = performed_by(self._worker, plan.task)
            require_own(self._database, plan.key, performed)
            outcome = self._outcome(plan, performed)
        with self._database.write() as connection:
            add_objects(connection, plan.key, outcome)
            self._tell_left_out(connection, told, plan)
        _log.info("reviewed result made in further output sets", extra=_about(told))

    def _make(self, claimed: ClaimedReview) -> None:
        with self._database.write() as connection:
            if falls(connection, claimed, now_in(connection)):
                return
        work_dir = self._settings.work_dir
        with room_in(work_dir), tempfile.TemporaryDirectory(dir=work_dir, prefix="review-") as folder:
            plan = self._plan(claimed, Path(folder))
            performed = performed_by(self._worker, plan.task)
            require_own(self._database, plan.key, performed)
            self._save(claimed, plan, performed)

    def _plan(self, claimed: ClaimedReview, folder: Path) -> Plan:
        planner = ReviewPlanner(self._spool, self._settings.with_present_routes(self._settings))
        with self._database.read() as connection:
            return planner.plan_review(connection, claimed, folder)

    def _outcome(self, plan: Plan, performed: Performed) -> JobOutcome:
        return JobOutcome(
            state=performed.state,
            reason=performed.reason,
            message=performed.message,
            artifacts=kept(self._spool, performed, plan.task),
            summary=marked(performed.summary, plan.task.request.context),
            output_keys=plan.delivery_plan.output_keys,
        )

    def _save(self, claimed: ClaimedReview, plan: Plan, performed: Performed) -> None:
        outcome = self._outcome(plan, performed)
        with self._database.write() as connection:
            saved = save_reviewed_result(connection, claimed, plan.key, outcome, plan.delivery_plan.destinations)
            if saved:
                self._tell_left_out(connection, claimed, plan)
        _log.info("reviewed result made" if saved else "review not told", extra=_about(claimed))

    def _tell_left_out(self, connection: Connection, claimed: ClaimedReview, plan: Plan) -> None:
        """Say in the timeline what destinations do not get, since they do not take it."""
        if plan.delivery_plan.notes:
            told = ("outputs", " ".join(plan.delivery_plan.notes))
            record(connection, claimed.study_instance_uid, now_in(connection), told, route=claimed.job.route)

    def _renew(self, claimed: ClaimedReview) -> None:
        with self._database.write() as connection:
            reviews.renew_review(connection, claimed, now_in(connection), self._settings.lease_s)

    def _failed(self, claimed: ClaimedReview, error: Exception) -> None:
        if self._stopping.is_set():
            return self._give_back(claimed, "", 0.0)
        told = str(error) if isinstance(error, NodeError) else f"Unexpected {type(error).__name__}; see the node's log."
        _log.error("reviewed result not made", exc_info=not isinstance(error, NodeError),
                   extra=_about(claimed) | {"why": told, "attempt": claimed.attempt})  # fmt: skip
        return self._put_off(claimed, told) if claimed.attempt < MOST_ATTEMPTS else self._give_up(claimed, told)

    def _put_off(self, claimed: ClaimedReview, note: str) -> None:
        wait_s = min(_RETRY_WAIT_S * 2 ** (claimed.attempt - 1), _LONGEST_WAIT_S)
        with self._database.write() as connection:
            now = now_in(connection)
            reviews.put_off_review(connection, claimed, note, now + timedelta(seconds=wait_s))
            if claimed.attempt == 1:
                told = (reviews.REVIEWED, f"The report of the review cannot be made yet and is tried again: {note}")
                record(connection, claimed.study_instance_uid, now, told, route=claimed.job.route, review=claimed.id)

    def _give_back(self, claimed: ClaimedReview, note: str, wait_s: float) -> None:
        with self._database.write() as connection:
            until = now_in(connection) + timedelta(seconds=wait_s)
            reviews.give_review_back(connection, claimed, note, until)

    def _give_up(self, claimed: ClaimedReview, why: str) -> None:
        with self._database.write() as connection:
            failed = reviews.give_review_up(connection, claimed, why, now_in(connection))
        if failed:
            advice = "Remove the cause, then have a reviewer decide again at the result."
            _log.error("review given up", extra=_about(claimed) | {"why": why, "advice": advice})


def _about(claimed: ClaimedReview) -> dict[str, object]:
    return {"study": claimed.study_instance_uid, "route": claimed.job.route, "review": claimed.id}
