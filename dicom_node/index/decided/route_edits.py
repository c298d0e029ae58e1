"""Routes that people have written anew, over those of the configuration file: who, when, why. Rows are only added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from dicom_node.index.tables import route_edits


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEdit:
    """One version of a route by a person. `settings` is its table as in the configuration file; `None`: from then on it
    is the file's again. `file_digest` is that of the file's route then, empty where the file had none. `version`
    numbers all edits of the node; 0 before it is kept."""

    version: int = 0
    name: str
    at: datetime
    edited_by: str
    reason: str
    settings: Mapping[str, Any] | None
    file_digest: str


def add_edit(connection: Connection, edit: RouteEdit) -> None:
    """Keep a version of a route."""
    connection.execute(
        insert(route_edits).values(
            name=edit.name, at=edit.at, edited_by=edit.edited_by[:128], reason=edit.reason,
            settings=None if edit.settings is None else dict(edit.settings), file_digest=edit.file_digest,
        )
    )  # fmt: skip


def newest_version(connection: Connection) -> int:
    """Return the number of the newest edit, 0 when there is none: where it stays, nothing has changed."""
    return connection.execute(select(func.max(route_edits.c.id))).scalar() or 0


def edits_in_force(connection: Connection) -> Sequence[RouteEdit]:
    """Return the newest edit of each route that is not the file's again, in the order in which they were made."""
    newest = select(func.max(route_edits.c.id)).group_by(route_edits.c.name)
    rows = connection.execute(select(route_edits).where(route_edits.c.id.in_(newest)).order_by(route_edits.c.id))
    return [_edit(row) for row in rows if row.settings is not None]


def newest_edits(connection: Connection) -> Mapping[str, RouteEdit]:
    """Return the newest edit of each route that a person has ever edited, also where it is the file's again."""
    newest = select(func.max(route_edits.c.id)).group_by(route_edits.c.name)
    rows = connection.execute(select(route_edits).where(route_edits.c.id.in_(newest)))
    return {row.name: _edit(row) for row in rows}


def versions_of(connection: Connection, name: str, limit: int, before: int | None) -> Sequence[RouteEdit]:
    """Return the versions of a route, the newest first, at most `limit` and older than number `before`."""
    query = select(route_edits).where(route_edits.c.name == name).order_by(route_edits.c.id.desc()).limit(limit)
    rows = connection.execute(query if before is None else query.where(route_edits.c.id < before))
    return [_edit(row) for row in rows]


def _edit(row: Row[Any]) -> RouteEdit:
    return RouteEdit(
        version=row.id, name=row.name, at=row.at, edited_by=row.edited_by, reason=row.reason, settings=row.settings,
        file_digest=row.file_digest,
    )  # fmt: skip
