"""How full the disk was, once a day, and what follows from it."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import Connection, delete, select

from dicom_node.core.retention.disk_forecast import MOST_DAYS, DiskForecast, DiskSample, forecast
from dicom_node.index.database import insert_of
from dicom_node.index.tables import disk_samples


def keep_sample(connection: Connection, used_bytes: int, total_bytes: int, now: datetime) -> None:
    """Note how full the disk is today, instead of what was noted before; days of long ago are forgotten."""
    row = {"day": f"{now:%Y-%m-%d}", "used_bytes": used_bytes, "total_bytes": total_bytes}
    changed = {name: row[name] for name in ("used_bytes", "total_bytes")}
    entered = insert_of(connection)(disk_samples).values(row)
    connection.execute(entered.on_conflict_do_update(index_elements=["day"], set_=changed))
    connection.execute(delete(disk_samples).where(disk_samples.c.day < f"{now - timedelta(days=MOST_DAYS):%Y-%m-%d}"))


def disk_forecast(connection: Connection, free_bytes: int, now: datetime) -> DiskForecast:
    """Return when the disk will be full, as it grew lately."""
    rows = connection.execute(select(disk_samples).order_by(disk_samples.c.day))
    samples = [DiskSample(date.fromisoformat(row.day).toordinal(), row.used_bytes, row.total_bytes) for row in rows]
    return forecast(samples, free_bytes, now)
