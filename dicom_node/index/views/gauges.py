"""How much waits and for how long, by the rows: what metrics tell at any moment, after any restart. Read-only.

What is finished is counted by indexes alone, what is open by its few rows, so that years of studies cost no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, func, select

from dicom_node.core.alarms.rules import RULES
from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.metrics import table
from dicom_node.core.metrics.tally import TALLY, Count, Labels
from dicom_node.index.alarms.standing import raised_by_rule
from dicom_node.index.damage import damage_counts
from dicom_node.index.drift.stops import route_stops
from dicom_node.index.drift.streams import drift_counts
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.reports.kept import counted_reports
from dicom_node.index.tables import deliveries, jobs, notifications, studies

_Values = dict[Labels, float]
_OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING)
_OPEN_DELIVERIES = (DeliveryState.PENDING, DeliveryState.PARKED)


def gauges(
    connection: Connection, now: datetime, destinations: Sequence[str], models: Sequence[str],
    routes: Sequence[str] = (),
) -> list[Count]:  # fmt: skip
    """Return what waits; destinations, models and routes are named also when nothing waits for them."""
    return [
        *_of_studies(connection, now),
        *_of_jobs(connection, now, models),
        *_of_deliveries(connection, now, destinations),
        *_of_suspensions(connection, destinations),
        *(Count(table.REPORTS.name, (one.lower(),), number) for one, number in counted_reports(connection).items()),
        *_of_drift(connection, routes),
        Count(table.DAMAGED.name, (), damage_counts(connection).total),
        *_of_alarms(connection),
    ]


def _of_studies(connection: Connection, now: datetime) -> Iterator[Count]:
    yield from _by_state(connection, table.STUDIES, studies, tuple(StudyState))
    receiving = select(func.min(studies.c.first_received_at)).where(studies.c.state == StudyState.RECEIVING)
    yield Count(table.STUDY_OLDEST.name, (), _age_s(connection.execute(receiving).scalar(), now))


def _of_jobs(connection: Connection, now: datetime, models: Sequence[str]) -> Iterator[Count]:
    yield from _by_state(connection, table.JOBS, jobs, tuple(JobState))
    numbers: _Values = {(model, state.value): 0.0 for model in models for state in _OPEN_JOBS}
    ages: _Values = {(model,): 0.0 for model in models}
    query = select(jobs.c.model, jobs.c.state, func.count(), func.min(jobs.c.not_before))
    query = query.where(jobs.c.state.in_(_OPEN_JOBS)).group_by(jobs.c.model, jobs.c.state)
    for name, state, number, since in connection.execute(query):
        model = TALLY.told("model", name)
        numbers[model, state] = numbers.get((model, state), 0) + number
        if state == JobState.QUEUED:
            ages[model,] = max(ages.get((model,), 0.0), _age_s(since, now))
    yield from _counts(table.JOBS_OPEN, numbers)
    yield from _counts(table.JOB_OLDEST, ages)


def _of_deliveries(connection: Connection, now: datetime, destinations: Sequence[str]) -> Iterator[Count]:
    """Count objects and events together: a destination is owed the one or the other."""
    numbers: _Values = {(name, state.value): 0.0 for name in destinations for state in _OPEN_DELIVERIES}
    ages: _Values = {(name,): 0.0 for name in destinations}
    for owed in (deliveries, notifications):
        # By an index alone, however much waits after weeks without a destination: rows are numbered as they are owed.
        query = select(owed.c.destination, owed.c.state, func.count(), func.min(owed.c.id))
        query = query.where(owed.c.state.in_(_OPEN_DELIVERIES)).group_by(owed.c.destination, owed.c.state)
        for name, state, number, first in connection.execute(query).all():
            to = TALLY.told("destination", name)
            numbers[to, state] = numbers.get((to, state), 0) + number
            if state == DeliveryState.PENDING:
                since = connection.execute(select(owed.c.created_at).where(owed.c.id == first)).scalar()
                ages[to,] = max(ages.get((to,), 0.0), _age_s(since, now))
    yield from _counts(table.DELIVERIES_OPEN, numbers)
    yield from _counts(table.DELIVERY_OLDEST, ages)


def _of_suspensions(connection: Connection, destinations: Sequence[str]) -> Iterator[Count]:
    suspended = suspensions(connection)
    for name in destinations:
        by = "" if name not in suspended else "person" if suspended[name].by else "node"
        for who in ("person", "node"):
            yield Count(table.DESTINATION_SUSPENDED.name, (name, who), by == who)


def _of_alarms(connection: Connection) -> Iterator[Count]:
    raised = raised_by_rule(connection)
    for rule in RULES:
        yield Count(table.ALARMS_OPEN.name, (rule.code,), raised.get(rule.code, 0))


def _of_drift(connection: Connection, routes: Sequence[str]) -> Iterator[Count]:
    numbers: _Values = {}
    for (model, ae_title), number in drift_counts(connection).items():
        labels = TALLY.told("model", model), TALLY.told("peer", ae_title)
        numbers[labels] = numbers.get(labels, 0) + number
    yield from _counts(table.DRIFT_FEATURES, numbers)
    stopped: _Values = {(route,): 0.0 for route in routes}
    stopped |= {(one.route,): float(one.restored_at is None) for one in route_stops(connection, every=True)}
    yield from _counts(table.ROUTE_STOPPED, stopped)


def _by_state(connection: Connection, metric: table.Metric, rows: Table, states: Sequence[Any]) -> Iterator[Count]:
    counted = select(rows.c.state, func.count()).group_by(rows.c.state)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(counted)}
    yield from _counts(metric, {(state.value,): found.get(state, 0) for state in states})


def _counts(metric: table.Metric, values: Mapping[Labels, float]) -> Iterator[Count]:
    return (Count(metric.name, labels, value) for labels, value in values.items())


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
