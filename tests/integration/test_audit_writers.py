"""Several processes write one audit trail, and are killed at its worst moments: nothing is lost, and nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import AuditUnavailable
from dicom_node.core.principal import NODE
from dicom_node.index.database import Database
from dicom_node.index.people.audit_records import AuditFilter, matching_records
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail
from dicom_node.people.audit.verify import verify

#: Notes forty studies, has somebody act at every eighth, and dies: with the last seven noted only, when the anchor has
#: been told of their batch and the database not yet, or when the database has it and the anchor does not know.
_WRITER = """
import os, signal, sys
from pathlib import Path
from tests.integration.test_audit_writers import NODE, AuditedAct, AuditedEvent, Anchor, Database, trail_of

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def told_and_die(anchor, *what):
    really(anchor, *what)
    die()

url, folder, moment = sys.argv[1:]
trail = trail_of(Database(url), Path(folder))
for number in range(40):
    trail.note(AuditedEvent(act=AuditedAct.STUDY_RECEIVED, actor=NODE, study_instance_uid=f"{moment}.{number}"))
    if number % 8 == 0:
        trail.record(AuditedEvent(act=AuditedAct.RETRY, actor=NODE, study_instance_uid=f"{moment}.{number}"))
really = Anchor.intend
if moment == "intended":
    Anchor.intend = told_and_die
elif moment == "committed":
    Anchor.settle = die
if moment != "noted":
    trail.flush()
die()
"""
_MOMENTS = ("noted", "intended", "committed")


def trail_of(database: Database, folder: Path) -> AuditTrail:
    return AuditTrail(database, AuditKeys(folder / "key"), Anchor(folder / "anchor"), AuditSpool(folder / "waiting"))


def told_in(database: Database) -> Counter[tuple[str, str]]:
    """Count what the trail tells of, by act and study."""
    with database.read() as connection:
        return Counter((one.act, one.study_instance_uid) for one in matching_records(connection, AuditFilter()))


def test_writers_that_are_killed_between_an_act_and_its_seal_lose_nothing_and_tell_nothing_twice(
    index: Database, tmp_path: Path
) -> None:
    keys, anchor = AuditKeys(tmp_path / "key"), Anchor(tmp_path / "anchor")
    keys.make()
    url = index.engine.url.render_as_string(hide_password=False)
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, url, str(tmp_path), moment], stderr=subprocess.PIPE)
        for moment in _MOMENTS
    ]
    for one in writers:
        assert one.wait(120) == -signal.SIGKILL, one.communicate()[1].decode()
        one.communicate()
    assert list((tmp_path / "waiting").glob("*.jsonl")), "who was killed has tidied nothing up"

    trail_of(index, tmp_path).flush()

    studies = {("study-received", f"{moment}.{number}"): 1 for moment in _MOMENTS for number in range(40)}
    acts = {("retry", f"{moment}.{number}"): 1 for moment in _MOMENTS for number in range(0, 40, 8)}
    assert told_in(index) == studies | acts
    assert [one for one in verify(index, keys, anchor)[1] if one.is_fault] == []


def test_what_the_database_took_while_the_disk_of_the_anchor_failed_is_told_once(
    index: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise AuditUnavailable("The disk is full.")

    AuditKeys(tmp_path / "key").make()
    trail = trail_of(index, tmp_path)
    trail.note(AuditedEvent(act=AuditedAct.STUDY_SENT, actor=NODE, study_instance_uid="1.2.3"))
    with monkeypatch.context() as broken:
        broken.setattr(Anchor, "settle", full)
        trail.flush()
        assert "1 acts of care wait" in trail.fault
    trail.flush()
    assert (trail.fault, told_in(index)) == ("", {("study-sent", "1.2.3"): 1})
    trail.close()
