"""Behind the answer: records of the journal become files and rows, each exactly once, whatever is wrong with one."""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.headers.file_meta import file_head
from dicom_node.headers.scan import scan_header
from dicom_node.index.damage import damage_counts, forget_records, lacks_records
from dicom_node.index.database import Database
from dicom_node.index.tables import associations, events, instances
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.receive.channel import AssociationClosed, Freed, RecordStored, Unavailable
from dicom_node.receive.events import AcceptorDied, ReceiveEvents
from dicom_node.receive.journal_consumer import ConsumerLinks, JournalConsumer, JournalPlace
from dicom_node.storage.journal import HEAD_BYTES, UNREADABLE, JournalWriter, Record, RecordKind, read_record, slot_path
from dicom_node.storage.spool import Spool
from tests.peers.process import wait_until
from tests.support.journals import journals_are_closed  # noqa: F401 - a fixture of all tests here
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

    def wait(self, slots: int = SLOTS) -> None:
        wait_until(lambda: self.events.backlog() == 0, 60, "everything to be settled", 0.02)
        wait_until(lambda: self.journal.free_count() == slots, 60, "every slot to be free", 0.02)


def file_head_of(data_set: bytes) -> bytes:
    look = scan_header(memoryview(data_set), EXPLICIT)
    return file_head(look.sop_class_uid, look.sop_instance_uid, EXPLICIT)


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


def test_a_file_that_a_crash_left_without_a_row_is_entered_by_its_record_which_knows_the_sender(
    bench: Bench, images: list[bytes]
) -> None:
    """The kill fell between the names of the files and the transaction; adoption looks while the records still wait."""
    stored = [bench.write(image) for image in images]
    for image in images:
        kept = bench.spool.put([file_head_of(image), image], ".dcm", [EXPLICIT.encode(), image])
        os.utime(bench.spool.path(kept.key), (1, 1))
    intake = Intake(bench.index, bench.spool, IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30), "receiver")
    assert intake.adopt_orphans(datetime.now(UTC), bench.consumer.held_objects) == 0
    assert bench.rows() == []

    bench.consumer.start()
    for event in stored:
        bench.events.put(replace(event, found=True))
    bench.wait()
    assert {row.calling_ae_title for row in bench.rows()} == {"CT1"}  # type: ignore[attr-defined]
    assert intake.adopt_orphans(datetime.now(UTC), bench.consumer.held_objects) == 0
    nobodys = encoded(small_chest_ct()[0][4])
    bench.spool.put([file_head_of(nobodys), nobodys], ".dcm")
    assert intake.adopt_orphans(datetime.now(UTC), bench.consumer.held_objects) == 1


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


def change(bench: Bench, slot: int, *places: int) -> None:
    """Flip a bit at each of these places of a slot."""
    path = slot_path(bench.folder / "journal", slot)
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 0x08
    path.write_bytes(content)


def unseal(bench: Bench, slot: int) -> None:
    """Leave a record as one is left whose writer died before it was durable."""
    with slot_path(bench.folder / "journal", slot).open("r+b") as file:
        os.pwrite(file.fileno(), bytes(16), HEAD_BYTES - 16)


def restart(bench: Bench, slots: int = SLOTS) -> None:
    """Do what a start does: the acceptor looks into the slots and tells what is there."""
    bench.journal = JournalWriter(bench.folder / "journal", SLOTS)
    found = [(slot, record.sequence, record.study_instance_uid) for slot, record in bench.journal.recover()]
    bench.consumer.start()
    for slot, sequence, study in [*found, *((slot, UNREADABLE, "") for slot in bench.journal.unreadable)]:
        bench.events.put(RecordStored(slot, sequence, study, found=True))
    bench.wait(slots)


def set_aside(bench: Bench) -> list[Path]:
    return sorted((bench.folder / "journal" / "damaged").glob("*.slot"))


def test_a_start_settles_what_was_left_and_drops_what_was_never_acknowledged(
    bench: Bench, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(images[0])
    cut = bench.write(images[1])
    change(bench, cut.slot, *range(HEAD_BYTES + 3000, HEAD_BYTES + 4000))
    unseal(bench, cut.slot)
    restart(bench)
    assert [row.sop_instance_uid for row in bench.rows()] == [uid_of(images[0])]  # type: ignore[attr-defined]
    assert set_aside(bench) == []
    assert "never acknowledged" in caplog.text
    with bench.index.read() as connection:
        assert connection.execute(select(associations)).all() == []  # it ended with the process that served it


@pytest.mark.parametrize("places", [(HEAD_BYTES + 3000,), (20, 2068), (20, 2068, HEAD_BYTES + 3000)])
def test_a_damaged_record_is_set_aside_named_and_told(
    bench: Bench, images: list[bytes], caplog: pytest.LogCaptureFixture, places: tuple[int, ...]
) -> None:
    """A bit of the payload, of both heads, of all three: the object names itself where the heads cannot."""
    hurt = bench.write(images[0])
    change(bench, hurt.slot, *places)
    content = slot_path(bench.folder / "journal", hurt.slot).read_bytes()
    restart(bench)

    assert bench.rows() == []
    (kept,) = set_aside(bench)
    assert kept.read_bytes() == content
    (line,) = [one for one in caplog.records if "set aside" in one.message]
    assert line.levelname == "ERROR"
    assert (line.sop_instance, line.kept_as) == (uid_of(images[0]), str(kept))  # type: ignore[attr-defined]
    assert line.acknowledged == ("yes" if len(places) == 1 else "unknown")  # type: ignore[attr-defined]
    assert "never acknowledged" not in caplog.text
    with bench.index.write() as connection:
        assert damage_counts(connection).records == 1
        told = [row.kind for row in connection.execute(select(events))]
        assert told == ["damaged"]
        assert lacks_records(connection, hurt.study_instance_uid)

    bench.events.put(bench.write(images[0]))  # the sender sends it again
    bench.wait()
    assert len(bench.rows()) == 1
    with bench.index.read() as connection:
        assert damage_counts(connection).records == 0
        assert not lacks_records(connection, hurt.study_instance_uid)


def unreadable(bench: Bench, slot: int) -> None:
    """Put in a slot's place what a disk with a bad sector is: it can be opened, and reading it fails (EIO)."""
    path = slot_path(bench.folder / "journal", slot)
    path.unlink()
    path.symlink_to("/proc/self/mem")


def test_a_start_goes_on_where_the_disk_cannot_read_a_slot(
    bench: Bench, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    hurt = bench.write(images[0])
    bench.write(images[1])
    unreadable(bench, hurt.slot)
    restart(bench, slots=SLOTS - 1)
    assert [row.sop_instance_uid for row in bench.rows()] == [uid_of(images[1])]  # type: ignore[attr-defined]
    (kept,) = set_aside(bench)
    assert [one.kept_as for one in caplog.records if "set aside" in one.message] == [str(kept)]  # type: ignore[attr-defined]
    with bench.index.read() as connection:
        assert damage_counts(connection).records == 1
    again = JournalWriter(bench.folder / "journal", SLOTS)
    again.recover()
    again.grow()
    assert again.free_count() == SLOTS


def test_a_slot_that_the_disk_cannot_read_while_the_node_runs_holds_up_no_other_and_is_not_used_again(
    bench: Bench, images: list[bytes]
) -> None:
    bench.consumer.start()
    hurt = bench.write(images[0])
    unreadable(bench, hurt.slot)
    bench.events.put(hurt)
    bench.events.put(hurt)
    bench.events.put(bench.write(images[1]))
    bench.wait(SLOTS - 1)
    assert [row.sop_instance_uid for row in bench.rows()] == [uid_of(images[1])]  # type: ignore[attr-defined]
    assert len(set_aside(bench)) == 1
    with bench.index.read() as connection:
        assert lacks_records(connection, hurt.study_instance_uid)


def test_a_slot_cut_off_from_the_payload_on_is_set_aside(bench: Bench, images: list[bytes]) -> None:
    hurt = bench.write(images[0])
    os.truncate(slot_path(bench.folder / "journal", hurt.slot), HEAD_BYTES + 500)
    restart(bench)
    assert len(set_aside(bench)) == 1
    bench.events.put(bench.write(images[0]))
    bench.wait()
    assert len(bench.rows()) == 1


def test_a_record_damaged_while_the_node_runs_is_set_aside_too(bench: Bench, images: list[bytes]) -> None:
    hurt = bench.write(images[0])
    change(bench, hurt.slot, HEAD_BYTES + 3000)
    bench.consumer.start()
    bench.events.put(hurt)
    bench.wait()
    assert bench.rows() == []
    assert len(set_aside(bench)) == 1


def test_a_damaged_file_head_is_written_anew(bench: Bench, images: list[bytes]) -> None:
    """It stands before the data set, outside the checksum; the record knows what it says."""
    hurt = bench.write(images[0])
    payload = slot_path(bench.folder / "journal", hurt.slot).read_bytes()[HEAD_BYTES:]
    change(bench, hurt.slot, HEAD_BYTES + payload.index(EXPLICIT.encode()))
    restart(bench)
    (row,) = bench.rows()
    assert bench.spool.is_whole(row.object_key)  # type: ignore[attr-defined]


def test_a_large_object_whose_file_is_damaged_before_it_is_filed_is_told(bench: Bench, images: list[bytes]) -> None:
    head = file_head("1.2.840.10008.5.1.4.1.1.2", uid_of(images[0]), EXPLICIT)
    stored = bench.spool.put([head, images[0]], ".dcm", [EXPLICIT.encode(), images[0]])
    bench.write(images[0], kind=RecordKind.FILE, object_key=stored.key, sha256=stored.sha256)
    path = bench.spool.path(stored.key)
    path.write_bytes(path.read_bytes()[:-1])
    restart(bench)
    assert bench.rows() == []
    assert len(set_aside(bench)) == 1


def test_damaged_records_are_counted_until_their_copies_are_removed(bench: Bench, images: list[bytes]) -> None:
    for image in images[:2]:
        change(bench, bench.write(image).slot, HEAD_BYTES + 3000)
    restart(bench)
    first, second = set_aside(bench)
    with bench.index.write() as connection:
        forget_records(connection, "receiver", [first.name, second.name])
        assert damage_counts(connection).records == 2
        forget_records(connection, "another", [])
        assert damage_counts(connection).records == 2
        forget_records(connection, "receiver", [second.name])
        assert damage_counts(connection).records == 1


def uid_of(image: bytes) -> str:
    return scan_header(memoryview(image), EXPLICIT).sop_instance_uid


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
