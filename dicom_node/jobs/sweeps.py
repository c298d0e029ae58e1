"""Looks again and again for studies that may be complete, and queues the analyses their routes want.

The truth stays in the database; a sweep only notices that time has passed, and may run on any machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from dicom_node.core.entities import Route, Study, StudyState
from dicom_node.core.errors import IndexUnavailable
from dicom_node.core.metrics.spans import SPANS, Span, study_key
from dicom_node.core.metrics.table import STUDY_SECONDS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.priority import Priority, priority_of
from dicom_node.core.received.completeness import Arrivals, CompletenessVerdict, judge
from dicom_node.core.series.routing import RouteDecision, decide
from dicom_node.index.damage import lacks_records
from dicom_node.index.database import Database
from dicom_node.index.decided.suspensions import decide_anew, hold_study, in_words, ready_again, route_suspensions
from dicom_node.index.due import now_in
from dicom_node.index.retention.deletions import lacks_deleted
from dicom_node.index.studies import (
    NewJob,
    add_jobs,
    arrivals,
    conclude_study,
    count_arrivals_anew,
    has_arrivals_ahead,
    load_study,
    moved_to,
    perhaps_complete,
    requests_of,
    routes_with_jobs,
    why_no_images,
)
from dicom_node.index.transitions import Change, move_study

#: A study that no route wants is called complete after this long.
DEFAULT_QUIET_S = 30.0
DEFAULT_MAX_WAIT_S = 7200.0
#: So many studies that were held for a route are let go in one sweep.
_LET_GO_AT_ONCE = 100
_LACKING = "An image was damaged before it was filed, so the study is not complete."
_log = logging.getLogger(__name__)


class Card(Protocol):
    """What routing needs to know of a model."""

    @property
    def accepts(self) -> Sequence[Mapping[str, object]]: ...
    @property
    def rank(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class CompletenessSweep:
    """Finds studies that are complete for a route and queues the route's analysis."""

    database: Database
    routes: Sequence[Route]
    cards: Mapping[str, Card]
    wake_job_runner: Callable[[], None]
    #: Studies of which an acknowledged object is still on its way into the index.
    unsettled: Callable[[], frozenset[str]] = frozenset

    def run(self) -> None:
        """Look at every study that may be due."""
        self._let_go()
        shortest_quiet_s = min([r.quiet_period_s for r in self.routes], default=DEFAULT_QUIET_S)
        shortest_wait_s = min([r.max_wait_s for r in self.routes], default=DEFAULT_MAX_WAIT_S)
        with self.database.read() as connection:
            now = now_in(connection)
            due = perhaps_complete(
                connection, now - timedelta(seconds=shortest_quiet_s), now - timedelta(seconds=shortest_wait_s)
            )
            is_ahead = has_arrivals_ahead(connection, now)
        if is_ahead:
            with self.database.write() as connection:
                count_arrivals_anew(connection, now)
        unsettled = self.unsettled()
        for uid in due:
            if uid not in unsettled and self._step(uid, now, unsettled):
                self.wake_job_runner()

    def _let_go(self) -> None:
        """Let all routes decide anew on studies that were held for a route which a person has resumed, the longest
        held first; a part of them at a time, so that what comes in now does not wait behind all of them."""
        names = [route.name for route in self.routes]
        with self.database.read() as connection:
            held, now = ready_again(connection, names, _LET_GO_AT_ONCE), now_in(connection)
        for uid in held:
            with self.database.write() as connection:
                decide_anew(connection, uid, names, now)

    def _step(self, uid: str, now: datetime, unsettled: frozenset[str]) -> int:
        """Decide on one study in a transaction of its own; return how many jobs were queued."""
        try:
            with self.database.write() as connection:
                others = moved_to(connection, uid)
                return 0 if others & unsettled else self._decide(connection, uid, others, now)
        except IndexUnavailable:
            raise
        except Exception:  # noqa: BLE001 - the worker's door: one bad study must not stop the others
            _log.exception("no decision on a study", extra={"study": uid})
            return 0

    def _decide(self, connection: Connection, uid: str, others: set[str], now: datetime) -> int:
        """Queue what is due for one study, whose images may go to `others`; return how many jobs."""
        study = load_study(connection, uid, lock=True)
        if study is None or study.state is not StudyState.RECEIVING:
            return 0
        decisions = {route.name: self._route(study, route) for route in self.routes}
        matched = [route for route in self.routes if decisions[route.name].matched]
        seen = arrivals(connection, study, others)
        cut = routes_with_jobs(connection, study)
        lacking, suspended = lacks_records(connection, uid), route_suspensions(connection)
        if why := lacks_deleted(connection, uid):
            if judge(seen, DEFAULT_QUIET_S, DEFAULT_MAX_WAIT_S, now).ready:
                _end_unanalysed(connection, uid, why, now)
            return 0
        wanted: list[NewJob] = []
        for route in matched:
            verdict = judge(seen, route.quiet_period_s, route.max_wait_s, now)
            if lacking:
                verdict = replace(verdict, partial=True, reason=f"{verdict.reason} {_LACKING}")
            if route.name not in cut and verdict.ready:
                wanted.append(_job(route, decisions[route.name], verdict, priority_of(study, route.priority)))
        held = {job.route: suspended[job.route] for job in wanted if job.route in suspended}
        due = [job for job in wanted if job.route not in held]
        add_jobs(connection, study, due, now)
        hold_study(connection, uid, held, now)
        cut |= {job.route for job in wanted}
        if matched and all(route.name in cut for route in matched):
            why = " ".join(in_words(name, one) for name, one in held.items())
            move_study(connection, uid, StudyState.COMPLETE, Change(now), reason=why)
            _measure(connection, study, seen, now)
            conclude_study(connection, uid, now)
        elif not matched and judge(seen, DEFAULT_QUIET_S, DEFAULT_MAX_WAIT_S, now).ready:
            why = _why_unwanted(list(decisions.values())) if study.series else why_no_images(connection, uid)
            _end_unanalysed(connection, uid, why, now)
            _measure(connection, study, seen, now)
        return len(due)

    def _route(self, study: Study, route: Route) -> RouteDecision:
        card = self.cards[route.model]
        return decide(study, route, card.accepts, card.rank)


def _end_unanalysed(connection: Connection, uid: str, why: str, now: datetime) -> None:
    move_study(connection, uid, StudyState.COMPLETE, Change(now))
    move_study(connection, uid, StudyState.NOT_ANALYSED, Change(now), reason=why)


def _job(route: Route, decision: RouteDecision, verdict: CompletenessVerdict, priority: Priority) -> NewJob:
    urgency = "" if priority is Priority.ROUTINE else f" Priority {priority}."
    return NewJob(
        route=route.name,
        model=route.model,
        series_instance_uid=decision.chosen or "",
        study_partial=verdict.partial,
        decision=decision.as_dict(),
        reason=f"{verdict.reason} {decision.reason}{urgency}",
        priority=priority,
        shadow_of=route.shadow_of,
    )


def _measure(connection: Connection, study: Study, seen: Arrivals, now: datetime) -> None:
    """Count how long a study came, and how long it was quiet before it was complete; and tell who traces it."""
    took_s = (seen.last_received_at - seen.first_received_at).total_seconds()
    TALLY.observe(STUDY_SECONDS, took_s, stage="receive")
    TALLY.observe(STUDY_SECONDS, (now - seen.last_received_at).total_seconds(), stage="quiet")
    if SPANS.are_heard:
        requests = tuple(requests_of(connection, study.study_instance_uid))
        first, last, end = (at.timestamp() for at in (seen.first_received_at, seen.last_received_at, now))
        _tell(study, ("study", "", study_key(study.revision)), (first, end), requests)
        _tell(study, ("receive", study_key(study.revision), ""), (first, last), requests)
        _tell(study, ("settle", study_key(study.revision), ""), (last, end), requests)


def _tell(study: Study, which: tuple[str, str, str], when: tuple[float, float], requests: tuple[str, ...]) -> None:
    """Tell of one step: name, parent and key (none: one of its own)."""
    name, parent, key = which
    step = Span(
        study_instance_uid=study.study_instance_uid, name=name, parent=parent, began_s=when[0], ended_s=when[1],
        requests=requests, attributes={"revision": study.revision},
    )  # fmt: skip
    SPANS.tell(replace(step, key=key) if key else step)


def _why_unwanted(decisions: Sequence[RouteDecision]) -> str:
    why = " ".join(decision.reason for decision in decisions) or "No route is configured."
    return f"No route wants this study. {why}"
