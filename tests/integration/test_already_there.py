"""A node that was put back from a backup: what a destination has is not sent again, what it lacks is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from dicom_node.core.errors import DeliveryDeferred, QueryNotOffered
from dicom_node.deliver.dispatch.already_there import AlreadyThere
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.outgoing import SentObject
from dicom_node.index.tables import artifacts, deliveries, events, studies
from tests.integration.test_outbox import BACK_OFF, Owed, Switch, owed

__all__ = ["owed"]

NOW = datetime.now(UTC)


class Archive(Switch):
    """A destination that says what it has, or why it does not say."""

    def __init__(self, has: Collection[str] = (), why_not: Exception | None = None) -> None:
        super().__init__()
        self.kept, self.why_not, self.questions = set(has), why_not, 0

    def has(self, objects: Sequence[SentObject]) -> Collection[str]:
        self.questions += 1
        if self.why_not is not None:
            raise self.why_not
        return self.kept & {one.uid for one in objects}


def worker(owed: Owed, archive: Archive, restored_at: datetime = NOW) -> DestinationWorker:
    policy = OutboxPolicy("host:1", BACK_OFF, already_there=AlreadyThere(restored_at, archive.has))
    one = DestinationWorker("pacs", lambda: archive, owed.database, owed.spool, policy)
    owed.workers.append(one)
    return one


def uids(owed: Owed) -> list[str]:
    with owed.database.read() as connection:
        return list(connection.execute(select(artifacts.c.uid).order_by(artifacts.c.send_order)).scalars())


@pytest.fixture
def older(owed: Owed) -> Owed:
    """A node that owes one study, which came before the restore."""
    owed.add("s000")
    with owed.database.write() as connection:
        connection.execute(update(studies).values(first_received_at=NOW - timedelta(hours=1)))
    return owed


def test_what_is_there_is_not_sent_and_what_is_missing_is(older: Owed) -> None:
    picture, report = uids(older)
    archive = Archive({picture})
    assert worker(older, archive)._step()
    assert archive.took == [report]
    assert older.is_delivered()
    with older.database.read() as connection:
        told = connection.execute(select(events.c.text).where(events.c.kind == "found")).scalars().all()
        due = connection.execute(select(deliveries.c.prove_at)).scalars().all()
    assert told == ["SC is at pacs already: it was sent before the node was restored."]
    assert None not in due  # and whether it is kept is asked as of everything else


def test_a_destination_that_has_all_of_it_is_sent_nothing(older: Owed) -> None:
    archive = Archive(uids(older))
    assert worker(older, archive)._step()
    assert (archive.tried, older.is_delivered()) == (0, True)


def test_one_that_does_not_answer_is_asked_again_and_sent_nothing_meanwhile(older: Owed) -> None:
    archive = Archive(why_not=DeliveryDeferred("It is away."))
    one = worker(older, archive)
    one._step()
    assert (archive.tried, older.is_delivered()) == (0, False)
    with older.database.write() as connection:
        connection.execute(update(deliveries).values(next_attempt_at=NOW - timedelta(hours=1)))
    archive.why_not = None
    assert one._step()
    assert (archive.questions, len(archive.took)) == (2, 2)


def test_one_that_cannot_be_asked_gets_it_again_under_the_same_uids(older: Owed) -> None:
    archive = Archive(why_not=QueryNotOffered("No query."))
    assert worker(older, archive)._step()
    assert archive.took == uids(older)


def test_a_study_that_came_after_the_restore_is_not_asked_for(owed: Owed) -> None:
    owed.add("s000")
    archive = Archive(uids(owed))
    assert worker(owed, archive, NOW - timedelta(days=1))._step()
    assert (archive.questions, archive.took) == (0, uids(owed))
