"""The name that a database shares with the store its rows speak of."""

from __future__ import annotations

from sqlalchemy import Connection, select

from dicom_node.index.database import insert_of
from dicom_node.index.tables import node_identity

_ONLY = 1


def store_id(connection: Connection) -> str | None:
    """Return the name of the store that this database belongs to; `None` when it belongs to none yet."""
    query = select(node_identity.c.store_id).where(node_identity.c.id == _ONLY)
    return connection.execute(query).scalar_one_or_none()


def claim_store_id(connection: Connection, proposed: str) -> str:
    """Let the database belong to this store, unless it belongs to another already; return whose it is."""
    row = insert_of(connection)(node_identity).values(id=_ONLY, store_id=proposed)
    connection.execute(row.on_conflict_do_nothing(index_elements=[node_identity.c.id]))
    query = select(node_identity.c.store_id).where(node_identity.c.id == _ONLY)
    return str(connection.execute(query).scalar_one())
