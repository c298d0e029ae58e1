"""Every rule fires and clears on a real database, by a clock of the test's own; and no restart forgets or repeats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, func, select, update

from dicom_node.config.running import TimeSettings
from dicom_node.core.alarms import rules
from dicom_node.core.alarms.rules import RULES
from dicom_node.core.alarms.standing import Alarm
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import DeliveryState, JobState, ReviewState, StudyState
from dicom_node.core.errors import AuditUnavailable, Conflict, NotFound
from dicom_node.deliver.alarms.asking import DestinationsAsked
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import caller_of
from dicom_node.index.alarms.messages import claim_message, note_failed, note_sent
from dicom_node.index.alarms.signs import note_sign
from dicom_node.index.alarms.standing import acknowledge, latest_alarms, raised_alarms
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.retention.disk import keep_sample
from dicom_node.index.tables import alarm_messages, associations, deliveries, jobs, results, studies
from dicom_node.operate.alarms.judges import AlarmSources
from dicom_node.operate.alarms.round import AlarmRound, judges_of, receivers_of
from dicom_node.operate.backup.outcome import BackupOutcome, note_made
from dicom_node.operate.backup.outcome import note_failed as note_backup_failed
from dicom_node.operate.clock import ClockWatch
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import load_settings
from tests.peers.webhook_receiver import SECRET
from tests.support.results.analysis_examples import CT_MODEL as MODEL
from tests.support.results.rows import NOW, SOMEBODY, Rows
from tests.support.results.seeded import seed

_MINUTES, _HOURS, _DAYS = (
    (lambda n: timedelta(minutes=n)),
    (lambda n: timedelta(hours=n)),
    (lambda n: timedelta(days=n)),
)
_RECEIVER = f'[[alarm]]\nname = "ward"\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\nsecret = "{SECRET}"\n'
_PACS = '[[destination]]\nname = "pacs"\nkind = "dicom"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 9\n'


class Place:
    """A node's index and settings with a clock that the test sets; what each round saw is in the rows."""

    def __init__(self, folder: Path, index: Database, text: str = "") -> None:
        self.folder, self.index, self.now = folder, index, NOW
        self.free_bytes = 1 << 40
        self.clock_s = 0.0
        self.settings_file = folder / "alarms.toml"
        self.configure(text)

    def configure(self, text: str) -> None:
        head = f'[node]\ndata_dir = "{self.folder}"\nmin_free_mb = 100\n'
        self.settings_file.write_text(f"{head}{text}\n{_RECEIVER}", encoding="utf-8")
        self.settings = load_settings(self.settings_file)
        self.audit = open_audit(self.settings, self.index)
        self.clock = ClockWatch(TimeSettings(servers=("127.0.0.1:9",)), lambda: self.clock_s)
        self.restart()

    def restart(self) -> None:
        """Forget what a process has in its memory."""
        sources = AlarmSources(
            settings=self.settings, audit=self.audit, clock=self.clock.state, free_bytes=lambda _: self.free_bytes
        )
        self.round = AlarmRound(self.index, sources)

    def after(self, passed: timedelta, rounds: int = 1) -> Mapping[str, Alarm]:
        """Judge after some time; return what is raised then, by rule."""
        for _ in range(rounds):
            self.now += passed
            self.round.run(self.now)
        with self.index.read() as connection:
            return {one.rule: one for one in raised_alarms(connection)}

    def rows(self, write: Callable[[Rows], object]) -> None:
        with self.index.write() as connection:
            write(Rows(connection, self.folder, self.now))

    def steps(self) -> list[tuple[str, str]]:
        """What the receiver is owed or was told: rule and step, in their order."""
        with self.index.read() as connection:
            bodies = connection.execute(select(alarm_messages.c.body).order_by(alarm_messages.c.id)).scalars()
            return [(body["rule"], body["step"]) for body in bodies]

    def sent(self) -> list[list[str]]:
        """Take what is due now; return what each message told."""
        told = []
        while True:
            with self.index.write() as connection:
                one = claim_message(connection, "ward", self.now)
                if one is None:
                    return told
                note_sent(connection, one, self.now)
            told.append([f"{body['rule']} {body['step']}" for body in one.alarms])


@pytest.fixture
def place(index: Database, tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path, index, _PACS)
    yield one
    one.audit.close()


# --- each rule, wrong and well again --------------------------------------------------------------------------------


def _owed(state: DeliveryState) -> Callable[[Place], None]:
    def write(rows: Rows) -> None:
        rows.study("1.2", StudyState.REPORTED, 9000)
        rows.result("1.2", "r", MODEL, JobState.DONE)
        rows.artifact("r", "1.2.3", "SR", "report")
        rows.delivery("r", "1.2.3", "pacs", state, created_at=rows.ago(30))

    return lambda place: place.rows(write)


def _delivered(place: Place) -> None:
    with place.index.write() as connection:
        connection.execute(delete(deliveries))


def _jobs(*states: JobState) -> Callable[[Place], None]:
    def write(rows: Rows) -> None:
        rows.study("1.2", StudyState.ANALYSING, 9000)
        for number, state in enumerate(states):
            rows.job("1.2", f"route-{number}", "chest", state, 30)

    return lambda place: place.rows(write)


def _jobs_gone(place: Place) -> None:
    with place.index.write() as connection:
        connection.execute(delete(jobs))


def _filling(place: Place) -> None:
    place.free_bytes = 50 << 30
    with place.index.write() as connection:
        for day in range(10):
            keep_sample(connection, (day * 10) << 30, 500 << 30, place.now - _DAYS(10 - day))


def _certificate(place: Place, ends: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - _DAYS(1), ends).sign(key, hashes.SHA256())
    (place.folder / "own.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _showing(place: Place) -> None:
    _certificate(place, NOW + _DAYS(10))
    file = place.folder / "own.pem"
    place.configure(f'[dicom_tls]\ncertificate = "{file}"\nclient_certificate = "none"\nport = 0\n')


def _act(place: Place) -> None:
    place.audit.record(AuditedEvent(act=AuditedAct.HOLD, actor=SOMEBODY))


def _no_trail(place: Place) -> None:
    anchor = place.folder / "audit" / "anchor"
    _act(place)
    anchor.rename(place.folder / "anchor.away")
    anchor.mkdir()
    with pytest.raises(AuditUnavailable):
        _act(place)


def _trail_again(place: Place) -> None:
    anchor = place.folder / "audit" / "anchor"
    anchor.rmdir()
    (place.folder / "anchor.away").rename(anchor)
    _act(place)


def _ask(place: Place) -> None:
    caller = caller_of(place.settings)
    DestinationsAsked(destinations_of(place.settings), caller, place.index).ask()


def _heard_again(place: Place) -> None:
    """The destination is another now, which needs no asking."""
    place.configure(f'[[destination]]\nname = "pacs"\nkind = "folder"\npath = "{place.folder / "out"}"\n')
    _ask(place)


def _critical(place: Place) -> None:
    place.configure('[[critical_finding]]\nfinding = "pneumothorax"\nat_least = 0.8\n')
    code = {"scheme": "SCT", "value": "36118008", "meaning": "x"}
    finding = {"label": "x", "code": code, "presence": "PRESENT", "probability": 0.93}

    def write(rows: Rows) -> None:
        rows.study("1.2", StudyState.REPORTED, 60)
        rows.result("1.2", "r", MODEL, JobState.DONE, summary={"findings": [finding]}, created_at=rows.now)

    place.rows(write)


def _reviewed(place: Place) -> None:
    with place.index.write() as connection:
        connection.execute(update(results).values(review_state=ReviewState.ACCEPTED))


def _self_test(fault: str) -> Callable[[Place], None]:
    def end(place: Place) -> None:
        place.configure('[selftest]\nat = "03:00"\n')
        with place.index.write() as connection:
            note_sign(connection, rules.SELF_TEST_FAILED.code, "", fault, place.now)

    return end


def _habit(place: Place) -> None:
    """Nine weeks of a scanner that sends every half hour of every day, until now."""

    def write(rows: Rows) -> None:
        rows.study("1.2", StudyState.REPORTED, 60)
        for number in range(9 * 7 * 24):
            rows.association("1.2", 3600 * number + 60, 10)

    place.rows(write)


def _sends_again(place: Place) -> None:
    with place.index.write() as connection:
        connection.execute(update(associations).values(closed_at=place.now))


def _untold(place: Place) -> None:
    place.free_bytes = 0
    place.after(_MINUTES(1))
    with place.index.write() as connection:
        one = claim_message(connection, "ward", place.now)
        assert one is not None
        note_failed(connection, one, "The server is away.", place.now)


#: What makes each rule see something, how long that must last, what makes it well again, and how long that must last.
FIRES: Mapping[str, tuple[Callable[[Place], object], timedelta, Callable[[Place], object], timedelta]] = {
    "scanner_silent": (_habit, _HOURS(9), _sends_again,
                       _MINUTES(6)),
    "results_waiting": (_owed(DeliveryState.PENDING), _MINUTES(61), _delivered, _MINUTES(6)),
    "results_parked": (_owed(DeliveryState.PARKED), _MINUTES(16), _delivered, _MINUTES(6)),
    "analyses_waiting": (_jobs(JobState.QUEUED), _MINUTES(61), _jobs_gone, _MINUTES(6)),
    "model_errors": (_jobs(*[JobState.FAILED] * 3, *[JobState.DONE] * 9), _MINUTES(0), _jobs_gone, _MINUTES(6)),
    "disk_filling": (_filling, _MINUTES(0), lambda place: setattr(place, "free_bytes", 1 << 40), _MINUTES(61)),
    "disk_full": (lambda place: setattr(place, "free_bytes", 99 << 20), _MINUTES(0),
                  lambda place: setattr(place, "free_bytes", 1 << 40), _MINUTES(6)),
    "certificate_ends": (_showing, _MINUTES(0), lambda place: _certificate(place, NOW + _DAYS(90)), _MINUTES(6)),
    "clock_wrong": (lambda place: setattr(place, "clock_s", 9000.0), _MINUTES(11),
                    lambda place: setattr(place, "clock_s", 0.0), _MINUTES(6)),
    "audit_unwritable": (_no_trail, _MINUTES(2), _trail_again, _MINUTES(2)),
    "self_test_failed": (_self_test("Stage route: no route wanted it."), _MINUTES(0), _self_test(""), _MINUTES(1)),
    "backup_failed": (lambda place: note_backup_failed(place.folder, "The disk is full."), _MINUTES(0),
                      lambda place: note_made(place.folder, BackupOutcome(made_at=place.now)), _MINUTES(1)),
    "peer_unreachable": (_ask, _MINUTES(11), _heard_again, _MINUTES(2)),
    "critical_finding": (_critical, _MINUTES(0), _reviewed, _MINUTES(1)),
    "alarms_untold": (_untold, _MINUTES(31), lambda place: place.sent(), _MINUTES(1)),
}  # fmt: skip


def test_every_rule_of_the_table_is_judged_and_tried_here(place: Place) -> None:
    assert set(judges_of(place.settings)) == set(RULES)
    assert set(FIRES) == {one.code for one in RULES}


@pytest.mark.parametrize("index_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("rule", FIRES)
def test_a_rule_fires_and_clears(place: Place, rule: str) -> None:
    wrong, lasts, well, gone = FIRES[rule]
    assert place.after(_MINUTES(1)) == {}
    if rule == "peer_unreachable":
        place.now = datetime.now(UTC)
    wrong(place)
    assert rule not in place.after(_MINUTES(0)) or not lasts
    hours = max(1, lasts // _HOURS(1))  # in hours in which the node is not there, nobody is silent
    raised = place.after(lasts / hours, rounds=hours)
    assert rule in raised, raised
    assert raised[rule].text
    assert place.steps().count((rule, "raised")) == 1
    well(place)
    place.after(_MINUTES(1))
    assert rule not in place.after(gone)
    assert place.steps().count((rule, "cleared")) == 1
    assert rule not in place.after(_MINUTES(1))
    assert place.steps().count((rule, "raised")) == 1


# --- what stands, over restarts and by people -----------------------------------------------------------------------


def test_a_restart_neither_forgets_nor_repeats_an_alarm_and_it_is_told_again_after_a_day(place: Place) -> None:
    place.free_bytes = 0
    place.after(_MINUTES(1))
    for _ in range(3):
        place.restart()
        assert set(place.after(_MINUTES(1))) == {"disk_full"}
    assert place.steps() == [("disk_full", "raised")]
    assert place.sent() == [["disk_full raised"]]
    place.after(_HOURS(25))
    assert place.sent() == [["disk_full again"]]
    place.free_bytes = 1 << 40
    place.after(_MINUTES(1))
    place.restart()
    assert place.after(_MINUTES(6)) == {}
    assert place.sent() == [["disk_full cleared"]]


def test_what_flickers_is_neither_raised_nor_cleared_again_and_again(place: Place) -> None:
    """Free space goes to and fro around its limit, and the clock is wrong for a moment now and then."""
    place.clock_s = 0.0
    for number in range(40):
        place.free_bytes = (95 if number % 2 else 110) << 20
        place.clock_s = 9000.0 if number % 2 else 0.0
        place.after(_MINUTES(1))
    assert place.steps() == [("disk_full", "raised")]


def test_two_processes_that_judge_at_once_raise_one_alarm(place: Place) -> None:
    place.free_bytes = 0
    other = Place(place.folder, place.index, _PACS)
    other.free_bytes = 0
    other.after(_MINUTES(1))
    place.after(_MINUTES(1))
    assert place.steps() == [("disk_full", "raised")]
    other.audit.close()


def test_who_acknowledges_an_alarm_is_named_and_it_is_told_no_more_while_it_lasts(place: Place) -> None:
    place.free_bytes = 0
    number = place.after(_MINUTES(1))["disk_full"].number
    with place.index.write() as connection:
        one = acknowledge(
            connection, number, "New disk on Monday.", (SOMEBODY, place.now), receivers_of(place.settings)
        )
    assert (one.standing, one.acknowledged_by, one.note) == ("ACKNOWLEDGED", "somebody", "New disk on Monday.")
    with place.index.write() as connection, pytest.raises(Conflict, match="acknowledged by somebody"):
        acknowledge(connection, number, "", (SOMEBODY, place.now), receivers_of(place.settings))
    with place.index.write() as connection, pytest.raises(NotFound):
        acknowledge(connection, number + 1, "", (SOMEBODY, place.now), receivers_of(place.settings))
    place.after(_DAYS(2))
    place.free_bytes = 1 << 40
    place.after(_MINUTES(1))
    place.after(_MINUTES(6))
    assert place.steps() == [("disk_full", "raised"), ("disk_full", "cleared")]
    with place.index.write() as connection, pytest.raises(Conflict, match="is over"):
        acknowledge(connection, number, "", (SOMEBODY, place.now), receivers_of(place.settings))


def test_a_critical_finding_is_over_when_a_person_knows_and_tells_nothing_of_whom(place: Place) -> None:
    _critical(place)
    found = place.after(_MINUTES(1))["critical_finding"]
    assert found.text == "ct-lung-density, route r: Pneumothorax, score 0.93."
    assert found.detail["study_instance_uid"] == "1.2"
    with place.index.write() as connection:
        told = connection.execute(select(alarm_messages.c.body)).scalar_one()
        assert "1.2" not in json.dumps(told)
        acknowledge(connection, found.number, "", (SOMEBODY, place.now), receivers_of(place.settings))
    place.restart()
    assert place.after(_MINUTES(1), rounds=3) == {}
    assert place.steps() == [("critical_finding", "raised"), ("critical_finding", "cleared")]


@pytest.mark.parametrize(
    "changed",
    [{"probability": 0.7}, {"code": {"scheme": "SCT", "value": "1"}}, {"probability": None}],
)
def test_another_finding_is_none(place: Place, changed: dict[str, Any]) -> None:
    _critical(place)
    with place.index.write() as connection:
        (summary,) = connection.execute(select(results.c.summary)).scalars()
        connection.execute(update(results).values(summary={"findings": [summary["findings"][0] | changed]}))
    assert place.after(_MINUTES(1)) == {}


# --- quiet hours ----------------------------------------------------------------------------------------------------


def test_what_is_harmless_is_held_back_in_quiet_hours_and_told_in_one_message(index: Database, tmp_path: Path) -> None:
    place = Place(tmp_path, index)
    quiet = place.settings_file.read_text().replace('name = "ward"', 'name = "ward"\nquiet_hours = "22:00-06:30"')
    place.settings_file.write_text(quiet.replace("[node]", '[node]\ntime_zone = "Europe/Berlin"'))
    place.settings = load_settings(place.settings_file)
    place.restart()
    place.now = datetime(2026, 3, 14, 22, tzinfo=UTC)  # 23:00 in Berlin
    note_backup_failed(tmp_path, "The disk is full.")
    place.after(_MINUTES(1))
    place.free_bytes = 0
    place.after(_MINUTES(1))
    assert place.sent() == [["disk_full raised"]]
    note_made(tmp_path, BackupOutcome(made_at=place.now))
    place.after(_MINUTES(1))
    assert place.sent() == []
    place.now = datetime(2026, 3, 15, 5, 29, tzinfo=UTC)
    assert place.sent() == []
    place.now += _MINUTES(1)
    assert place.sent() == [["backup_failed raised", "backup_failed cleared"]]
    place.audit.close()


def test_a_message_that_was_joined_stays_the_same_when_it_is_tried_again(place: Place) -> None:
    place.free_bytes = 0
    place.after(_MINUTES(1))
    with place.index.write() as connection:
        connection.execute(update(alarm_messages).values(is_held=True))
        first = claim_message(connection, "ward", place.now)
        assert first is not None
        assert claim_message(connection, "ward", place.now) is None  # somebody has it
        note_failed(connection, first, "away", place.now)
        assert claim_message(connection, "ward", place.now) is None
        again = claim_message(connection, "ward", place.now + _MINUTES(1))
        assert again is not None
        assert (again.batch, again.attempts) == (first.batch, 1)


# --- an index from before -------------------------------------------------------------------------------------------


def test_an_index_from_before_gets_its_tables_and_keeps_what_it_had(index: Database, tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        seed(connection, tmp_path)
        before = connection.execute(select(func.count()).select_from(studies)).scalar_one()
        config.attributes["connection"] = connection
        command.downgrade(config, "0023")
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    with index.read() as connection:
        assert connection.execute(select(func.count()).select_from(studies)).scalar_one() == before
        assert latest_alarms(connection, 9) == []
