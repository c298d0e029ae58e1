"""How well a model is expected to do, and how people agree with it: in the reference once, then at each look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from dicom_node.core.drift.agreement_chart import weeks_of
from dicom_node.core.drift.estimate import estimates
from dicom_node.core.drift.features import Features
from dicom_node.core.drift.plan import WINDOWS_DAYS
from dicom_node.index.drift.streams import DriftStream, decisions_of, features_between

Timed = Sequence[tuple[datetime, Features]]


def first_estimate(stream: DriftStream, rows: Timed) -> dict[str, Any]:
    """Return what is expected of the results of the reference; nothing of a model that is not calibrated."""
    return {"reference": _by_finding(features for _, features in rows)} if stream.calibrated else {}


def estimate_now(connection: Connection, stream: DriftStream, today: datetime) -> Mapping[str, Any]:
    """Return the same of the last weeks beside it."""
    if not stream.calibrated:
        return {}
    first = today - timedelta(days=max(WINDOWS_DAYS))
    rows = features_between(connection, stream, max(first, stream.compared_from or first), today)
    return {**stream.estimate, "window": _by_finding(features for _, features in rows)}


def _by_finding(rows: Iterable[Features]) -> dict[str, Any]:
    return {finding: asdict(one) for finding, one in estimates(rows).items()}


def first_agreement(connection: Connection, stream: DriftStream, ends: datetime) -> dict[str, Any]:
    """Return how many decisions of the time of the reference disagreed with the model."""
    decided = [is_other for at, is_other in decisions_of(connection, stream) if at < ends]
    return {"reviewed": len(decided), "disagreed": sum(decided)}


def agreement_now(connection: Connection, stream: DriftStream, today: datetime) -> Mapping[str, Any]:
    """Return the weeks since then on the control chart beside it."""
    reference = (stream.agreement.get("disagreed", 0), stream.agreement.get("reviewed", 0))
    since = stream.compared_from or today
    weeks = weeks_of(reference, ((at, other) for at, other in decisions_of(connection, stream) if at >= since), today)
    told = [{**asdict(one), "week": one.week.isoformat(), "is_signal": one.is_signal} for one in weeks]
    return {**stream.agreement, "weeks": told}
