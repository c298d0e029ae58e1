"""Settings that are read again: all that differs is taken over by every part, or nothing is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.__main__ import main
from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import Conflict, SettingsError
from dicom_node.core.principal import Principal
from dicom_node.doctor.configuration import check_running_settings
from dicom_node.operate.configuration.reload import Configuration, ConfigurationParts, PreparedChange
from dicom_node.operate.configuration.told import ReloadRequest, ask_all, states_of
from dicom_node.roles.settings import load_settings
from dicom_node.storage.owners import Owners
from tests.peers.node import to_toml

ALICE = Principal("alice")
FOLDER = {"name": "out", "kind": "folder", "path": "out"}


class KeptAudit:
    """Keeps what would be written into the trail."""

    fault = ""

    def __init__(self) -> None:
        self.events: list[AuditedEvent] = []

    def record(self, event: AuditedEvent) -> None:
        self.events.append(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:
        assert not key
        self.events.append(event)

    def reloads(self) -> list[AuditedEvent]:
        return [one for one in self.events if one.act is AuditedAct.SETTINGS_RELOADED]


@dataclass
class Process:
    """One process of a node that runs by the file of `folder`, with a part that takes what it is given."""

    folder: Path
    taken: list[Settings] = field(default_factory=list)
    hangups: int = 0

    def __post_init__(self) -> None:
        self.audit = KeptAudit()
        self.owners = Owners(self.folder / "data" / "owners")
        parts = ConfigurationParts(
            file=self.config, load=lambda file: load_settings(file, {}), key=b"k" * 32, owners=self.owners,
            audit=self.audit,
        )  # fmt: skip
        self.configuration = Configuration(load_settings(self.config, {}), parts)
        self.configuration.attend(lambda wanted: PreparedChange(lambda: self.taken.append(wanted)))
        with self.configuration.starting(["deliver"], lambda: self.hangups):
            pass

    @property
    def config(self) -> Path:
        return self.folder / "node.toml"


def write(folder: Path, **sections: Any) -> None:
    settings = {"node": {"data_dir": str(folder / "data"), **sections.pop("node", {})}, **sections}
    (folder / "node.toml").write_text(to_toml(settings), encoding="utf-8")


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], Process]:
    (tmp_path / "data").mkdir()
    write(tmp_path, peer=[{"ae_title": "CT1"}])
    return lambda: Process(tmp_path)


def test_what_differs_is_taken_over_and_written_down_with_who_asked(start: Callable[[], Process]) -> None:
    process = start()
    before = process.configuration.state.revision
    write(process.folder, peer=[{"ae_title": "CT1"}, {"ae_title": "CT2"}], destination=[FOLDER])
    answer = process.configuration.reload(ALICE, "10.0.0.7")

    assert answer.changes == ("peer CT2 any is new", "destination out is new")
    assert [one.ae_title for one in process.taken[0].peer] == ["CT1", "CT2"]
    (told,) = process.audit.reloads()
    assert (told.actor, told.address, told.outcome) == (ALICE, "10.0.0.7", AuditOutcome.SUCCESS)
    assert told.detail["changed"] == list(answer.changes)
    (state,) = states_of(process.owners)
    assert state.revision == told.detail["revision"] != before
    assert (state.roles, state.fault, state.last_reload) == (("deliver",), "", answer)


def test_a_file_that_says_what_runs_changes_nothing(start: Callable[[], Process]) -> None:
    process = start()
    since = process.configuration.state.since

    assert process.configuration.reload(ALICE).changes == ()
    assert process.taken == []
    assert process.configuration.state.since == since


def test_one_setting_that_takes_a_restart_holds_all_others_back_and_is_named(start: Callable[[], Process]) -> None:
    process = start()
    write(process.folder, node={"min_free_mb": 7}, destination=[FOLDER])
    with pytest.raises(SettingsError, match=r"Nothing was changed.*at a restart only: node\.min_free_mb\. Restart"):
        process.configuration.reload(ALICE)

    assert process.taken == []
    (told,) = process.audit.reloads()
    assert told.outcome is AuditOutcome.MINOR_FAILURE
    process.configuration.look()
    (state,) = states_of(process.owners)
    assert (state.needs_restart, len(state.differs)) == (("node.min_free_mb",), 3)
    assert state.fault.endswith("settings that take effect at a restart only: node.min_free_mb.")


def test_a_part_that_cannot_run_with_the_new_settings_keeps_the_others_from_it(start: Callable[[], Process]) -> None:
    process = start()

    def refuse(_wanted: Settings) -> PreparedChange:
        raise SettingsError("There is no model of this name.")

    process.configuration.attend(refuse)
    write(process.folder, peer=[{"ae_title": "CT2"}])
    with pytest.raises(SettingsError, match="no model"):
        process.configuration.reload(ALICE)

    assert process.taken == []
    (state,) = states_of(process.owners)
    assert state.last_reload is not None
    assert state.last_reload.refused == "There is no model of this name."


def test_a_file_with_a_mistake_is_told_by_line_until_it_is_right_again(start: Callable[[], Process]) -> None:
    process = start()
    process.config.write_text('[[pear]]\nae_title = "CT2"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"node\.toml:1: pear is no key of the settings; did you mean peer\?"):
        process.configuration.reload(ALICE)
    process.configuration.look()
    assert "did you mean peer?" in process.configuration.state.problem
    assert not process.configuration.state.is_of_the_file

    write(process.folder, peer=[{"ae_title": "CT1"}])
    process.configuration.look()
    assert process.configuration.state.is_of_the_file
    assert process.taken == []


def test_a_file_that_is_half_written_is_read_when_it_is_whole(start: Callable[[], Process]) -> None:
    """Its first half is right by itself, and has no peers: nobody could send."""
    process = start()
    write(process.folder, peer=[{"ae_title": "CT1"}], destination=[FOLDER])
    whole = process.config.read_text(encoding="utf-8")
    cut = whole.index("[[peer]]")
    process.config.write_text(whole[:cut], encoding="utf-8")

    def write_on() -> None:
        time.sleep(0.1)
        with process.config.open("a", encoding="utf-8") as file:
            file.write(whole[cut:])

    writer = threading.Thread(target=write_on)
    writer.start()
    answer = process.configuration.reload(ALICE)
    writer.join()

    assert answer.changes == ("destination out is new",)


def test_a_file_that_differs_is_told_without_anybody_asking(start: Callable[[], Process]) -> None:
    process = start()
    process.configuration.look()
    assert process.configuration.state.is_of_the_file
    write(process.folder, peer=[{"ae_title": "CT2"}])
    process.configuration.look()

    assert process.configuration.state.fault.endswith(
        "has other settings than run: peer CT1 any is gone; peer CT2 any is new. Run: dicom-node reload"
    )


def test_doctor_tells_of_each_process_that_runs_whether_it_has_the_settings_of_the_file(
    start: Callable[[], Process],
) -> None:
    one, two = start(), start()
    write(one.folder, peer=[{"ae_title": "CT2"}])
    one.configuration.reload(ALICE)
    two.configuration.look()
    checks = check_running_settings(load_settings(one.config, {}))

    assert sorted((check.ok, check.advice) for check in checks) == [(False, "dicom-node reload"), (True, "")]
    assert any(f"revision {one.configuration.state.revision}, since " in check.text for check in checks if check.ok)


def test_a_command_to_a_node_that_does_not_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)

    assert main(["reload", "--config", str(tmp_path / "node.toml")]) != 0
    assert f"No node runs on {tmp_path / 'data'}." in capsys.readouterr().err


def test_every_process_does_what_all_were_asked_once(start: Callable[[], Process]) -> None:
    one, two = start(), start()
    write(one.folder, peer=[{"ae_title": "CT2"}])
    request = ReloadRequest(by="cli:alice")
    ask_all(one.folder / "data", request)
    for process in (one, two, one, two):
        process.configuration.look()

    for process in (one, two):
        (told,) = process.audit.reloads()
        assert (told.actor.name, told.detail["reload"]) == ("cli:alice", request.id)
        assert len(process.taken) == 1
    assert {state.last_reload and state.last_reload.request for state in states_of(one.owners)} == {request.id}


def test_whoever_was_asked_by_the_api_has_the_others_follow(start: Callable[[], Process]) -> None:
    asked, other = start(), start()
    write(asked.folder, peer=[{"ae_title": "CT2"}])
    asked.configuration.reload(ALICE)
    asked.configuration.ask_others(ALICE)
    for process in (asked, other):
        process.configuration.look()

    assert (len(asked.audit.reloads()), len(other.audit.reloads())) == (1, 1)
    assert len(other.taken) == 1


def test_what_was_asked_before_a_start_is_not_done_by_it_again(start: Callable[[], Process], tmp_path: Path) -> None:
    """Also where the last one died in the middle of it: the start has read the file."""
    ask_all(tmp_path / "data", ReloadRequest(by="cli:alice", at=datetime.now(UTC) - timedelta(days=1)))
    process = start()
    process.configuration.look()

    assert process.audit.reloads() == []


def test_what_is_written_and_asked_while_a_process_starts_is_done_then(tmp_path: Path) -> None:
    """It has read the file of before."""
    (tmp_path / "data").mkdir()
    write(tmp_path, peer=[{"ae_title": "CT1"}])
    read_before = load_settings(tmp_path / "node.toml", {})
    write(tmp_path, peer=[{"ae_title": "CT2"}])
    ask_all(tmp_path / "data", ReloadRequest(by="cli:alice"))
    parts = ConfigurationParts(
        file=tmp_path / "node.toml", load=lambda file: load_settings(file, {}), key=b"k" * 32,
        owners=Owners(tmp_path / "data" / "owners"), audit=KeptAudit(),
    )  # fmt: skip
    configuration = Configuration(read_before, parts)
    with configuration.starting(["deliver"], lambda: 0):
        pass
    configuration.look()

    assert configuration.state.last_reload is not None
    assert configuration.state.last_reload.changes == ("peer CT1 any is gone", "peer CT2 any is new")


def test_a_hangup_has_this_process_alone_read_its_file(start: Callable[[], Process]) -> None:
    one, two = start(), start()
    write(one.folder, peer=[{"ae_title": "CT2"}])
    one.hangups = 3  # before anybody looked
    for process in (one, two, one):
        process.configuration.look()

    assert (len(one.audit.reloads()), len(two.audit.reloads())) == (1, 0)
    assert not two.configuration.state.is_of_the_file


def test_of_two_who_ask_at_once_the_second_finds_it_done(start: Callable[[], Process]) -> None:
    process = start()
    write(process.folder, peer=[{"ae_title": "CT2"}])
    begun, go_on = threading.Event(), threading.Event()

    def slow(_wanted: Settings) -> PreparedChange:
        begun.set()
        assert go_on.wait(30)
        return PreparedChange(lambda: None)

    process.configuration.attend(slow)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(len(process.configuration.reload(ALICE).changes)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [0, 2]
    assert len(process.taken) == 1


def test_a_process_that_ends_changes_nothing_any_more(start: Callable[[], Process]) -> None:
    process = start()
    write(process.folder, peer=[{"ae_title": "CT2"}])
    process.configuration.close()
    with pytest.raises(Conflict, match="is ending"):
        process.configuration.reload(ALICE)

    assert process.taken == []


def test_another_name_for_a_destination_is_told_to_be_another_destination(start: Callable[[], Process]) -> None:
    process = start()
    write(process.folder, peer=[{"ae_title": "CT1"}], destination=[FOLDER])
    process.configuration.reload(ALICE)
    write(process.folder, peer=[{"ae_title": "CT1"}], destination=[{**FOLDER, "name": "archive"}])
    answer = process.configuration.reload(ALICE)

    assert answer.changes == ("destination out is gone", "destination archive is new")
    assert "what is owed to out stays owed to that name" in answer.warnings[0]
