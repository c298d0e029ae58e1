"""The journal: what is written is found again, what was cut off is not taken for a record, slots come round."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicom_node.storage.journal import (
    HEAD_BYTES,
    SLOT_BYTES,
    UNREADABLE,
    Acknowledged,
    JournalWriter,
    Record,
    RecordKind,
    copy_payload,
    free_slot,
    is_free,
    read_payload,
    read_record,
    slot_path,
    was_acknowledged,
)
from tests.support.journals import journals_are_closed  # noqa: F401 - a fixture of all tests here


def record(sequence: int, **more: object) -> Record:
    values = {
        "kind": RecordKind.OBJECT, "sequence": sequence, "received_at_s": 1.5, "association_id": "a",
        "calling_ae_title": "CT1", "called_ae_title": "AINODE", "host": "127.0.0.1", "sop_class_uid": "1.2",
        "sop_instance_uid": f"1.2.{sequence}", "transfer_syntax_uid": "1.2.840.10008.1.2", "sha256": "00",
    }  # fmt: skip
    return Record(**values | more)  # type: ignore[arg-type]


@pytest.fixture
def journal(tmp_path: Path) -> JournalWriter:
    writer = JournalWriter(tmp_path, 3)
    assert writer.recover() == []
    writer.grow()
    return writer


def written(journal: JournalWriter, payload: bytes = b"payload", **more: object) -> tuple[int, Record]:
    slot = journal.take(0)
    assert slot is not None
    one = record(journal.next_sequence(), payload_bytes=len(payload), **more)
    journal.write(slot, one, [payload])
    return slot, one


def test_what_was_written_is_read_back(journal: JournalWriter, tmp_path: Path) -> None:
    slot, one = written(journal, b"head" + b"x" * 1000, study_instance_uid="1.9", header_bytes=12)
    assert read_record(tmp_path, slot) == one
    assert read_payload(tmp_path, slot, 4, 3) == b"xxx"
    with (tmp_path / "copy").open("wb") as target:
        copy_payload(tmp_path, slot, one.payload_bytes, target.fileno())
    assert (tmp_path / "copy").read_bytes() == b"head" + b"x" * 1000


def test_a_start_finds_the_records_in_the_order_in_which_they_came(journal: JournalWriter, tmp_path: Path) -> None:
    first, second = written(journal), written(journal)
    journal.close()
    again = JournalWriter(tmp_path, 3)
    assert again.recover() == [first, second]
    assert again.free_count() == 1
    assert again.next_sequence() > second[1].sequence


def test_a_freed_slot_is_free_after_a_start_too(journal: JournalWriter, tmp_path: Path) -> None:
    slot, _ = written(journal)
    free_slot(tmp_path, slot)
    assert read_record(tmp_path, slot) is None
    assert JournalWriter(tmp_path, 3).recover() == []


def test_no_free_slot_is_waited_for_and_given_up(journal: JournalWriter) -> None:
    taken = [journal.take(0) for _ in range(3)]
    assert journal.take(0.01) is None
    threading.Timer(0.05, lambda: journal.give_back(2)).start()
    assert journal.take(5) == 2
    assert sorted(taken) == [0, 1, 2]  # type: ignore[type-var]


def test_a_settled_record_is_said_twice_without_harm(journal: JournalWriter) -> None:
    """The second word may come when the slot holds another record; freeing it then would lose that one."""
    _, first = written(journal)
    for slot in (1, 2):
        assert journal.take(0) == slot
    journal.settled(0, first.sequence)
    slot, _ = written(journal)
    assert slot == 0
    journal.settled(0, first.sequence)
    assert journal.free_count() == 0


def test_a_longer_payload_does_not_shine_through_behind_a_shorter_one(journal: JournalWriter, tmp_path: Path) -> None:
    slot, first = written(journal, b"y" * 5000)
    free_slot(tmp_path, slot)
    journal.settled(slot, first.sequence)
    for _ in range(3):
        slot, one = written(journal, b"z" * 10)
    assert read_record(tmp_path, slot) == one
    assert read_payload(tmp_path, slot, 0, one.payload_bytes) == b"z" * 10


@example(cut=8, garbage=b"")
@settings(max_examples=60)
@given(cut=st.integers(0, 600), garbage=st.binary(max_size=40))
def test_a_head_cut_anywhere_is_no_record(tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes) -> None:
    """A power cut in the middle of the head: the new bytes up to the cut, the old ones behind it."""
    folder = tmp_path_factory.mktemp("journal")
    journal = JournalWriter(folder, 1)
    journal.recover()
    journal.grow()
    old = slot_path(folder, 0).read_bytes()
    _, one = written(journal)
    new = slot_path(folder, 0).read_bytes()
    end = new.index(b"\0" * 8, 200)
    position = min(cut, end - 1)
    torn = new[:position] + garbage + old[position + len(garbage) :]
    slot_path(folder, 0).write_bytes(torn[: len(old)])
    journal.close()
    assert read_record(folder, 0) in (None, one)
    if torn[:end] != new[:end]:
        assert read_record(folder, 0) is None


def test_a_short_slot_is_no_record(journal: JournalWriter, tmp_path: Path) -> None:
    slot, _ = written(journal)
    os.truncate(slot_path(tmp_path, slot), 100)
    assert read_record(tmp_path, slot) is None


def test_a_smaller_journal_keeps_its_records_and_drops_empty_slots(journal: JournalWriter, tmp_path: Path) -> None:
    for _ in range(3):
        slot, one = written(journal)
    free_slot(tmp_path, 1)
    journal.close()
    smaller = JournalWriter(tmp_path, 1)
    assert [slot for slot, _ in smaller.recover()] == [0, 2]
    assert sorted(path.name for path in tmp_path.glob("*.slot")) == ["0000.slot", "0002.slot"]
    smaller.settled(2, one.sequence)
    assert smaller.free_count() == 0
    assert (slot, one.kind) == (2, RecordKind.OBJECT)


def test_slots_are_written_once_over_before_they_serve(journal: JournalWriter, tmp_path: Path) -> None:
    for path in tmp_path.glob("*.slot"):
        assert path.stat().st_size == HEAD_BYTES + SLOT_BYTES
        assert path.stat().st_blocks * 512 >= SLOT_BYTES
    assert journal.count() == 3


def flip(folder: Path, slot: int, at: int) -> None:
    path = slot_path(folder, slot)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20
    path.write_bytes(content)


@pytest.mark.parametrize("at", [*range(0, 600, 23), *range(2048, 2648, 23)])
def test_a_bit_that_flips_in_a_head_costs_nothing(journal: JournalWriter, tmp_path: Path, at: int) -> None:
    slot, one = written(journal)
    flip(tmp_path, slot, at)
    assert read_record(tmp_path, slot) == one
    journal.close()
    assert JournalWriter(tmp_path, 3).recover() == [(slot, one)]


def test_the_heads_of_a_freed_slot_are_not_taken_for_a_record(journal: JournalWriter, tmp_path: Path) -> None:
    slot, _ = written(journal)
    free_slot(tmp_path, slot)
    assert (read_record(tmp_path, slot), is_free(tmp_path, slot)) == (None, True)


@pytest.mark.parametrize("wanted", [3, 0])
def test_a_slot_that_nobody_can_read_is_told_and_not_used(journal: JournalWriter, tmp_path: Path, wanted: int) -> None:
    """Neither when the journal is to be smaller: the slot may hold an image."""
    slot, _ = written(journal)
    for at in (20, 2068):
        flip(tmp_path, slot, at)
    journal.close()
    again = JournalWriter(tmp_path, wanted)
    assert again.recover() == []
    assert again.unreadable == [slot]
    assert slot_path(tmp_path, slot).exists()
    assert again.free_count() == max(wanted - 1, 0)
    again.settled(slot, UNREADABLE)
    assert again.free_count() == wanted


def test_whether_a_record_was_acknowledged_is_said_only_where_it_is_known(
    journal: JournalWriter, tmp_path: Path
) -> None:
    slot, one = written(journal)
    assert was_acknowledged(tmp_path, slot, one) is Acknowledged.YES
    unseal(tmp_path, slot)
    assert was_acknowledged(tmp_path, slot, one) is Acknowledged.NO
    flip(tmp_path, slot, HEAD_BYTES - 60)  # another boot: the seal may have gone with the power
    assert was_acknowledged(tmp_path, slot, one) is Acknowledged.UNKNOWN


def test_of_a_record_of_the_format_before_nothing_is_known(journal: JournalWriter, tmp_path: Path) -> None:
    """Version 0.1.0 wrote the head once, with zeros behind it."""
    slot, one = written(journal)
    path = slot_path(tmp_path, slot)
    content = bytearray(path.read_bytes())
    content[2048:HEAD_BYTES] = bytes(HEAD_BYTES - 2048)
    path.write_bytes(content)
    assert read_record(tmp_path, slot) == one
    assert was_acknowledged(tmp_path, slot, one) is Acknowledged.UNKNOWN


def test_the_seal_of_an_earlier_record_seals_no_later_one(journal: JournalWriter, tmp_path: Path) -> None:
    slot, one = written(journal)
    assert was_acknowledged(tmp_path, slot, record(one.sequence + 1)) is not Acknowledged.YES


def unseal(folder: Path, slot: int) -> None:
    with slot_path(folder, slot).open("r+b") as file:
        os.pwrite(file.fileno(), bytes(16), HEAD_BYTES - 16)
