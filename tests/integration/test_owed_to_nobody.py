"""What waits for a destination that was taken out of the settings: it is told, with what to do, and can be given up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.__main__ import main
from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.doctor.records import check_index
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.outbox import notifications
from dicom_node.index.outbox.deliveries import Claimant
from dicom_node.index.tables import events
from dicom_node.index.tables import notifications as rows_of
from dicom_node.roles.settings import SiteSettings
from tests.integration.step_by_step_node import site
from tests.peers.node import to_toml
from tests.peers.webhook_receiver import SECRET
from tests.support.results.arrivals import opened_database
from tests.support.results.rows import NOW, SOMEBODY, owe_events
from tests.support.studies.data_factories import small_chest_ct

HOOK = {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/events", "secret": SECRET}
WHY = "The program that listened is gone."


def settings(folder: Path, *destinations: dict[str, str]) -> Path:
    path = folder / "node.toml"
    path.write_text(to_toml({"node": {"data_dir": str(folder)}, "destination": list(destinations)}), encoding="utf-8")
    return path


def states(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(rows_of.c.state).order_by(rows_of.c.id)).scalars())


@pytest.fixture
def owing(tmp_path: Path) -> Path:
    """The configuration of a node that owed a webhook two events on a study, and has that webhook no more."""
    with site(tmp_path, [HOOK]) as one:
        images = small_chest_ct()[0]
        for part in (images[:-1], images[-1:]):
            one.receive(part)
            one.analyse()
        assert states(one.database) == ["PENDING"] * 3
    return settings(tmp_path)


def run(capsys: pytest.CaptureFixture[str], config: Path, *arguments: str) -> tuple[int, str]:
    status = main([*arguments, "--config", str(config)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_events_for_a_webhook_that_was_taken_out_are_told_with_what_to_do(
    owing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = run(capsys, owing, "status")
    assert status == 0
    assert "3 events for hook, which is not in the settings." in told
    assert "dicom-node discard --destination hook --reason TEXT" in told

    read = SiteSettings.model_validate({"node": {"data_dir": owing.parent}})
    (check,) = (one for one in check_index(read) if one.name == "destination hook")
    assert not check.ok
    assert "3 events" in check.text
    assert "Name a destination so again" in check.advice
    known = SiteSettings.model_validate({"node": {"data_dir": owing.parent}, "destination": [HOOK]})
    assert not [one for one in check_index(known) if one.name == "destination hook"]


def test_a_single_event_is_given_up_by_its_id_and_told_in_the_timeline(
    owing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(small_chest_ct()[0][0].StudyInstanceUID)
    shown = json.loads(run(capsys, owing, "status", study, "--json")[1])["study"]["open_events"]
    types = ["result.made", "result.superseded", "result.made"]
    assert [(one["type"], one["destination"], one["state"]) for one in shown] == [(t, "hook", "PENDING") for t in types]
    first = shown[0]["id"]
    assert f"Event {first} for hook: result.made, PENDING." in run(capsys, owing, "status", study)[1]

    for _ in range(2):
        assert run(capsys, owing, "discard", first, "--reason", WHY) == (0, "Discarded: 1 event.\n")
    with opened_database(f"sqlite:///{owing.parent / 'node.sqlite'}") as database:
        assert states(database) == ["DISCARDED", "PENDING", "PENDING"]
        with database.read() as connection:
            told = connection.execute(select(events.c.text).where(events.c.kind == "operator")).scalars().all()
    assert told == [f"The operator discarded event result.made for hook: {WHY}"]


def test_all_that_waits_for_a_former_destination_is_given_up_at_once_and_for_a_present_one_it_is_not(
    owing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, owing, "discard", "--destination", "hook", "--reason", WHY)[1] == "Discarded: 3 events.\n"
    assert run(capsys, owing, "discard", "--destination", "hook", "--reason", WHY)[1] == "Nothing waits there.\n"
    status, told = run(capsys, settings(owing.parent, HOOK), "discard", "--destination", "hook", "--reason", WHY)
    assert status != 0
    assert "hook is in the settings" in told


def test_what_cannot_be_given_up_is_told(owing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        (("evt_unknown",), "There is no event evt_unknown"),
        (("soon",), "'soon' is neither the number of a delivery nor the id of an event"),
        ((), "Name either a delivery or --destination NAME"),
        (("1", "--destination", "hook"), "Name either a delivery or --destination NAME"),
    ):
        status, told = run(capsys, owing, "discard", *arguments, "--reason", WHY)
        assert status != 0
        assert says in told


def test_an_event_that_was_told_or_is_being_told_is_not_given_up(index: Database) -> None:
    with index.write() as connection:
        first, second = owe_events(connection, "hook", [2, 2])
        event = notifications.claim_batch(connection, "hook", Claimant("host:1", 600.0, 3600.0), NOW)
        assert event is not None
        with pytest.raises(IllegalTransition, match="being told at this moment"):
            actions.discard_event(connection, first, WHY, SOMEBODY, NOW)
        notifications.mark_sent(connection, event, "taken", NOW)
        with pytest.raises(IllegalTransition, match="was told to hook"):
            actions.discard_event(connection, first, WHY, SOMEBODY, NOW)
        with pytest.raises(IllegalTransition, match="reason"):
            actions.discard_event(connection, second, " ", SOMEBODY, NOW)
        with pytest.raises(NotFound):
            actions.discard_event(connection, "evt_3", WHY, SOMEBODY, NOW)
        actions.discard_event(connection, second, WHY, SOMEBODY, NOW)
        row = connection.execute(select(rows_of).where(rows_of.c.event_id == second)).one()
    assert (row.state, row.note) == ("DISCARDED", f"Discarded by {SOMEBODY.name}: {WHY}")
