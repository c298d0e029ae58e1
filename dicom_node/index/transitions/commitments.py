"""How requests for storage commitment change their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from dicom_node.core.entities import CommitmentState
from dicom_node.core.lifecycle import check_commitment
from dicom_node.index.database import insert_of
from dicom_node.index.tables import commitments


def keep_commitment(connection: Connection, which: ColumnElement[bool], columns: Mapping[str, Any]) -> None:
    """Enter a request that is to be reported; the same one asked again is reported again, from the beginning."""
    fresh = insert_of(connection)(commitments).values(state=CommitmentState.PENDING, **columns)
    if connection.execute(fresh.on_conflict_do_nothing().returning(commitments.c.id)).first() is not None:
        return
    row = connection.execute(select(commitments.c.id, commitments.c.state).where(which).with_for_update()).one()
    check_commitment(CommitmentState(row.state), CommitmentState.PENDING)
    mine = commitments.c.id == row.id
    connection.execute(update(commitments).where(mine).values(state=CommitmentState.PENDING, **columns))


def move_commitment(connection: Connection, number: int, to: CommitmentState, **columns: object) -> bool:
    """Note where a request stands now; `False` when it has ended: what comes late is not what the peer has heard."""
    mine = and_(commitments.c.id == number, commitments.c.state == CommitmentState.PENDING)
    row = connection.execute(select(commitments.c.state).where(mine).with_for_update()).one_or_none()
    if row is None:
        return False
    check_commitment(CommitmentState(row.state), to)
    connection.execute(update(commitments).where(mine).values(state=to, **columns))
    return True
