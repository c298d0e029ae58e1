"""A look at every stream once a day: the reference is completed, or windows are compared with it.

What is read and computed holds no lock; the outcome is written at once, by whoever is first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from dicom_node.config.running import DriftSettings
from dicom_node.core.audit import Audit
from dicom_node.core.drift.plan import WINDOWS_DAYS, DriftPlan
from dicom_node.index.database import Database
from dicom_node.index.drift.streams import (
    DriftComparison,
    DriftStream,
    comparisons_of,
    features_between,
    forget_before,
    keep_comparisons,
    note_look,
    streams_due,
    times_of,
)
from dicom_node.index.due import now_in
from dicom_node.operate.drift.comparison import Sample, compared, sample_of
from dicom_node.operate.drift.performance import agreement_now, estimate_now, first_agreement, first_estimate
from dicom_node.operate.drift.stop_rule import stop_what_drifts, tell_stop

_log = logging.getLogger(__name__)


def plan_of(settings: DriftSettings) -> DriftPlan:
    """Return what the settings say."""
    return DriftPlan(
        reference_days=settings.reference_days, reference_results=settings.reference_results,
        false_alarms=settings.false_alarms, smallest_shift=settings.smallest_shift,
    )  # fmt: skip


class DriftLooks:
    """Looks at what was not looked at today; several processes may do so at once."""

    def __init__(self, database: Database, settings: DriftSettings, audit: Audit) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings
        self._plan = plan_of(settings)

    def run(self, now: datetime | None = None) -> None:
        """Look at each stream that is due. Raises `IndexUnavailable`."""
        if not self._settings.enabled:
            return
        with self._database.read() as connection:
            at = now or now_in(connection)
            due = streams_due(connection, at.astimezone(UTC).date())
        for stream in due:
            self._look(stream, _midnight(at))
        if due:
            with self._database.write() as connection:
                forget_before(connection, at - timedelta(days=self._settings.keep_days))
                stopped = stop_what_drifts(connection, self._settings, at)
            for one in stopped:
                tell_stop(self._audit, one)

    def _look(self, stream: DriftStream, today: datetime) -> None:
        if stream.reference is None:
            self._gather(stream, today)
        else:
            self._compare(stream, sample_in(stream.reference), today)

    def _gather(self, stream: DriftStream, today: datetime) -> None:
        """Complete the reference, once it is long enough: its values stay when their results are deleted."""
        columns: dict[str, object] = {}
        with self._database.read() as connection:
            ends = self._plan.reference_ends(stream.began_at, times_of(connection, stream))
            if ends is not None and ends <= today:
                rows = features_between(connection, stream, stream.began_at, ends)
                reference = sample_of(features for _, features in rows)
                columns = {
                    "reference": as_json(reference), "reference_results": reference.results, "compared_from": ends,
                    "estimate": first_estimate(stream, rows), "agreement": first_agreement(connection, stream, ends),
                }  # fmt: skip
        with self._database.write() as connection:
            is_noted = note_look(connection, stream, today.date(), **columns)
        if is_noted and columns:
            _log.info("drift reference complete", extra=_named(stream) | {"results": columns["reference_results"]})

    def _compare(self, stream: DriftStream, reference: Sample, today: datetime) -> None:
        with self._database.read() as connection:
            before = comparisons_of(connection, stream)
            found = self._compared(connection, stream, reference, today)
            estimate, agreement = estimate_now(connection, stream, today), agreement_now(connection, stream, today)
        told = [self._told(one, before.get((one.feature, one.window_days)), reference, today) for one in found]
        looked_at = {(one.feature, one.window_days) for one in found}
        told += [one for key, one in before.items() if one.since is not None and key not in looked_at]
        with self._database.write() as connection:
            if not note_look(connection, stream, today.date(), estimate=estimate, agreement=agreement):
                return
            keep_comparisons(connection, stream, told)
        _log_changes(stream, before, told)

    def _compared(
        self, connection: Connection, stream: DriftStream, reference: Sample, today: datetime
    ) -> list[DriftComparison]:
        """Compare every feature in every window that is whole."""
        found = []
        for days in WINDOWS_DAYS:
            first = today - timedelta(days=days)
            if stream.compared_from is None or first < stream.compared_from:
                continue
            window = sample_of(features for _, features in features_between(connection, stream, first, today))
            for feature in reference.features:
                said = compared(reference, window, feature)
                if said is not None:
                    found.append(
                        DriftComparison(
                            feature=feature, window_days=days, test=said.test, reference_n=said.reference_n,
                            window_n=said.window_n, statistic=said.statistic, shift=said.shift,
                            corrected_p=said.p_value, since=None, looks=0,
                        )
                    )  # fmt: skip
        return found

    def _told(
        self, one: DriftComparison, before: DriftComparison | None, reference: Sample, today: datetime
    ) -> DriftComparison:
        """Correct the p-value for all looks, and say since when it drifts, if it does."""
        number = len(reference.features)
        stood = before.since if before else None
        corrected = replace(one, corrected_p=self._plan.corrected(one.corrected_p, number))
        p_and_shift = one.corrected_p, one.shift
        if not self._plan.is_drift(p_and_shift, one.window_days, number, stands=stood is not None):
            return corrected
        return replace(corrected, since=stood or today, looks=1 + (before.looks if before else 0))


def _log_changes(
    stream: DriftStream, before: Mapping[tuple[str, int], DriftComparison], now: Sequence[DriftComparison]
) -> None:
    """Tell what began to drift and what ended, once for each feature."""
    drifted = {one.feature for one in before.values() if one.since is not None}
    drifting = {one.feature for one in now if one.since is not None}
    if begun := sorted(drifting - drifted):
        advice = "dicom-node drift shows how much; docs/how-to/watch-for-drift.md says what to do."
        _log.warning("drift", extra=_named(stream) | {"features": begun, "advice": advice})
    if ended := sorted(drifted - drifting):
        _log.info("drift ended", extra=_named(stream) | {"features": ended})


def _named(stream: DriftStream) -> dict[str, object]:
    return {"route": stream.route, "scanner": stream.scanner, "model": stream.model}


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


# --- a reference as it is kept -------------------------------------------------------------------------------------


def as_json(sample: Sample) -> dict[str, Any]:
    """Return a sample as it is kept: nothing tells which value is of which result."""
    numbers = {name: values.tolist() for name, values in sample.numbers.items()}
    categories = {name: dict(counts) for name, counts in sample.categories.items()}
    return {"results": sample.results, "numbers": numbers, "categories": categories}


def sample_in(kept: Mapping[str, Any]) -> Sample:
    """Return a sample that was kept."""
    return Sample(
        results=int(kept["results"]),
        numbers={name: np.asarray(values, dtype=np.float64) for name, values in kept["numbers"].items()},
        categories=kept["categories"],
    )
