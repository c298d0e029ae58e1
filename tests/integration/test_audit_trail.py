"""The audit trail: what is changed, removed or cut off is found; acts by people stop without it, and care does not."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import delete, insert, select, text, update

from dicom_node.__main__ import main
from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import AuditUnavailable
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.people.audit_records import AuditFilter, AuditRecord, matching_records, require_addable
from dicom_node.index.received.associations import close_association, open_association
from dicom_node.index.tables import audit_records
from dicom_node.people.audit import trail as audit_trail
from dicom_node.people.audit.care import ReceivedStudies
from dicom_node.people.audit.seal import Anchor, AuditKeys, seal_of
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail
from dicom_node.people.audit.verify import TrailFinding, verify
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings
from tests.support.results.arrivals import STUDY, after, arrive, instance, opened_database

ALICE = Principal("alice", frozenset({UserRole.OPERATOR}))
WITHDRAWAL = AuditedEvent(act=AuditedAct.WITHDRAWAL, actor=ALICE, address="10.0.0.7", study_instance_uid=STUDY)
RECEIVED = AuditedEvent(act=AuditedAct.STUDY_RECEIVED, actor=Principal("node"), study_instance_uid=STUDY)


@dataclass
class Place:
    """A trail's database, key and anchor; `trail` opens another writer of it, as another process would."""

    database: Database
    folder: Path

    @property
    def keys(self) -> AuditKeys:
        return AuditKeys(self.folder / "key")

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.folder / "elsewhere" / "anchor")

    def trail(self) -> AuditTrail:
        keys = self.keys
        keys.make()
        return AuditTrail(self.database, keys, self.anchor, AuditSpool(self.folder / "waiting"))

    def records(self) -> list[AuditRecord]:
        with self.database.read() as connection:
            return list(matching_records(connection, AuditFilter()))

    def verified(self) -> list[TrailFinding]:
        return verify(self.database, self.keys, self.anchor)[1]

    def do(self, *statements: object) -> None:
        with self.database.write() as connection:
            for statement in statements:
                connection.execute(text(statement) if isinstance(statement, str) else statement)  # type: ignore[call-overload]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as database:
        yield Place(database, tmp_path / "audit")


@pytest.fixture
def any_place(index: Database, tmp_path: Path) -> Place:
    """On SQLite, and on PostgreSQL."""
    return Place(index, tmp_path / "audit")


@pytest.fixture
def five(place: Place) -> Iterator[Place]:
    trail = place.trail()
    for _ in range(5):
        trail.record(WITHDRAWAL)
    assert place.verified() == []
    yield place
    trail.close()


def test_an_act_says_who_from_where_what_and_about_whom(any_place: Place) -> None:
    arrive(any_place.database, instance("1"))
    any_place.do("INSERT INTO study_patients VALUES ('" + STUDY + "', 'P-17', 'HOSPITAL')")
    any_place.trail().record(WITHDRAWAL)
    (one,) = any_place.records()
    assert (one.act, one.actor, one.address, one.outcome) == ("withdrawal", "alice", "10.0.0.7", "0")
    assert (one.study_instance_uid, one.patient_id, one.issuer_of_patient_id) == (STUDY, "P-17", "HOSPITAL")
    assert one.detail == '{"roles": ["operator"]}'


@pytest.mark.parametrize("column", ["actor", "detail", "at", "patient_id", "previous", "mac"])
def test_a_record_that_was_changed_is_found(five: Place, column: str) -> None:
    value = five.records()[0].at if column == "at" else "0" * 64
    five.do(update(audit_records).where(audit_records.c.number == 3).values({column: value}))
    assert next(one.number for one in five.verified() if one.is_fault) == 3


def test_a_record_that_was_removed_from_the_middle_is_found(five: Place) -> None:
    five.do(delete(audit_records).where(audit_records.c.number == 3))
    assert five.verified() == [TrailFinding(3, "it is missing: removed")]


def test_records_that_were_removed_and_numbered_anew_are_found(five: Place) -> None:
    gone = delete(audit_records).where(audit_records.c.number == 3)
    five.do(gone, *(update(audit_records).where(audit_records.c.number == n).values(number=n - 1) for n in (4, 5)))
    assert {one.number for one in five.verified()} >= {3, 4, 5}


@pytest.mark.parametrize(("kept", "told"), [(4, "it is missing"), (2, "it and all to 5 are missing"), (0, "to 5")])
def test_a_tail_that_was_cut_off_is_found_also_when_it_is_the_last_record(five: Place, kept: int, told: str) -> None:
    five.do(delete(audit_records).where(audit_records.c.number > kept))
    (only,) = five.verified()
    assert only.number == kept + 1
    assert told in only.text


def test_a_tail_that_was_cut_and_written_over_by_new_acts_is_found(five: Place) -> None:
    """As after a backup was put back, too: the anchor knows what was there."""
    five.do(delete(audit_records).where(audit_records.c.number > 3))
    five.trail().record(WITHDRAWAL)
    five.trail().record(WITHDRAWAL)
    assert [one.number for one in five.verified()] == [4, 5]
    assert "older than the anchor" in five.verified()[0].text


def test_a_record_sealed_with_another_key_is_found(five: Place) -> None:
    (five.folder / "key").unlink()
    five.keys.make()
    assert [one.number for one in five.verified()] == [1, 2, 3, 4, 5]


def test_a_key_is_rotated_while_the_trail_is_written_and_the_old_one_still_proves(five: Place) -> None:
    trail = five.trail()
    trail.record(WITHDRAWAL)
    key_id = five.keys.rotate()
    trail.record(WITHDRAWAL)
    assert [one.key_id == key_id for one in five.records()[-2:]] == [False, True]
    assert five.verified() == []
    assert stat.S_IMODE((five.folder / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_process_that_dies_between_record_and_anchor_is_no_false_alarm(five: Place, is_committed: bool) -> None:
    """The last line of the anchor is then the intention, with or without the record in the database."""
    trail = five.trail()
    trail.record(WITHDRAWAL)
    lines = five.anchor.path.read_text().splitlines()
    assert [line[:3] for line in lines[-2:]] == ["? 6", "= 6"]
    five.anchor.path.write_text("\n".join(lines[:-1]) + "\n= 6 12")  # the second line was cut off
    if not is_committed:
        five.do(delete(audit_records).where(audit_records.c.number == 6))
    assert [one for one in five.verified() if one.is_fault] == []
    assert [one.number for one in five.verified()] == ([] if is_committed else [6]), "a cut is not hidden"
    five.trail().record(WITHDRAWAL)
    assert [one for one in five.verified() if one.is_fault] == []


def test_an_act_is_in_the_anchor_for_good_before_it_is_done_and_no_writer_waits_for_that_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without synchronisation a power cut takes the line, and whoever cuts off the record is not found."""
    synchronised: list[str] = []
    really = os.fdatasync

    def seen(descriptor: int) -> None:
        with place.database.write() as connection:  # SQLite waits here for 30 s, and gives up, while another writes
            require_addable(connection)
        synchronised.append(place.anchor.path.read_text().splitlines()[-1][:4])
        really(descriptor)

    monkeypatch.setattr(os, "fdatasync", seen)
    place.trail().record(WITHDRAWAL)
    assert synchronised == ["= 1 "]


def test_a_record_that_an_older_version_sealed_is_proved_by_this_one() -> None:
    record = AuditRecord(
        number=7, event_id="0123456789abcdef" * 2, at=datetime(2026, 11, 29, 10, tzinfo=UTC), act="withdrawal",
        actor="Zo\u00eb", address="10.0.0.7", outcome="0", study_instance_uid="1.2.3", patient_id="P-17",
        issuer_of_patient_id="", detail='{"roles": ["operator"]}', key_id="aa" * 8, previous="b" * 64, mac="",
    )  # fmt: skip
    assert seal_of(record, bytes(range(32))) == "a079fc0ed3789bea3a678d4fc7af625f6ab9d13275e061e401398875065d706f"


def test_many_writers_make_one_chain(any_place: Place) -> None:
    trails = [any_place.trail() for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        for _ in pool.map(lambda n: trails[n % 3].record(WITHDRAWAL), range(60)):
            pass
    assert [one.number for one in any_place.records()] == list(range(1, 61))
    assert any_place.verified() == []


def test_a_look_is_written_once_in_some_minutes_and_an_act_each_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = place.trail()
    look = AuditedEvent(act=AuditedAct.RESULT_READ, actor=ALICE, study_instance_uid=STUDY)
    for _ in range(3):
        trail.record(look)
    trail.record(WITHDRAWAL)
    trail.record(WITHDRAWAL)
    assert [one.act for one in place.records()] == ["result-read", "withdrawal", "withdrawal"]
    monkeypatch.setattr(audit_trail, "LOOK_AGAIN_S", 0.0)
    trail.record(look)
    assert len(place.records()) == 4


def test_an_index_from_before_gets_a_trail_and_tells_nothing_of_the_past(index: Database, tmp_path: Path) -> None:
    def carried(association: str, number: str) -> None:
        arrive(index, instance(number))
        with index.write() as connection:
            open_association(connection, association, "r1", [instance(number)])
            close_association(connection, association, "released", after(60))

    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    carried("before", "1")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0014")
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    carried("after", "2")
    place = Place(index, tmp_path)
    trail = place.trail()
    for _ in range(2):
        ReceivedStudies(index, trail).run()
    trail.flush()
    (one,) = place.records()
    assert (one.act, one.actor, one.study_instance_uid) == ("study-received", "CT1", STUDY)
    assert json.loads(one.detail)["association"] == "after"
    assert sum(json.loads(one.detail)["sop_classes"].values()) == 2


def test_the_same_number_of_two_issuers_is_two_looks(place: Place) -> None:
    trail = place.trail()
    for issuer in ("A", "B", "A"):
        trail.record(
            AuditedEvent(act=AuditedAct.HISTORY_READ, actor=ALICE, patient_id="4711", issuer_of_patient_id=issuer)
        )
    assert [one.issuer_of_patient_id for one in place.records()] == ["A", "B"]


def test_a_flood_of_sign_ins_that_fail_alike_is_one_record_and_each_that_succeeds_is_one(place: Place) -> None:
    trail, detail = place.trail(), {"by": "openid", "why": "not begun in this browser"}
    good = AuditedEvent(act=AuditedAct.SIGN_IN, actor=ALICE, address="10.0.0.7", detail=detail)
    for event in (replace(good, outcome=AuditOutcome.MINOR_FAILURE), good) * 3:
        trail.record(event)
    assert [one.outcome for one in place.records()] == ["4", "0", "0", "0"]


def test_a_record_put_before_the_first_is_found(five: Place) -> None:
    forged = replace(five.records()[0], number=0, event_id="forged")
    five.do(insert(audit_records).values(**asdict(forged)))
    assert [(one.number, one.is_fault) for one in five.verified()] == [(0, True)]


@pytest.mark.parametrize(("column", "value"), [("mac", "'é'"), ("detail", "x'ff00'"), ("at", "'rubbish'")])
def test_a_record_that_is_none_any_more_is_told_and_breaks_nothing(five: Place, column: str, value: str) -> None:
    five.do(f"UPDATE audit_records SET {column} = {value} WHERE number = 3")
    assert any(one.is_fault for one in five.verified())


@pytest.mark.parametrize("content", [None, b"", b"\xff rubbish\n"])
def test_a_trail_whose_anchor_is_gone_is_not_called_whole(five: Place, content: bytes | None) -> None:
    five.anchor.path.unlink()
    if content is not None:
        five.anchor.path.write_bytes(content)
    five.do(delete(audit_records).where(audit_records.c.number > 3))
    assert [(one.number, one.is_fault) for one in five.verified()] == [(3, True)]


def test_an_anchor_that_was_begun_anew_is_told_for_good(five: Place) -> None:
    five.anchor.path.unlink()
    five.trail().record(WITHDRAWAL)
    assert [(one.number, one.is_fault) for one in five.verified()] == [(5, False)]
    assert "begun anew" in five.verified()[0].text


def test_whoever_put_a_backup_back_stands_for_it_and_nothing_else_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = tmp_path / "node.toml", tmp_path / "data"
    config.write_text(f'[node]\ndata_dir = "{data}"\n', encoding="utf-8")
    node = Node(load_settings(config))
    place = Place(node.database, tmp_path)

    def audit(*arguments: str) -> tuple[int, str]:
        status = main(["audit", *arguments, "--config", str(config)])
        said = capsys.readouterr()
        return status, said.out + said.err

    def act(count: int) -> None:
        for _ in range(count):
            node.audit.record(WITHDRAWAL)

    accept = ("accept", "--reason", "Backup of 20 November.")
    act(5)
    assert audit(*accept)[0] == 0  # there is nothing to accept
    place.do(delete(audit_records).where(audit_records.c.number > 3))
    act(1)
    assert audit("verify")[0] == 1
    status, said = audit(*accept)
    assert (status, "from record 4 on" in said) == (0, True), said
    assert audit("verify")[0] == 0
    last = place.records()[-1]
    told = {"reason": "Backup of 20 November.", "from": 4, "anchor": "anchor.former-1"}
    assert (last.number, last.act, last.actor.startswith("cli:")) == (5, "audit-accepted", True)
    assert told.items() <= json.loads(last.detail).items()
    assert "= 5 " in (data / "audit" / "anchor.former-1").read_text()
    act(1)
    assert audit("verify")[0] == 0
    place.do(delete(audit_records).where(audit_records.c.number == 6))  # not by a backup: the end is known again
    assert audit("verify")[0] == 1
    place.do(update(audit_records).where(audit_records.c.number == 2).values(actor="nobody"))
    status, said = audit(*accept)
    assert (status, "Record 2 is not what was written" in said) == (1, True), said
    node.close()


GONE = {
    "the table is renamed": "ALTER TABLE audit_records RENAME TO gone",
    "the table is dropped": "DROP TABLE audit_records",
}


@pytest.mark.parametrize("what", [*GONE, "the disk of the anchor is gone", "the key cannot be read"])
def test_without_a_trail_acts_by_people_are_refused_and_those_of_care_wait(place: Place, what: str) -> None:
    trail = place.trail()
    trail.record(WITHDRAWAL)
    if what in GONE:
        place.do(GONE[what])
    elif "key" in what:
        place.keys.path.rename(place.folder / "key.away")
    else:
        place.anchor.path.rename(place.folder / "anchor.away")
        place.anchor.path.mkdir()
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="refused"):
            trail.record(WITHDRAWAL)
    trail.note(RECEIVED)
    trail.flush()
    assert "1 acts of care wait, 0 are lost" in trail.fault
    if "renamed" in what:
        place.do("ALTER TABLE gone RENAME TO audit_records")
        trail.flush()
        assert trail.fault == ""
        assert [one.act for one in place.records()] == ["withdrawal", "study-received"]
        assert [one for one in place.verified() if one.is_fault] == []


def test_what_cannot_be_kept_for_later_is_counted_and_told_in_the_trail(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_trail, "MOST_WAITING", 2)
    trail = place.trail()
    place.do("ALTER TABLE audit_records RENAME TO gone")
    for _ in range(5):
        trail.note(RECEIVED)
    place.do("ALTER TABLE gone RENAME TO audit_records")
    trail.flush()
    records = place.records()
    assert [one.act for one in records] == ["study-received", "study-received", "audit-gap"]
    assert records[-1].detail == '{"lost": 3}'


def test_what_a_killed_process_had_not_entered_is_entered_by_the_next_once(any_place: Place) -> None:
    killed, living = any_place.trail(), any_place.trail()
    killed.note(RECEIVED, "association 1")
    killed.note(RECEIVED, "association 2")
    (spool,) = (any_place.folder / "waiting").glob("*.jsonl")
    kept = spool.read_bytes()
    living.flush()
    assert any_place.records() == [], "its owner lives"
    os.close(killed._spool._descriptor)  # a kill lets go of the lock, and of nothing else
    living.flush()
    spool.write_bytes(kept + b'{"act": "study-re')  # killed again, before it was removed
    living.flush()
    assert [one.study_instance_uid for one in any_place.records()] == [STUDY, STUDY]
    living.close()
    assert list((any_place.folder / "waiting").glob("*")) == []


def test_whoever_waits_for_another_is_written_with_others_in_one_batch(place: Place) -> None:
    """The turn is held by a first one, whom ten wait for: their anchor has one line for all."""
    trail = place.trail()
    trail.record(WITHDRAWAL)
    with trail._turn:  # as while a batch is written
        waiting = [threading.Thread(target=trail.record, args=(WITHDRAWAL,)) for _ in range(10)]
        for one in waiting:
            one.start()
        while len(trail._urgent) < 10:
            pass
    for one in waiting:
        one.join()
    assert [line[:4].strip() for line in place.anchor.path.read_text().splitlines()] == ["? 1", "= 1", "? 11", "= 11"]
    with place.database.read() as connection:
        assert len(set(connection.execute(select(audit_records.c.event_id)).scalars())) == 11
