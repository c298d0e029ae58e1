"""Two processes that deliver learn the same of a destination at the same moment: both are remembered, none fails."""

from __future__ import annotations

from sqlalchemy import Connection

from dicom_node.index.database import Database
from dicom_node.index.outbox.destinations import note_refusal, recall, remember
from tests.support.beside_each_other import beside_each_other
from tests.support.results.arrivals import after

ADDRESS = "pacs.example:104"
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
NAMES = [f"pacs-{number}" for number in range(20)]


def test_two_that_first_hear_a_destination_remember_it(index: Database) -> None:
    def hear(connection: Connection, name: str) -> None:
        remember(connection, (name, ADDRESS), "MAKER_1", {CT: ["1.2.840.10008.1.2.1"]}, after(1))

    beside_each_other(index, NAMES, hear, hear)
    with index.read() as connection:
        known = [recall(connection, name, ADDRESS) for name in NAMES]
    assert [one and set(one.accepted or ()) for one in known] == [{CT}] * len(NAMES)


def test_two_classes_refused_at_once_are_both_remembered(index: Database) -> None:
    def refuse_ct(connection: Connection, name: str) -> None:
        note_refusal(connection, (name, ADDRESS), CT, after(1))

    def refuse_seg(connection: Connection, name: str) -> None:
        note_refusal(connection, (name, ADDRESS), SEG, after(1))

    beside_each_other(index, NAMES, refuse_ct, refuse_seg)
    with index.read() as connection:
        known = [recall(connection, name, ADDRESS) for name in NAMES]
    assert [one and set(one.refused) for one in known] == [{CT, SEG}] * len(NAMES)
