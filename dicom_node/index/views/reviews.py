"""Read-only queries for what people decided on results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from dicom_node.core.entities import DecisionState, ReviewState
from dicom_node.index.decided.reviews import reviews_of
from dicom_node.index.tables import reviews
from dicom_node.index.views.types import ReviewView


def review_view(row: Row[Any]) -> ReviewView:
    """Return what is shown of a decision."""
    return ReviewView(
        id=row.id, job_key=row.job_key, decision=ReviewState(row.review_state), state=DecisionState(row.state),
        reasons=row.reasons, text=row.text, findings=row.findings, reviewer=row.reviewer_name,
        reviewer_account=row.reviewer_account, decided_at=row.decided_at, second_reader=row.second_name,
        second_account=row.second_account, second_decided_at=row.second_decided_at, note=row.note,
        result=row.result_key,
    )  # fmt: skip


def reviews_shown(connection: Connection, job_key: str) -> list[ReviewView]:
    """Return all decisions on a result, and the one that made it, oldest first."""
    return [review_view(row) for row in reviews_of(connection, job_key)]


def decisions_on_results(connection: Connection, job_keys: Sequence[str]) -> Mapping[str, Row[Any]]:
    """Return, by job key, the decision that stands on each of these results, or that made it; where none stands, the
    last one if it has failed."""
    mine = or_(reviews.c.job_key.in_(job_keys), reviews.c.result_key.in_(job_keys))
    found: dict[str, Row[Any]] = {}
    for row in connection.execute(select(reviews).where(mine).order_by(reviews.c.id)):
        found |= {row.job_key: row} | ({row.result_key: row} if row.result_key else {})
    return {key: row for key, row in found.items() if row.state != DecisionState.FALLEN}


def review_told(job_key: str, decided: Row[Any] | None) -> dict[str, Any]:
    """Return what a result tells of the decision on it, or by which it was made."""
    if decided is None:
        return {}
    if decided.state == DecisionState.FAILED:
        return {"review_failed": decided.note}
    if decided.state == DecisionState.AWAITS_SECOND:
        return {"awaits_second_reader": True, "reviewer": decided.reviewer_name}
    is_made_by_it = decided.result_key == job_key
    return {
        "reviewer": decided.reviewer_name,
        "reviewed_at": decided.second_decided_at or decided.decided_at,
        "successor": "" if is_made_by_it else decided.result_key,
        "review_of": decided.job_key if is_made_by_it else "",
        "review_waits": decided.note if decided.state == DecisionState.DECIDED else "",
    }
