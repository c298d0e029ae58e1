"""Behind the answer: records of the journal become files and rows, each exactly once, whatever is wrong with one."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.headers.file_meta import file_head
from dicom_node.headers.scan import scan_header
from dicom_node.index.database import Database
from dicom_node.index.tables import associations, events, instances
from dicom_node.receive.channel import AssociationClosed, Freed, RecordStored, Unavailable
from dicom_node.receive.events import AcceptorDied, ReceiveEvents
from dicom_node.receive.journal_consumer import ConsumerLinks, JournalConsumer, JournalPlace
from dicom_node.storage.journal import JournalWriter, Record, RecordKind, read_record, slot_path
from dicom_node.storage.spool import Spool
from tests.peers.process import wait_until
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import encoded, small_chest_ct

EXPLICIT = "1.2.840.10008.1.2.1"
SLOTS = 12
POISON = b"poison"


@dataclass
class Bench:
    """A journal, a spool and an index, with a consumer between them."""

    folder: Path
    index: Database
    freed: list[tuple[int, int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = JournalWriter(self.folder / "journal", SLOTS)
        self.journal.recover()
        self.journal.grow()
        self.spool = Spool(self.folder / "spool")
        self.events = ReceiveEvents()
        self.consumer = self.new_consumer(self.events)

    def new_consumer(self, events: ReceiveEvents) -> JournalConsumer:
        def keep_request(_connection: object, _record: object, payload: bytes) -> None:
            if payload == POISON:
                raise RuntimeError("a fault")
            self.requests.append(payload)

        links = ConsumerLinks(events, self._be_told, keep_request)
        return JournalConsumer(self.index, self.spool, JournalPlace(self.folder / "journal", SLOTS), "receiver", links)

    def _be_told(self, message: Freed | Unavailable) -> None:
        """Do as the acceptor does."""
        if isinstance(message, Unavailable):
            self.reasons.append(message.reason)
            return
        for slot, sequence in message.slots:
            self.freed.append((slot, sequence))
            self.journal.settled(slot, sequence)

    def write(self, data_set: bytes, association: str = "a", **more: object) -> RecordStored:
        """Put an object into a slot, as the acceptor does."""
        look = scan_header(memoryview(data_set), EXPLICIT)
        head = file_head(look.sop_class_uid, look.sop_instance_uid, EXPLICIT)
        slot = self.journal.take(5)
        assert slot is not None
        values = {
            "kind": RecordKind.OBJECT, "sequence": self.journal.next_sequence(), "received_at_s": time.time(),
            "association_id": association, "calling_ae_title": "CT1", "called_ae_title": "AINODE", "host": "10.0.0.1",
            "sop_class_uid": look.sop_class_uid, "sop_instance_uid": look.sop_instance_uid,
            "transfer_syntax_uid": EXPLICIT, "study_instance_uid": look.study_instance_uid,
            "series_instance_uid": look.series_instance_uid, "payload_bytes": len(head) + len(data_set),
            "data_set_offset": len(head), "header_bytes": look.header_bytes, "crc32": zlib.crc32(data_set),
        }  # fmt: skip
        record = Record(**values | more)  # type: ignore[arg-type]
        self.journal.write(slot, record, [head, data_set])
        return RecordStored(slot, record.sequence, look.study_instance_uid, found=False)

    def rows(self) -> list[object]:
        with self.index.read() as connection:
            return list(connection.execute(select(instances).order_by(instances.c.id)))

    def wait(self) -> None:
        wait_until(lambda: self.events.backlog() == 0, 60, "everything to be settled", 0.02)
        wait_until(lambda: self.journal.free_count() == SLOTS, 60, "every slot to be free", 0.02)


@pytest.fixture
def bench(tmp_path: Path, index: Database) -> Iterator[Bench]:
    one = Bench(tmp_path, index)
    yield one
    one.consumer.stop()


@pytest.fixture
def images() -> list[bytes]:
    return [encoded(image) for image in small_chest_ct()[0][:4]]


def test_records_become_files_and_rows_and_their_slots_are_free_again(bench: Bench, images: list[bytes]) -> None:
    bench.consumer.start()
    for image in images:
        bench.events.put(bench.write(image))
    bench.events.put(AssociationClosed("a", "released", time.time()))
    bench.wait()
    rows = bench.rows()
    assert len(rows) == len(images)
    for row, image in zip(rows, images, strict=True):
        assert bench.spool.path(row.object_key).read_bytes().endswith(image)  # type: ignore[attr-defined]
        assert row.attributes["modality"] == "CT"  # type: ignore[attr-defined]
    with bench.index.read() as connection:
        carried = connection.execute(select(associations)).one()
    assert (carried.instances, carried.outcome, carried.closed_at is None) == (4, "released", False)
    assert all(read_record(bench.folder / "journal", slot) is None for slot in range(SLOTS))
    assert list((bench.folder / "spool" / "incoming").iterdir()) == []


def test_versions_that_come_in_one_batch_are_compared_each_with_the_one_before(bench: Bench) -> None:
    image = small_chest_ct()[0][0]
    sent = [encoded(image)]
    image.PatientID = "CORRECTED"
    sent.append(encoded(image))
    image.RetrieveAETitle = "ARCHIVE"  # says where it is kept, nothing else
    sent.append(encoded(image))
    for data_set in sent:
        bench.events.put(bench.write(data_set))
    bench.consumer.start()
    bench.wait()
    assert [row.superseded_at is None for row in bench.rows()] == [False, True, False]  # type: ignore[attr-defined]
    with bench.index.read() as connection:
        told = {row.kind: row.text for row in connection.execute(select(events))}
    assert told["corrected"] == "1 image came again, corrected, sent by CT1 at 10.0.0.1. Changed: PatientID."
    assert told["encoded"].startswith("1 object came again in another encoding")


def test_a_study_is_not_complete_while_an_object_of_it_is_in_a_slot(bench: Bench, images: list[bytes]) -> None:
    event = bench.write(images[0])
    bench.events.put(event)
    assert bench.events.unsettled_studies() == {event.study_instance_uid}
    bench.consumer.start()
    bench.wait()
    assert bench.events.unsettled_studies() == frozenset()


def test_a_start_settles_what_was_left_and_drops_what_was_cut_off(bench: Bench, images: list[bytes]) -> None:
    whole, cut = bench.write(images[0]), bench.write(images[1])
    path = slot_path(bench.folder / "journal", cut.slot)
    content = bytearray(path.read_bytes())
    content[4096 + 3000 : 4096 + 4000] = bytes(1000)
    path.write_bytes(content)
    bench.consumer.start()
    for event in (whole, cut):
        bench.events.put(RecordStored(event.slot, event.sequence, event.study_instance_uid, found=True))
    bench.wait()
    assert [row.sop_instance_uid for row in bench.rows()] == [
        scan_header(memoryview(images[0]), EXPLICIT).sop_instance_uid
    ]  # type: ignore[attr-defined]
    with bench.index.read() as connection:
        assert connection.execute(select(associations)).all() == []  # it ended with the process that served it


def test_a_file_from_before_a_power_cut_is_written_again(bench: Bench, images: list[bytes]) -> None:
    """Its name may have become durable and its content not."""
    event = bench.write(images[0])
    bench.consumer.start()
    bench.events.put(event)
    bench.wait()
    (row,) = bench.rows()
    path = bench.spool.path(row.object_key)  # type: ignore[attr-defined]
    path.write_bytes(b"")
    again = bench.write(images[0])
    bench.events.put(RecordStored(again.slot, again.sequence, again.study_instance_uid, found=True))
    bench.wait()
    assert path.read_bytes().endswith(images[0])
    assert len(bench.rows()) == 1


def test_an_event_about_an_earlier_record_frees_nothing(bench: Bench, images: list[bytes]) -> None:
    event = bench.write(images[0])
    bench.consumer.start()
    bench.events.put(RecordStored(event.slot, event.sequence - 1, event.study_instance_uid, found=True))
    wait_until(lambda: bench.events.backlog() == 0, 60, "the event to be taken")
    assert read_record(bench.folder / "journal", event.slot) is not None
    assert bench.journal.free_count() == SLOTS - 1
    bench.events.put(event)
    bench.wait()


def test_the_same_content_twice_is_one_row_and_one_file(bench: Bench, images: list[bytes]) -> None:
    bench.consumer.start()
    for _ in range(2):
        bench.events.put(bench.write(images[0]))
        bench.events.put(bench.write(images[0]))
        bench.wait()
    assert len(bench.rows()) == 1
    assert len(list((bench.folder / "spool" / "objects").rglob("*.dcm"))) == 1


def test_a_header_that_cannot_be_read_is_kept_and_said(bench: Bench, images: list[bytes]) -> None:
    """An acknowledged object is never dropped; nothing is concluded from it either."""
    broken = struct.pack("<HH2sH", 0x0018, 0x0050, b"FL", 2) + b"ab"  # half a number
    at = images[0].index(b"\x20\x00\x0d\x00UI")
    image = images[0][:at] + broken + images[0][at:]
    bench.consumer.start()
    bench.events.put(bench.write(image))
    bench.events.put(bench.write(images[1]))
    bench.wait()
    assert [row.role for row in bench.rows()] == ["EVIDENCE", "SOURCE"]  # type: ignore[attr-defined]
    with bench.index.read() as connection:
        kinds = [row.kind for row in connection.execute(select(events))]
    assert "unreadable" in kinds


def test_a_spool_that_cannot_be_written_is_told_and_tried_again(bench: Bench, images: list[bytes]) -> None:
    objects = bench.folder / "spool" / "objects"
    objects.rename(objects.with_name("away"))
    objects.write_bytes(b"a file where the folder should be")
    bench.consumer.start()
    bench.events.put(bench.write(images[0]))
    wait_until(lambda: bool(bench.reasons and bench.reasons[-1]), 60, "the reason to be told")
    assert bench.rows() == []
    objects.unlink()
    objects.with_name("away").rename(objects)
    bench.wait()
    assert bench.reasons[-1] == ""
    assert len(bench.rows()) == 1


def request_after(bench: Bench, stored: RecordStored, payload: bytes) -> RecordStored:
    """Put a request for storage commitment into a slot, made from the record of an object."""
    slot, like = bench.journal.take(1), read_record(bench.folder / "journal", stored.slot)
    assert slot is not None
    assert like is not None
    request = replace(
        like, kind=RecordKind.COMMITMENT, sequence=bench.journal.next_sequence(), payload_bytes=len(payload),
        data_set_offset=0, crc32=zlib.crc32(payload), study_instance_uid="",
    )  # fmt: skip
    bench.journal.write(slot, request, [payload])
    return RecordStored(slot, request.sequence, "", found=False)


def test_a_request_for_commitment_comes_after_what_was_stored_before_it(bench: Bench, images: list[bytes]) -> None:
    stored = bench.write(images[0])
    bench.events.put(stored)
    bench.events.put(request_after(bench, stored, b"request"))
    bench.consumer.start()
    bench.wait()
    assert bench.requests == [b"request"]
    assert len(bench.rows()) == 1


def test_a_record_that_cannot_be_filed_keeps_its_slot_and_holds_up_no_other(bench: Bench, images: list[bytes]) -> None:
    """Whoever takes requests has a fault; the objects around the request are filed all the same."""
    first, second = bench.write(images[0]), bench.write(images[1])
    poison = request_after(bench, first, POISON)
    for event in (first, poison, second):
        bench.events.put(event)
    bench.consumer.start()
    wait_until(lambda: bench.events.backlog() == 1, 60, "the others to be filed")
    wait_until(lambda: bench.journal.free_count() == SLOTS - 1, 60, "their slots to be free")
    assert len(bench.rows()) == 2
    assert read_record(bench.folder / "journal", poison.slot) is not None


def test_a_study_waits_for_its_row_that_the_database_refuses_and_goes_on_when_it_is_taken(
    tmp_path: Path, images: list[bytes]
) -> None:
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as index:
        bench = Bench(tmp_path, index)
        bench.consumer.aside_retry_s = 0.05
        refused, taken = bench.write(images[0]), bench.write(images[1])
        uid = scan_header(memoryview(images[0]), EXPLICIT).sop_instance_uid
        with index.write() as connection:
            connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE INSERT ON instances WHEN NEW.sop_instance_uid = '{uid}' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        for event in (refused, taken):
            bench.events.put(event)
        bench.consumer.start()
        wait_until(lambda: bench.journal.free_count() == SLOTS - 1, 60, "the other's slot to be free")
        wait_until(lambda: unfiled_lines(index) == 1, 60, "the timeline to tell")
        assert bench.events.unsettled_studies() == {refused.study_instance_uid}
        with index.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER refuse")
        bench.wait()
        bench.consumer.stop()
        assert len(bench.rows()) == 2
        assert unfiled_lines(index) == 1
        assert bench.events.unsettled_studies() == frozenset()


def unfiled_lines(index: Database) -> int:
    with index.read() as connection:
        return len(connection.execute(select(events).where(events.c.kind == "unfiled")).all())


def test_a_damaged_index_stops_success_until_it_is_repaired(tmp_path: Path, images: list[bytes]) -> None:
    path = tmp_path / "index.sqlite"
    with opened_database(f"sqlite:///{path}") as index, index.write() as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'instances'"
        offset = (connection.exec_driver_sql(query).scalar_one() - 1) * 4096
    with path.open("r+b") as file:
        file.seek(offset)
        whole = file.read(4096)
        file.seek(offset)
        file.write(b"\xff" * 4096)
    bench = Bench(tmp_path, Database(f"sqlite:///{path}"))
    bench.events.put(bench.write(images[0]))
    bench.consumer.start()
    wait_until(lambda: bool(bench.reasons), 60, "the acceptor to be told")
    assert "damaged" in bench.reasons[0]
    assert bench.events.backlog() == 1
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(whole)
    bench.wait()
    bench.consumer.stop()
    assert bench.reasons[-1] == ""
    assert len(bench.rows()) == 1


def test_when_the_acceptor_dies_its_associations_are_over(bench: Bench, images: list[bytes]) -> None:
    bench.consumer.start()
    bench.events.put(bench.write(images[0]))
    bench.events.put(AcceptorDied(time.time()))
    bench.wait()

    def outcome() -> str:
        with bench.index.read() as connection:
            return str(connection.execute(select(associations.c.outcome)).scalar_one())

    wait_until(lambda: outcome() == "lost", 60, "the association to be closed")


def test_consumers_that_are_ended_at_any_moment_lose_and_double_nothing(bench: Bench, images: list[bytes]) -> None:
    """What one consumer has not finished, the next one finds in the slots."""
    stored = [bench.write(image) for image in images]
    for pause_s in (0.0, 0.02, 0.1, 0.3):
        received = ReceiveEvents()
        consumer = bench.new_consumer(received)
        consumer.start()
        for event in stored:
            received.put(RecordStored(event.slot, event.sequence, event.study_instance_uid, found=True))
        threading.Event().wait(pause_s)
        consumer.stop()
    bench.consumer.start()
    for event in stored:
        bench.events.put(RecordStored(event.slot, event.sequence, event.study_instance_uid, found=True))
    bench.wait()
    assert len(bench.rows()) == len(images)
    assert len(list((bench.folder / "spool" / "objects").rglob("*.dcm"))) == len(images)
