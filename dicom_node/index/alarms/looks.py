"""What the rows say about alarms: what waits and is parked for how long, and how often models fail. Read-only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from dicom_node.core.entities import DeliveryState, JobState, ResultState, ReviewState
from dicom_node.index.database import is_among
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.tables import deliveries, jobs, notifications, results, self_tests

_ENDED = (JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Waits:
    """How much waits somewhere, and since when the first."""

    number: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Failures:
    """How many analyses of a model ended lately, and how many of them failed for good."""

    ended: int
    failed: int


def owed_since(connection: Connection, state: DeliveryState, names: Collection[str]) -> Mapping[str, Waits]:
    """Return what waits, or is parked, for each of these destinations, objects and events together."""
    found: dict[str, Waits] = {}
    for owed in (deliveries, notifications):
        query = select(owed.c.destination, func.count(), func.min(owed.c.id)).where(owed.c.state == state)
        for name, number, first in connection.execute(query.group_by(owed.c.destination)).all():
            if name in names:
                since = connection.execute(select(owed.c.created_at).where(owed.c.id == first)).scalar_one()
                before = found.get(name, Waits(0, since))
                found[name] = Waits(before.number + number, min(before.since, since))
    return found


def suspended_by_people(connection: Connection) -> frozenset[str]:
    """Return the destinations that a person has suspended."""
    return frozenset(name for name, one in suspensions(connection).items() if one.by)


def due_jobs(connection: Connection, now: datetime) -> Mapping[str, Waits]:
    """Return the analyses of each model that are due and do not run."""
    due = and_(jobs.c.state == JobState.QUEUED, jobs.c.not_before <= now)
    query = select(jobs.c.model, func.count(), func.min(jobs.c.not_before)).where(due).group_by(jobs.c.model)
    return {model: Waits(number, since) for model, number, since in connection.execute(query)}


def failures_since(connection: Connection, now: datetime, window: timedelta) -> Mapping[str, Failures]:
    """Return how analyses of each model ended that were last due within the window."""
    lately = and_(jobs.c.state.in_(_ENDED), jobs.c.not_before >= now - window)
    query = select(jobs.c.model, jobs.c.state, func.count()).where(lately).group_by(jobs.c.model, jobs.c.state)
    found: dict[str, Failures] = {}
    for model, state, number in connection.execute(query):
        before = found.get(model, Failures(0, 0))
        failed = before.failed + (number if state == JobState.FAILED else 0)
        found[model] = Failures(before.ended + number, failed)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreviewedResult:
    """A result that stands and that nobody has reviewed, with its findings as they are kept."""

    job_key: str
    study_instance_uid: str
    route: str
    model: str
    created_at: datetime
    findings: Sequence[Mapping[str, Any]]


def unreviewed_since(connection: Connection, since: datetime) -> Sequence[UnreviewedResult]:
    """Return those that were made since then; what a shadow route made is told to nobody."""
    return _unreviewed(connection, results.c.created_at >= since)


def unreviewed_results(connection: Connection, job_keys: Collection[str]) -> Sequence[UnreviewedResult]:
    """Return those of these keys that still are."""
    return _unreviewed(connection, is_among(results.c.job_key, job_keys))


def _unreviewed(connection: Connection, which: ColumnElement[bool]) -> Sequence[UnreviewedResult]:
    stands = and_(
        results.c.standing == ResultState.CURRENT, results.c.review_state == ReviewState.UNREVIEWED,
        results.c.shadow_of == "", results.c.study_instance_uid.not_in(select(self_tests.c.study_instance_uid)),
    )  # fmt: skip
    return [
        UnreviewedResult(
            job_key=row.job_key, study_instance_uid=row.study_instance_uid, route=row.route, model=row.model,
            created_at=row.created_at,
            findings=[one for one in row.summary.get("findings") or () if isinstance(one, Mapping)],
        )
        for row in connection.execute(select(results).where(which, stands).order_by(results.c.created_at))
    ]  # fmt: skip
