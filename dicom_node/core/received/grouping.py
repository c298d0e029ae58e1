"""Instances put together to studies and series, as the index has them. Pure; the order of arrival never matters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby

from dicom_node.core.entities import Instance, Series, Study, StudyState


def studies_of(instances: Iterable[Instance]) -> list[Study]:
    """Return the studies that instances belong to, by Study Instance UID; each is as if it were still coming in."""
    ordered = sorted(instances, key=lambda i: (i.study_instance_uid, i.series_instance_uid, i.sop_instance_uid))
    return [_study(uid, tuple(mine)) for uid, mine in groupby(ordered, key=lambda i: i.study_instance_uid)]


def _study(uid: str, instances: tuple[Instance, ...]) -> Study:
    series = tuple(
        Series(series_instance_uid=one, instances=tuple(mine))
        for one, mine in groupby(instances, key=lambda i: i.series_instance_uid)
    )
    now = datetime.now(UTC)
    return Study(
        study_instance_uid=uid, revision=0, state=StudyState.RECEIVING, series=series,
        first_received_at=now, last_received_at=now,
    )  # fmt: skip
