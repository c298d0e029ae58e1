"""How far the search for damage has come, and what comes next: kept objects in the order of their table's key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dicom_node.index.damage import DamagedKind
from dicom_node.index.database import insert_of
from dicom_node.index.tables import artifacts, instances, scrub_places


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptObject:
    """An object with its files; `place` is where a search goes on that has looked at it."""

    place: str
    keys: tuple[str, ...]
    size_bytes: int


def after_place(connection: Connection, kind: DamagedKind, limit: int) -> Sequence[KeptObject]:
    """Return the next objects of a kind, images or results; none: the round through them has ended."""
    mine = select(scrub_places.c.place).where(scrub_places.c.kind == kind)
    place = connection.execute(mine).scalar() or ""
    if kind is DamagedKind.IMAGE:
        images = select(instances.c.id, instances.c.object_key, instances.c.size_bytes)
        next_images = images.where(instances.c.id > int(place or 0)).order_by(instances.c.id).limit(limit)
        return [
            KeptObject(place=str(row.id), keys=(row.object_key,), size_bytes=row.size_bytes)
            for row in connection.execute(next_images)
        ]
    made = select(artifacts).where(artifacts.c.uid > place).order_by(artifacts.c.uid).limit(limit)
    return [
        KeptObject(
            place=row.uid, keys=tuple(filter(None, (row.object_key, row.preview_key))), size_bytes=row.size_bytes
        )
        for row in connection.execute(made)
    ]


def move_place(connection: Connection, kind: DamagedKind, place: str, now: datetime) -> None:
    """Note how far the search has come; an empty place ends a round."""
    ended = {} if place else {"round_ended_at": now}
    row = {"kind": kind, "place": place, **ended}
    statement = insert_of(connection)(scrub_places).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_={"place": place, **ended}))


def round_ended_at(connection: Connection) -> datetime | None:
    """Return since when every object there was then is known to be whole or noted; `None` before the first round."""
    ended = connection.execute(select(scrub_places.c.kind, scrub_places.c.round_ended_at)).all()
    times = [row.round_ended_at for row in ended if row.round_ended_at is not None]
    return min(times) if len(times) == len(DamagedKind) - 1 else None
