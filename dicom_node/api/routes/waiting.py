"""What waits and why, disk, throughput, and who has fallen silent: what an administrator looks at first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from sqlalchemy import Connection

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.core.audit import AuditedAct
from dicom_node.core.retention.disk_forecast import DiskForecast
from dicom_node.index.received.worklist import unlisted_count
from dicom_node.index.retention.disk import disk_forecast
from dicom_node.index.views.waiting import SeenSender, Throughput, WaitingGroup, senders, throughput, waiting

router = APIRouter(prefix=V1, tags=["node"], dependencies=[Reads], responses=described(401, 422, 429, 503))

_HOURS = 24
_DECLINED_DAYS = 7
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data folder, in bytes; below `reserve_bytes` images are refused, below `keep_free_bytes` the
    oldest studies are deleted (0: none is). `forecast` says when it will be full."""

    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    keep_free_bytes: int
    forecast: DiskForecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How the node does, for who runs it. `waiting` has one row for each cause, what needs a person first; `hours` are
    the last 24, `senders` everybody who has sent, who is silent longest first. `unlisted` counts studies that the
    worklist has not worked out yet."""

    waiting: Sequence[WaitingGroup]
    disk: Disk
    hours: Sequence[Throughput]
    senders: Sequence[SeenSender]
    unlisted: int


@router.get("/waiting", summary="What waits, and why", dependencies=[audited(AuditedAct.QUERY)])
def get_waiting(parts: Parts) -> Overview:
    """What waits, grouped by where and why, with what to do; disk, throughput by hour, and who sends."""
    now = datetime.now(UTC)
    known = [peer.ae_title for peer in parts.settings.peer if peer.ae_title]
    with parts.database.read() as connection:
        return Overview(
            waiting=waiting(connection, now - timedelta(days=_DECLINED_DAYS)),
            disk=_disk(parts, connection, now),
            hours=throughput(connection, now, _HOURS),
            senders=senders(connection, known, now - timedelta(hours=_HOURS)),
            unlisted=unlisted_count(connection),
        )


def _disk(parts: ApiParts, connection: Connection, now: datetime) -> Disk:
    node, wanted = parts.settings.node, parts.settings.retention.keep_free_mb
    usage = shutil.disk_usage(node.data_dir)
    foretold = disk_forecast(connection, usage.free, now)
    return Disk(usage.free, usage.total, node.min_free_mb * _MEGABYTE, wanted * _MEGABYTE, foretold)
