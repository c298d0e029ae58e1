"""Shadow routes beside the routes they shadow: compared when both have answered, and counted for the operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select

from dicom_node.core.assessment.agreement import Agreement, compare
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.tables import jobs, results
from dicom_node.index.transitions import record

#: Kind of the timeline's line about a comparison.
SHADOW = "shadow"
_DISAGREEMENTS_SHOWN = 20

_shadow, _live = jobs.alias("shadow"), jobs.alias("live")
_shadow_result, _live_result = results.alias("shadow_result"), results.alias("live_result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A study about which the two routes did not say the same; `lines` are sentences."""

    study_instance_uid: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """How often a shadow route agreed with the route it shadows, and the latest studies where it did not."""

    route: str
    model: str
    shadow_of: str
    live_model: str
    compared: int
    agreed: int
    disagreements: Sequence[Disagreement]


def tell_agreement(connection: Connection, job: ClaimedJob, now: datetime) -> None:
    """Put into the timeline what comparing a finished job with its counterparts says, as soon as both are there."""
    mine = or_(_shadow.c.id == job.id, _live.c.id == job.id)
    for row in connection.execute(_pairs().where(mine)):
        agreement = _agreement(row)
        verdict = "agrees with" if agreement.agrees else "differs from"
        text = f"Shadow route {row.route} {verdict} {row.shadow_of}. {'; '.join(agreement.lines)}."
        record(connection, job.study_instance_uid, now, (SHADOW, text), route=row.route, agrees=agreement.agrees)


def shadow_reports(connection: Connection, limit: int = 1000) -> list[ShadowReport]:
    """Compare the latest studies of every shadow route that has answered, at most `limit` of all together."""
    rows = connection.execute(_pairs().order_by(_shadow.c.id.desc()).limit(limit)).all()
    by_pair: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in rows:
        by_pair.setdefault((row.route, row.shadow_of), []).append(row)
    return [_report(of_pair) for _, of_pair in sorted(by_pair.items())]


def _report(rows: Sequence[Row[Any]]) -> ShadowReport:
    compared = [(row, _agreement(row)) for row in rows]
    return ShadowReport(
        route=rows[0].route,
        model=rows[0].model,
        shadow_of=rows[0].shadow_of,
        live_model=rows[0].live_model,
        compared=len(compared),
        agreed=sum(agreement.agrees for _, agreement in compared),
        disagreements=list(_disagreements(compared))[:_DISAGREEMENTS_SHOWN],
    )


def _disagreements(compared: Sequence[tuple[Row[Any], Agreement]]) -> Iterator[Disagreement]:
    for row, agreement in compared:
        if not agreement.agrees:
            yield Disagreement(study_instance_uid=row.study_instance_uid, lines=agreement.lines)


def _agreement(row: Row[Any]) -> Agreement:
    live, shadow = {**row.live_summary, "state": row.live_state}, {**row.shadow_summary, "state": row.shadow_state}
    return compare(live, shadow)


def _pairs() -> Any:
    """Each shadow job that has a result, with the job of the same study revision that it shadows and its result."""
    same = and_(
        _live.c.study_instance_uid == _shadow.c.study_instance_uid,
        _live.c.revision == _shadow.c.revision,
        _live.c.route == _shadow.c.shadow_of,
        _live.c.id != _shadow.c.id,  # a route that was moved to shadow shadows itself
    )
    return (
        select(
            _shadow.c.study_instance_uid, _shadow.c.route, _shadow.c.model, _shadow.c.shadow_of,
            _live.c.model.label("live_model"), _shadow_result.c.summary.label("shadow_summary"),
            _live_result.c.summary.label("live_summary"), _shadow_result.c.state.label("shadow_state"),
            _live_result.c.state.label("live_state"),
        )
        .join(_live, same)
        .join(_shadow_result, _shadow_result.c.job_key == _shadow.c.job_key)
        .join(_live_result, _live_result.c.job_key == _live.c.job_key)
        .where(_shadow.c.shadow_of != "")
    )  # fmt: skip
