"""Studies that nothing has happened to for a long time: rows and files as they would be then."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from sqlalchemy import select, update

from dicom_node.index.database import Database
from dicom_node.index.tables import associations, deliveries, events, instances, results, studies
from dicom_node.storage.spool import Spool

_COLUMNS = (
    (studies, ("first_received_at", "last_received_at", "updated_at", "listed_at")),
    (events, ("at",)),
    (instances, ("received_at",)),
    (associations, ("opened_at", "seen_at", "closed_at")),
)


def grow_old(database: Database, spool: Spool, days: float, study: str = "") -> None:
    """Let everything of a study, or of all, have happened so many days earlier."""
    with database.write() as connection:
        for table, names in _COLUMNS:
            key = next(iter(table.primary_key))
            which = table.c.study_instance_uid == study if study else key.is_not(None)
            for row in connection.execute(select(table).where(which)).all():
                mine = [column == getattr(row, column.name) for column in table.primary_key]
                moments = {name: getattr(row, name) for name in names}
                earlier = {name: at - timedelta(days=days) for name, at in moments.items() if at is not None}
                connection.execute(update(table).where(*mine).values(earlier))
        of = (
            []
            if not study
            else [deliveries.c.job_key.in_(select(results.c.job_key).where(results.c.study_instance_uid == study))]
        )
        for row in connection.execute(select(deliveries).where(deliveries.c.sent_at.is_not(None), *of)).all():
            earlier = row.sent_at - timedelta(days=days)
            connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(sent_at=earlier))
    at = time.time() - days * 86400
    for path in spool.objects.rglob("*"):
        if path.is_file():
            os.utime(path, (at, at))
