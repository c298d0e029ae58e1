"""A backup of a node on both databases, put back elsewhere: everything is there, byte by byte, and damage is named."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from dicom_node.__main__ import main
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.principal import Principal
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.received.arrivals import add_instance
from dicom_node.index.tables import destinations, instances, metadata
from dicom_node.operate.backup.folder import BackupFolder
from dicom_node.operate.backup.journals import copy_journals
from dicom_node.operate.backup.outcome import last_backup
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import load_settings
from dicom_node.storage.journal import HEAD_BYTES, JournalWriter, Record, RecordKind, free_slot, read_record
from dicom_node.storage.spool import Spool
from tests.peers.process import wait_until
from tests.support.journals import journals_are_closed
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import STUDY, arrive, instance

__all__ = ["journals_are_closed"]

PAYLOAD = b"an image that no row names yet" * 100


@dataclass
class KeptNode:
    """A node that does not run: its settings, its database, and what it was given."""

    folder: Path
    database: Database
    postgres_url: Callable[[], str] | None
    url: str = ""
    unused_url: str = ""

    def __post_init__(self) -> None:
        self.data_dir = self.folder / "data"
        self.backups = self.folder / "backups"
        self.backups.mkdir()
        self.spool = Spool(self.data_dir / "spool")
        self.spool.name()
        self.config = self.folder / "node.toml"
        self.configure(self.config, self.data_dir, self.url)
        (self.data_dir / "api-token").write_text("secret\n")
        (self.data_dir / "ports.json").write_text("{}")

    def configure(self, config: Path, data_dir: Path, url: str) -> None:
        (self.folder / "token").write_text("secret-token\n")
        (self.folder / "token").chmod(0o600)
        config.write_text(
            f'[node]\ndata_dir = "{data_dir}"\n[database]\nurl = "{url}"\n'
            '[[destination]]\nname = "ehr"\nkind = "fhir"\nurl = "http://127.0.0.1:9"\ntoken_file = "token"\n'
        )

    def receive(self, *names: str) -> list[str]:
        """Keep objects as they are after their rows are committed; return their keys."""
        contents = {name: f"pixels of {name} " * 500 for name in names}
        with self.database.write() as connection:
            for name, content in contents.items():
                add_instance(connection, instance(name, content=content))
        return [self.spool.put([content.encode()], ".dcm").key for content in contents.values()]

    def act(self) -> None:
        settings = load_settings(self.config)
        audit = open_audit(settings, self.database)
        audit.record(AuditedEvent(act=AuditedAct.RERUN, actor=Principal("alice"), study_instance_uid=STUDY))
        audit.close()

    def journal(self, payload: bytes = PAYLOAD) -> JournalWriter:
        """Keep one record as it is when its sender has heard success and nothing followed."""
        writer = JournalWriter(self.data_dir / "journal", 3)
        writer.grow()
        slot = writer.take(1)
        assert slot is not None
        writer.write(slot, *record_of(writer, payload))
        return writer

    def backup(self, *options: str) -> int:
        return main(["backup", str(self.backups), "--config", str(self.config), *options])

    def snapshots(self) -> list[str]:
        return BackupFolder(self.backups).names()

    def restore(self, *options: str) -> Restored:
        place = self.folder / "elsewhere"
        # One that was refused has not touched the database.
        url = self.unused_url = self.unused_url or (self.postgres_url() if self.postgres_url else "")
        database = ["--database", url] if url else []
        status = main(["restore", str(self.backups), "--to", str(place), *database, *options])
        if status == 0:
            self.unused_url = ""
        config = self.folder / "restored.toml"
        self.configure(config, place, url)
        return Restored(status, place, config, url or f"sqlite:///{place / 'node.sqlite'}")


@dataclass
class Restored:
    status: int
    data_dir: Path
    config: Path
    url: str

    def rows(self) -> dict[str, list[Any]]:
        return rows_of(self.url)


def rows_of(url: str) -> dict[str, list[Any]]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {
                one.name: sorted(map(repr, connection.execute(select(one)).all())) for one in metadata.sorted_tables
            }
    finally:
        database.close()


@pytest.fixture
def kept(tmp_path: Path, index: Database, request: pytest.FixtureRequest) -> Iterator[KeptNode]:
    made: list[str] = []
    new_url = None
    if index.engine.dialect.name == "postgresql":
        server = request.getfixturevalue("postgres")

        def new_url() -> str:
            made.append(server.create_database())
            return made[-1]

    yield KeptNode(tmp_path, index, new_url, index.url)
    for url in made:
        server.drop_database(url)


def test_everything_is_put_back_and_nothing_is_sent_before_somebody_says_so(kept: KeptNode) -> None:
    keys = kept.receive("1", "2", "3")
    kept.act()
    kept.journal()
    assert kept.backup() == 0
    before = rows_of(kept.url)

    restored = kept.restore()
    assert restored.status == 0
    after = restored.rows()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"destinations", "audit_records"}
    assert set(before["audit_records"]) < set(after["audit_records"])
    database = Database(restored.url)
    with database.read() as connection:
        held = connection.execute(select(destinations)).one()
        assert (held.name, held.state) == ("ehr", "SUSPENDED")
        assert held.suspended_by.startswith("cli:")
    arrive(database, instance("4"))  # keys that the database counts go on where they were
    database.close()

    for key in keys:
        assert (restored.data_dir / "spool/objects" / key).read_bytes() == kept.spool.path(key).read_bytes()
    for name in ("api-token", "audit/key", "spool/store-id"):
        assert (restored.data_dir / name).read_bytes() == (kept.data_dir / name).read_bytes()
    assert not (restored.data_dir / "ports.json").exists()
    assert main(["audit", "verify", "--config", str(restored.config)]) == 0
    private = [
        path for path in [*kept.backups.rglob("*"), *restored.data_dir.rglob("*")] if path.stat().st_mode & 0o077
    ]
    assert not private
    elsewhere = restored.data_dir / "restored-files"
    assert (elsewhere / str(kept.config).lstrip("/")).read_bytes() == kept.config.read_bytes()
    assert (elsewhere / str(kept.folder / "token").lstrip("/")).read_text() == "secret-token\n"


def test_what_was_acknowledged_and_has_no_row_yet_is_put_back_in_its_slot(kept: KeptNode) -> None:
    kept.journal()
    assert kept.backup() == 0
    journal = kept.restore().data_dir / "journal"
    records = [
        one for slot in range(3) if (journal / f"{slot:04d}.slot").exists() and (one := read_record(journal, slot))
    ]
    assert [one.sop_instance_uid for one in records] == ["1.2.3"]
    slot = next(journal.glob("*.slot"))
    assert slot.read_bytes()[HEAD_BYTES : HEAD_BYTES + len(PAYLOAD)] == PAYLOAD
    assert slot.stat().st_size == next((kept.data_dir / "journal").glob("*.slot")).stat().st_size


def test_a_second_backup_copies_only_what_is_new(kept: KeptNode, capsys: pytest.CaptureFixture[str]) -> None:
    kept.receive("1", "2")
    assert kept.backup("--json") == 0
    assert json.loads(capsys.readouterr().out)["copied"] == 2
    kept.receive("3")
    assert kept.backup("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["copied"], told["objects"], told["counts"]["instances"]) == (1, 3, 3)


def test_an_object_that_the_node_deletes_meanwhile_is_no_fault_and_one_that_is_lost_is(
    kept: KeptNode, capsys: pytest.CaptureFixture[str]
) -> None:
    from dicom_node.operate.backup.objects import ObjectCopies, is_named  # noqa: PLC0415

    deleted, lost, damaged = kept.receive("deleted", "lost", "damaged")
    kept.spool.path(deleted).unlink()
    kept.spool.path(lost).unlink()
    kept.spool.path(damaged).write_bytes(b"other bytes")
    with kept.database.write() as connection:
        connection.execute(delete(instances).where(instances.c.object_key == deleted))
    # As where its row went after the database was copied.
    copies = ObjectCopies(kept.spool, BackupFolder(kept.backups).pool, lambda key: is_named(kept.database, key))
    found = copies.copy([deleted, lost, damaged], lambda _key, _size: None)
    assert found.gone == [deleted]
    assert len(found.faults) == 2

    assert kept.backup("--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [lost in one or damaged in one for one in told["faults"]] == [True, True]
    outcome = last_backup(kept.data_dir)
    assert outcome is not None
    assert outcome.faults == 2
    assert outcome.advice(outcome.made_at)  # type: ignore[arg-type]


def test_old_snapshots_go_with_the_objects_that_no_other_names(kept: KeptNode) -> None:
    first, second = kept.receive("1", "2")
    assert kept.backup() == 0
    with kept.database.write() as connection:
        connection.execute(delete(instances).where(instances.c.object_key == first))
    kept.spool.path(first).unlink()
    assert kept.backup() == 0
    pool = BackupFolder(kept.backups).pool
    assert pool.path(first).exists()
    assert kept.backup("--keep", "2") == 0
    assert len(kept.snapshots()) == 2
    assert not pool.path(first).exists()
    assert pool.path(second).exists()
    assert kept.backup("--check", "latest") == 0


def test_a_flipped_bit_is_found_and_named_and_not_put_back(kept: KeptNode, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = kept.receive("1")
    assert kept.backup("--verify") == 0
    snapshot = kept.backups / "snapshots" / kept.snapshots()[0]
    of_database = sorted((snapshot / "database").iterdir())
    victims = (
        kept.backups / "objects" / key, snapshot / "files" / "api-token", snapshot / "objects.txt",
        of_database[0], of_database[-1], snapshot / "manifest.json",
    )  # fmt: skip
    subprocess.run(["sha256sum", "--check", "--quiet", "manifest.sha256"], cwd=snapshot, check=True)
    for victim in victims:
        whole = victim.read_bytes()
        content = bytearray(whole)
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        capsys.readouterr()
        assert kept.backup("--check", snapshot.name) == 1
        assert str(victim) in "".join(capsys.readouterr()).replace("\n", "")
        restored = kept.restore()
        assert restored.status == 1
        assert str(victim) in capsys.readouterr().err
        assert not restored.data_dir.exists()
        victim.write_bytes(whole)
    assert kept.backup("--check", snapshot.name) == 0


def test_a_restore_refuses_what_is_not_empty_or_newer(kept: KeptNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept.backup() == 0
    place = kept.folder / "elsewhere"
    place.mkdir()
    (place / "something").touch()
    assert kept.restore().status == 1
    assert "is not empty" in capsys.readouterr().err
    (place / "something").unlink()
    if kept.postgres_url:
        assert main(["restore", str(kept.backups), "--to", str(place), "--database", kept.url]) == 1
        assert "is not empty" in capsys.readouterr().err
    manifest = kept.backups / "snapshots" / kept.snapshots()[0] / "manifest.json"
    told = json.loads(manifest.read_text())
    told["database"]["schema"] = "9999"
    manifest.write_text(json.dumps(told))
    sealed = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.with_suffix(".sha256").write_text(f"{sealed}  manifest.json\n")
    assert kept.restore().status == 1
    assert "newer than this program's" in capsys.readouterr().err


def test_a_backup_that_fails_is_remembered_until_one_is_made(kept: KeptNode) -> None:
    kept.receive("1")
    assert kept.backup() == 0
    kept.backups.rename(kept.folder / "unmounted")
    assert kept.backup() == 1
    assert not kept.backups.exists()
    outcome = last_backup(kept.data_dir)
    assert outcome is not None
    assert outcome.failed_at is not None
    assert outcome.made_at is not None
    (kept.folder / "unmounted").rename(kept.backups)
    assert kept.backup() == 0
    outcome = last_backup(kept.data_dir)
    assert outcome is not None
    assert outcome.failed_at is None


def test_a_backup_that_cannot_even_ask_the_database_is_remembered_as_failed(
    kept: KeptNode, capsys: pytest.CaptureFixture[str]
) -> None:
    with kept.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert kept.backup() == 1
    outcome = last_backup(kept.data_dir)
    assert outcome is not None
    assert "newer than this program's" in outcome.why_failed
    assert "newer than this program's" in capsys.readouterr().err


def test_a_database_is_brought_to_the_schema_of_a_backup_and_on_from_there(index_url: str) -> None:
    with closing(Database(index_url)) as database:
        database.migrate("0021")
        assert database.schema_version() == "0021"
        database.migrate()
        assert database.schema_version() == SCHEMA_HEAD


def test_slots_that_are_overwritten_while_they_are_copied_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A sender writes and a consumer files all the time: each record is copied whole, or was filed by then."""
    (tmp_path / "node.toml").write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    settings, journal = load_settings(tmp_path / "node.toml"), tmp_path / "data" / "journal"
    journal.parent.mkdir()
    writer = JournalWriter(journal, 6)
    writer.grow()
    acknowledged: list[int] = []
    filed: set[int] = set()
    is_over = threading.Event()
    thread = threading.Thread(target=send_and_file, args=(writer, journal, acknowledged, filed, is_over))
    thread.start()
    try:
        wait_until(lambda: len(acknowledged) > 20, 60, "a busy journal")
        for number in count():
            if number >= 10 and len(acknowledged) > 60:
                break
            before = list(acknowledged)
            part = tmp_path / f"part-{number}"
            part.mkdir()
            copied = copy_journals(settings, part)
            by_then = set(filed)
            sequences = set()
            for file in copied.files:
                content = (part / file.path).read_bytes()
                record = read_record_of(part / file.path)
                assert zlib.crc32(content[HEAD_BYTES:]) == record.crc32
                sequences.add(record.sequence)
            assert set(before) <= sequences | by_then
    finally:
        is_over.set()
        thread.join()


def send_and_file(
    writer: JournalWriter, journal: Path, acknowledged: list[int], filed: set[int], is_over: threading.Event
) -> None:
    held: deque[tuple[int, int]] = deque()
    while not is_over.is_set():
        slot = writer.take(1)
        assert slot is not None
        record = record_of(writer, os.urandom(200_000))
        writer.write(slot, *record)
        acknowledged.append(record[0].sequence)
        held.append((slot, record[0].sequence))
        if len(held) > 3:
            slot, sequence = held.popleft()
            filed.add(sequence)  # its row is committed
            free_slot(journal, slot)
            writer.settled(slot, sequence)


def read_record_of(path: Path) -> Record:
    found = read_record(path.parent, int(path.stem))
    assert found is not None
    return found


def record_of(writer: JournalWriter, payload: bytes) -> tuple[Record, list[bytes]]:
    record = Record(
        kind=RecordKind.OBJECT, sequence=writer.next_sequence(), received_at_s=0.0, association_id="a",
        calling_ae_title="CT1", called_ae_title="AINODE", host="h", sop_class_uid="1.2", sop_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1", payload_bytes=len(payload), crc32=zlib.crc32(payload),
    )  # fmt: skip
    return record, [payload]


def holds(pool: Path, count: int) -> bool:
    return len(list(pool.rglob("*.dcm"))) >= count


def test_a_kill_at_any_moment_leaves_the_snapshots_before_it(tmp_path: Path) -> None:
    from tests.support.results.arrivals import migrated_sqlite, opened_database  # noqa: PLC0415

    (tmp_path / "index.sqlite").write_bytes(migrated_sqlite())
    url = f"sqlite:///{tmp_path / 'index.sqlite'}"
    with opened_database(url) as database:
        kept = KeptNode(tmp_path, database, None, url)
        kept.receive("first")
        assert kept.backup() == 0
        (before,) = kept.snapshots()
        for number in range(2):
            kept.receive(*(f"{number}-{one}" for one in range(40)))
            pool = kept.backups / "objects"
            there = len(list(pool.rglob("*.dcm")))
            wanted = there + 5 + 25 * number
            running = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "backup", str(kept.backups), "--config", str(kept.config)],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            wait_until(partial(holds, pool, wanted), 60, "objects to be copied", 0.001)
            running.kill()
            running.wait()
            assert set(kept.snapshots()) >= {before}
            for name in kept.snapshots():
                assert kept.backup("--check", name) == 0
        assert kept.backup("--keep", "1") == 0
        assert kept.backup("--check", "latest") == 0
        assert len(list(kept.backups.glob("snapshots/.*"))) == 0
        assert len(list(pool.rglob("*.dcm"))) == 81
        assert kept.restore().rows()["instances"] == rows_of(url)["instances"]
