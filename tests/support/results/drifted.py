"""A scanner's results of many days in an index, so that what is kept of them can be compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection, insert, select

from dicom_node.core.entities import DecisionState, JobState, ReviewState, StudyState
from dicom_node.index.tables import drift_features, drift_streams, results, reviews, studies

ROUTE, SCANNER, MODEL = "chest-ct", "CT1 / ROOM2 / Phantom 64", "ct-lung-density"
#: What is kept of one result, by a generator of random numbers and the day.
Made = Callable[[np.random.Generator, int], dict[str, float | str]]


def as_usual(rng: np.random.Generator, _: int) -> dict[str, float | str]:
    """Return features of a result while nothing has changed."""
    return {
        "outcome": "DONE", "tag.KVP": 120.0 if rng.random() < 0.7 else 100.0, "score.finding": float(rng.random()),
        "tag.ConvolutionKernel": "Br40" if rng.random() < 0.8 else "Bl57", "pixels.mean": float(rng.normal(-400, 50)),
    }  # fmt: skip


def fill(connection: Connection, began: datetime, days: range, made: Made = as_usual, per_day: int = 6) -> None:
    """Enter the results of these days of a stream, which is there from the first on."""
    rng = np.random.default_rng(days.start)
    stream = _stream(connection, began)
    uids = [f"2.25.{1000 * day + number + 1}" for day in days for number in range(per_day)]
    times = [began + timedelta(days=day, hours=8, minutes=number) for day in days for number in range(per_day)]
    same = {"revision": 1, "state": StudyState.REPORTED}
    rows = list(zip(uids, times, strict=True))
    connection.execute(
        insert(studies),
        [{"study_instance_uid": uid, "first_received_at": at, "last_received_at": at, "updated_at": at, **same}
         for uid, at in rows],
    )  # fmt: skip
    common = {"route": ROUTE, "model": MODEL, "state": JobState.DONE, "sequence": 1, "revision": 1}
    connection.execute(
        insert(results),
        [{"job_key": f"key-{uid}", "study_instance_uid": uid, "created_at": at, "summary": {"findings": []}, **common}
         for uid, at in rows],
    )  # fmt: skip
    connection.execute(
        insert(drift_features),
        [{"job_key": f"key-{uid}", "stream_id": stream, "at": at, "features": made(rng, (at - began).days)}
         for uid, at in rows],
    )  # fmt: skip


def _stream(connection: Connection, began: datetime) -> int:
    number = connection.execute(select(drift_streams.c.id).where(drift_streams.c.scanner == SCANNER)).scalar()
    if number is None:
        row = insert(drift_streams).values(
            route=ROUTE, scanner=SCANNER, ae_title="CT1", model=MODEL, model_version="1.0.0", model_digest="d" * 64,
            calibrated=True, began_at=began, reference_results=0, looked_on="", estimate={}, agreement={},
        )  # fmt: skip
        number = connection.execute(row.returning(drift_streams.c.id)).scalar_one()
    return int(number)


def review(connection: Connection, began: datetime, days: range, disagrees: Callable[[int], bool]) -> None:
    """Let somebody decide on the first result of each day, that afternoon."""
    empty = dict.fromkeys(("text", "digest", "reviewer_name", "reviewer_organization", "reviewer_identifier"), "")
    rows = []
    for day in days:
        uid, at = f"2.25.{1000 * day + 1}", began + timedelta(days=day, hours=15)
        state = ReviewState.MODIFIED if disagrees(day) else ReviewState.ACCEPTED
        rows.append({
            "job_key": f"key-{uid}", "study_instance_uid": uid, "revision": 1, "route": ROUTE, "model": MODEL,
            "review_state": state, "state": DecisionState.DONE, "reasons": [], "findings": [], "decided_at": at,
            "not_before": at, "reviewer_account": "ada", **empty,
        })  # fmt: skip
    connection.execute(insert(reviews), rows)
