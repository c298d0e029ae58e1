"""Which images of a study came in more than one version: when, from whom, in what they differ, and which is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from dicom_node.core.received.versions import PixelVerdict
from dicom_node.index.received.corrections import CORRECTED, is_other_sender, suspicions
from dicom_node.index.tables import events, instances
from dicom_node.index.versions import Version, versions_of
from dicom_node.index.views.study import require_study
from dicom_node.index.views.types import InstanceVersion, VersionedInstance, VersionPage

#: Kinds of the timeline's lines about what came again; each line is about one batch of arrivals for one study.
_KINDS = (CORRECTED, "moved-here", "encoded", "unused", "replaced")


def versions(connection: Connection, study_instance_uid: str, limit: int, after: str = "") -> VersionPage:
    """Return the instances that are or were in a study and have more than one version, by SOP Instance UID.

    At most `limit`, those behind the UID `after`. Raises `NotFound` for an unknown study.
    """
    require_study(connection, study_instance_uid)
    several = _several(study_instance_uid)
    total = connection.execute(select(func.count()).select_from(several)).scalar_one()
    page = select(several.c.sop_instance_uid).where(several.c.sop_instance_uid > after)
    uids = connection.execute(page.order_by(several.c.sop_instance_uid).limit(limit)).scalars().all()
    found = versions_of(connection, uids)
    told = _lines(connection, {one.study_instance_uid for known in found.values() for one in known.all})
    shown = [VersionedInstance(sop_instance_uid=uid, versions=_shown(uid, found[uid].all, told)) for uid in uids]
    return VersionPage(total=total, instances=shown)


def _several(study_instance_uid: str) -> Any:
    mine = select(instances.c.sop_instance_uid).where(instances.c.study_instance_uid == study_instance_uid)
    query = select(instances.c.sop_instance_uid).where(instances.c.sop_instance_uid.in_(mine))
    return query.group_by(instances.c.sop_instance_uid).having(func.count() > 1).subquery()


def _lines(connection: Connection, studies: Collection[str]) -> Mapping[str, Sequence[Row[Any]]]:
    """Return what the timelines of these studies say of what came again, the latest line first."""
    found: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    query = select(events).where(events.c.study_instance_uid.in_(studies), events.c.kind.in_(_KINDS))
    for row in connection.execute(query.order_by(events.c.at.desc(), events.c.id.desc())):
        found[row.study_instance_uid].append(row)
    return found


def _shown(uid: str, known: Sequence[Version], told: Mapping[str, Sequence[Row[Any]]]) -> list[InstanceVersion]:
    in_order = sorted(known, key=lambda one: (one.received_at, one.id or 0))
    return [
        _version(one, _line(told.get(one.study_instance_uid, ()), uid, one), before)
        for one, before in zip(in_order, [None, *in_order], strict=False)
    ]


def _line(lines: Sequence[Row[Any]], uid: str, version: Version) -> Row[Any] | None:
    """Return the line about the batch in which a version came: one that names it, else the last that began before."""
    before = [line for line in lines if line.at <= version.received_at]
    named = [line for line in before if line.at == version.received_at or uid in _named(line)]
    return next(iter(named or before), None)


def _named(line: Row[Any]) -> Collection[str]:
    return line.detail.get("sop_instance_uids") or [line.detail.get("sop_instance_uid")]


def _version(one: Version, line: Row[Any] | None, before: Version | None) -> InstanceVersion:
    detail: Mapping[str, Any] = {} if line is None or before is None else line.detail
    pixels = [PixelVerdict(verdict) for verdict in detail.get("pixels", ())]
    is_other = before is not None and is_other_sender(before.sender, one.sender)
    return InstanceVersion(
        came="received" if line is None or before is None else line.kind,
        received_at=one.received_at, calling_ae_title=one.sender.calling_ae_title, source_host=one.sender.host,
        study_instance_uid=one.study_instance_uid, series_instance_uid=one.series_instance_uid, role=one.role,
        sha256=one.sha256, in_use=one.superseded_at is None, superseded_at=one.superseded_at,
        changed=detail.get("changed", []),
        flags=suspicions(pixels, [before.sender] if before is not None and is_other else []),
    )  # fmt: skip
