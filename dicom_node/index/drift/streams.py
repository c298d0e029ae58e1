"""Streams of results and how they compare: what a look reads and writes, and what people, metrics and alarms read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from dicom_node.core.entities import DecisionState, ReviewState
from dicom_node.index.tables import drift_comparisons, drift_features, drift_streams, reviews

FeatureKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStream:
    """The results of one route by one scanner and model version, and what they are compared with.

    `reference` is null until it is complete; then results from `compared_from` on are compared with it.
    """

    number: int
    route: str
    scanner: str
    ae_title: str
    model: str
    model_version: str
    calibrated: bool
    began_at: datetime
    compared_from: datetime | None
    estimate: Mapping[str, Any]
    agreement: Mapping[str, Any]
    reference: Mapping[str, Any] | None
    looked_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftComparison:
    """How one feature compared with the reference at the last look: `statistic` of the `test` (ks or chi2), `shift`
    from 0 to 1, `corrected_p` for all looks of a quarter. `since` says from which look on it drifts, at how many
    `looks` in a row; null: it does not."""

    feature: str
    window_days: int
    test: str
    reference_n: int
    window_n: int
    statistic: float
    shift: float
    corrected_p: float
    since: datetime | None
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """A stream as people see it. `results` are those gathered for the reference, or in it once `compared_from` is set;
    `looked_on` is the day of the last look, "" before the first. `estimate` is what calibrated scores let expect
    without labels, by finding, in the `reference` and in the `window` of the last 28 days; empty for a model that is
    not calibrated. `agreement` has the `weeks` of the control chart of reviews, and how many `disagreed` of the
    `reviewed` in the reference."""

    route: str
    scanner: str
    ae_title: str
    model: str
    model_version: str
    began_at: datetime
    compared_from: datetime | None
    results: int
    looked_on: str
    comparisons: Sequence[DriftComparison]
    estimate: Mapping[str, Any]
    agreement: Mapping[str, Any]

    @property
    def drifting(self) -> list[DriftComparison]:
        """What drifts now."""
        return [one for one in self.comparisons if one.since is not None]


# --- read ----------------------------------------------------------------------------------------------------------


def streams_due(connection: Connection, today: date) -> list[DriftStream]:
    """Return the streams that were not looked at today."""
    query = select(drift_streams).where(drift_streams.c.looked_on < today.isoformat()).order_by(drift_streams.c.id)
    return [_stream(row) for row in connection.execute(query)]


def _stream(row: Row[Any]) -> DriftStream:
    return DriftStream(
        number=row.id, route=row.route, scanner=row.scanner, ae_title=row.ae_title, model=row.model,
        model_version=row.model_version, calibrated=row.calibrated, began_at=row.began_at,
        compared_from=row.compared_from, estimate=row.estimate, agreement=row.agreement, reference=row.reference,
        looked_on=row.looked_on,
    )  # fmt: skip


def times_of(connection: Connection, stream: DriftStream) -> list[datetime]:
    """Return when the results of a stream came since it began, in order."""
    mine = and_(drift_features.c.stream_id == stream.number, drift_features.c.at >= stream.began_at)
    return list(connection.execute(select(drift_features.c.at).where(mine).order_by(drift_features.c.at)).scalars())


def features_between(
    connection: Connection, stream: DriftStream, first: datetime, end: datetime
) -> list[tuple[datetime, Mapping[str, float | str]]]:
    """Return what was kept of the results of a stream that came in a time, in order."""
    at = drift_features.c.at
    mine = and_(drift_features.c.stream_id == stream.number, at >= first, at < end)
    query = select(at, drift_features.c.features).where(mine).order_by(at, drift_features.c.job_key)
    return [(row.at, row.features) for row in connection.execute(query)]


def decisions_of(connection: Connection, stream: DriftStream) -> list[tuple[datetime, bool]]:
    """Return when people decided on results of a stream since it began, and whether they disagreed with the model."""
    mine = and_(drift_features.c.stream_id == stream.number, reviews.c.decided_at >= stream.began_at)
    query = select(reviews.c.decided_at, reviews.c.review_state)
    decided = query.join(drift_features, drift_features.c.job_key == reviews.c.job_key)
    standing = reviews.c.state.in_((DecisionState.DECIDED, DecisionState.DONE))
    rows = connection.execute(decided.where(mine, standing).order_by(reviews.c.decided_at))
    return [(row.decided_at, row.review_state != ReviewState.ACCEPTED) for row in rows]


def comparisons_of(connection: Connection, stream: DriftStream) -> dict[FeatureKey, DriftComparison]:
    """Return how a stream compared at the last look, by feature and days of the window."""
    query = select(drift_comparisons).where(drift_comparisons.c.stream_id == stream.number)
    return {(row.feature, row.window_days): _comparison(row) for row in connection.execute(query)}


def drift_views(connection: Connection, *, every: bool = False) -> list[DriftView]:
    """Return all streams with what drifts, or with `every` comparison; by route, scanner and model."""
    compared: dict[int, list[DriftComparison]] = {}
    query = select(drift_comparisons).order_by(drift_comparisons.c.feature, drift_comparisons.c.window_days)
    for row in connection.execute(query if every else query.where(drift_comparisons.c.since.is_not(None))):
        compared.setdefault(row.stream_id, []).append(_comparison(row))
    gathered = select(drift_features.c.stream_id, func.count()).group_by(drift_features.c.stream_id)
    counts = {row[0]: row[1] for row in connection.execute(gathered)}
    columns = [one for one in drift_streams.c if one.name != "reference"]
    ordered = select(*columns).order_by(drift_streams.c.route, drift_streams.c.scanner, drift_streams.c.id)
    return [
        DriftView(
            route=row.route, scanner=row.scanner, ae_title=row.ae_title, model=row.model,
            model_version=row.model_version, began_at=row.began_at, compared_from=row.compared_from,
            results=row.reference_results if row.compared_from else counts.get(row.id, 0), looked_on=row.looked_on,
            comparisons=compared.get(row.id, ()), estimate=row.estimate, agreement=row.agreement,
        )
        for row in connection.execute(ordered)
    ]  # fmt: skip


def drift_counts(connection: Connection) -> Mapping[tuple[str, str], int]:
    """Return how many features drift, by model and AE title of the scanner, of all that is looked at."""
    drifts = and_(drift_comparisons.c.stream_id == drift_streams.c.id, drift_comparisons.c.since.is_not(None))
    counted = func.count(drift_comparisons.c.feature.distinct())
    named = (drift_streams.c.model, drift_streams.c.ae_title)
    query = select(*named, drift_streams.c.id, counted).outerjoin(drift_comparisons, drifts)
    found: dict[tuple[str, str], int] = {}
    for model, title, _, number in connection.execute(query.group_by(*named, drift_streams.c.id)):
        found[model, title] = found.get((model, title), 0) + number
    return found


def _comparison(row: Row[Any]) -> DriftComparison:
    return DriftComparison(
        feature=row.feature, window_days=row.window_days, test=row.test, reference_n=row.reference_n,
        window_n=row.window_n, statistic=row.statistic, shift=row.shift, corrected_p=row.corrected_p,
        since=row.since, looks=row.looks,
    )  # fmt: skip


# --- written -------------------------------------------------------------------------------------------------------


def note_look(connection: Connection, stream: DriftStream, today: date, **columns: object) -> bool:
    """Note that a stream was looked at; `False` where another process has done so, or a person has begun it anew."""
    unchanged = [drift_streams.c.id == stream.number, drift_streams.c.looked_on == stream.looked_on,
                 drift_streams.c.began_at == stream.began_at]  # fmt: skip
    if stream.compared_from is not None:
        unchanged.append(drift_streams.c.compared_from == stream.compared_from)
    noted = update(drift_streams).where(*unchanged).values(looked_on=today.isoformat(), **columns)
    return connection.execute(noted).rowcount == 1


def keep_comparisons(connection: Connection, stream: DriftStream, found: Sequence[DriftComparison]) -> None:
    """Keep how a stream compares now, instead of before."""
    connection.execute(delete(drift_comparisons).where(drift_comparisons.c.stream_id == stream.number))
    rows = [
        {"stream_id": stream.number, "feature": one.feature, "window_days": one.window_days, "test": one.test,
         "reference_n": one.reference_n, "window_n": one.window_n, "statistic": one.statistic, "shift": one.shift,
         "corrected_p": one.corrected_p, "since": one.since, "looks": one.looks}
        for one in found
    ]  # fmt: skip
    if rows:
        connection.execute(insert(drift_comparisons), rows)


def forget_before(connection: Connection, before: datetime) -> None:
    """Delete what was kept so long ago, unless it is gathered for a reference."""
    compared = select(drift_streams.c.id).where(drift_streams.c.compared_from.is_not(None))
    gathered_before = select(drift_streams.c.id).where(drift_streams.c.began_at > before)
    may_go = or_(drift_features.c.stream_id.in_(compared), drift_features.c.stream_id.in_(gathered_before))
    connection.execute(delete(drift_features).where(drift_features.c.at < before, may_go))
