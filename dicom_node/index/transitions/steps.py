"""What every change of a state is made of: the row that moves, and the line in its study's timeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, insert, select, update

from dicom_node.core.calls.requests import requests_in_work
from dicom_node.core.entities import DecisionState, DeliveryState, JobState
from dicom_node.core.principal import NODE, Principal
from dicom_node.index.tables import events, self_tests

#: What a row has when nobody works on it. Only a running job and a waiting delivery may have more.
NO_LEASE: Mapping[str, Any] = {"lease_owner": "", "lease_until": None}
#: So much of a name fits into its column.
LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Change:
    """When a state changes, at whose wish, and what the timeline says of it: (kind, sentence) and detail.

    Without a line nothing is said: another line of the same transaction tells it.
    """

    at: datetime
    line: tuple[str, str] | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
    actor: Principal = NODE


State = TypeVar("State", JobState, DecisionState, DeliveryState)


@dataclass(frozen=True, slots=True)
class StateRows(Generic[State]):
    """A table of which one row moves at a time: its states, what allows a step, and in which one of them a row keeps
    the lease that it has."""

    table: Table
    states: type[State]
    check: Callable[[State, State], None]
    leased: State | None = None

    def move(
        self, connection: Connection, which: Select[Any], to: State, change: Change, columns: Mapping[str, object]
    ) -> Row[Any] | None:
        """Move the row that `which` chooses, and return its id, state and study of before; `None` where it finds none.

        Raises `IllegalTransition`. What is about no study has no timeline.
        """
        row = connection.execute(which).one_or_none()
        if row is None:
            return None
        self.check(self.states(row.state), to)
        lease = {} if to is self.leased else NO_LEASE
        mine = self.table.c.id == row.id
        connection.execute(update(self.table).where(mine).values(state=to, **{**lease, **columns}))
        if row.study_instance_uid:
            tell(connection, row.study_instance_uid, change)
        return row

    def held(self, which: ColumnElement[bool]) -> Select[Any]:
        """Return the query for the row, which nobody else may change meanwhile; for rows that name their study."""
        columns = self.table.c
        return select(columns.id, columns.state, columns.study_instance_uid).where(which).with_for_update()


def tell(connection: Connection, study_instance_uid: str, change: Change) -> None:
    """Add the line of a change to the timeline of its study, where it has one."""
    if change.line is not None:
        record(connection, study_instance_uid, change.at, change.line, change.actor, **change.detail)


def record(
    connection: Connection,
    study_instance_uid: str,
    at: datetime,
    text: tuple[str, str],
    actor: Principal = NODE,
    **detail: object,
) -> None:
    """Add a line to a study's timeline. `text` is (kind, sentence); neither ever names the patient."""
    kind, sentence = text
    if requests := requests_in_work():
        detail["requests"] = list(requests)
    connection.execute(
        insert(events).values(
            study_instance_uid=study_instance_uid, at=at, kind=kind, text=sentence, actor=actor.name[:LONGEST_NAME],
            detail=detail,
        )
    )  # fmt: skip


def is_self_test(connection: Connection, which: ColumnElement[bool]) -> bool:
    """Tell whether a study is a self-test of the node, of which nothing is owed to anybody, whatever routes say."""
    return connection.execute(select(self_tests.c.day).where(which).limit(1)).scalar() is not None
