"""How each rule of the table is judged: a function that says what is wrong now, or that this cannot be known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from sqlalchemy import Connection

from dicom_node.config.settings import Settings
from dicom_node.core.alarms import rules
from dicom_node.core.alarms.rules import AlarmRule
from dicom_node.core.alarms.standing import Alarm, Fault, is_over, is_under
from dicom_node.core.audit import Audit
from dicom_node.core.entities import DeliveryState
from dicom_node.index.alarms.looks import due_jobs, failures_since, owed_since, suspended_by_people
from dicom_node.index.alarms.messages import oldest_unsent
from dicom_node.index.alarms.signs import signs_of
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.retention.disk import disk_forecast
from dicom_node.operate.backup.outcome import last_backup
from dicom_node.operate.clock import ClockState
from dicom_node.operate.metrics.looks import certificate_files

_FEWEST_FAILURES = 3
_ERRORS_WITHIN = timedelta(hours=24)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class AlarmSources:
    """What is looked at besides the rows: settings, audit trail, clock, and how much of a disk is free."""

    settings: Settings
    audit: Audit
    clock: Callable[[], ClockState | None]
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free


@dataclass(frozen=True, kw_only=True)
class AlarmLook:
    """One look for one rule: at the rows, at `now`, with the rule's `limit`; `standing` is what it has found before, by
    subject."""

    connection: Connection
    now: datetime
    limit: float
    standing: Mapping[str, Alarm]
    sources: AlarmSources

    def is_open(self, subject: str = "") -> bool:
        """Tell whether something was seen of it before."""
        return subject in self.standing

    @property
    def minutes(self) -> timedelta:
        """The limit of a rule that has it in minutes."""
        return timedelta(minutes=self.limit)

    @property
    def destinations(self) -> frozenset[str]:
        """The names of the settings' destinations."""
        return frozenset(one.name for one in self.sources.settings.destination)


Judge = Callable[[AlarmLook], Sequence[Fault] | None]


def _results_waiting(look: AlarmLook) -> Sequence[Fault]:
    by_people = suspended_by_people(look.connection)
    return [
        one for one in _owed(look, DeliveryState.PENDING, "wait; the first is owed") if one.subject not in by_people
    ]


def _results_parked(look: AlarmLook) -> Sequence[Fault]:
    return list(_owed(look, DeliveryState.PARKED, "are parked; the first was owed"))


def _owed(look: AlarmLook, state: DeliveryState, told: str) -> Iterator[Fault]:
    for name, waits in owed_since(look.connection, state, look.destinations).items():
        if look.now - waits.since >= look.minutes:
            text = f"{waits.number} objects or events for {name} {told} since {_minute(waits.since)}."
            yield Fault(subject=name, text=text, since=waits.since)


def _analyses_waiting(look: AlarmLook) -> Sequence[Fault]:
    return [
        Fault(subject=model, text=f"{one.number} analyses by {model} are due; the first since {_minute(one.since)}.",
              since=one.since)
        for model, one in due_jobs(look.connection, look.now).items() if look.now - one.since >= look.minutes
    ]  # fmt: skip


def _model_errors(look: AlarmLook) -> Sequence[Fault]:
    found = []
    for model, one in failures_since(look.connection, look.now, _ERRORS_WITHIN).items():
        share = 100 * one.failed / one.ended
        if one.failed >= _FEWEST_FAILURES and is_over(share, look.limit, is_open=look.is_open(model)):
            text = f"{one.failed} of {one.ended} analyses by {model} failed within 24 hours ({share:.0f} %)."
            found.append(Fault(subject=model, text=text))
    return found


def _disk_filling(look: AlarmLook) -> Sequence[Fault] | None:
    folder = look.sources.settings.node.data_dir
    try:
        free = look.sources.free_bytes(folder)
    except OSError:
        return None
    told = disk_forecast(look.connection, free, look.now)
    if told.days is None or not is_under(told.days, look.limit, is_open=look.is_open("data")):
        return []
    return [Fault(subject="data", text=told.text)]


def _disk_full(look: AlarmLook) -> Sequence[Fault] | None:
    node = look.sources.settings.node
    try:
        free_mb = look.sources.free_bytes(node.data_dir) / (1 << 20)
    except OSError:
        return None
    if not node.min_free_mb or not is_under(free_mb, node.min_free_mb, is_open=look.is_open("data")):
        return []
    return [Fault(subject="data", text=f"{free_mb:.0f} MB are free; node.min_free_mb = {node.min_free_mb}.")]


def _certificate_ends(look: AlarmLook) -> Sequence[Fault]:
    found = []
    for name, file in certificate_files(look.sources.settings):
        with suppress(OSError, ValueError):  # gone or no PEM: whoever shows it tells
            ends = x509.load_pem_x509_certificates(file.read_bytes())[0].not_valid_after_utc
            if ends - look.now < look.limit * _DAY:
                ended = "ended" if ends <= look.now else "ends"
                found.append(Fault(subject=name, text=f"The certificate of {name} {ended} on {_minute(ends)}."))
    return found


def _clock_wrong(look: AlarmLook) -> Sequence[Fault]:
    state = look.sources.clock()
    return [Fault(text=state.fault)] if state is not None and state.fault else []


def _audit_unwritable(look: AlarmLook) -> Sequence[Fault]:
    fault = look.sources.audit.fault
    return [Fault(text=fault)] if fault else []


def _self_test_failed(look: AlarmLook) -> Sequence[Fault]:
    signs = signs_of(look.connection, rules.SELF_TEST_FAILED.code) if look.sources.settings.selftest.at else {}
    return [Fault(text=sign.text, since=sign.since) for sign in signs.values()]


def _backup_failed(look: AlarmLook) -> Sequence[Fault]:
    outcome = last_backup(look.sources.settings.node.data_dir)
    if outcome is None or not outcome.advice(look.now):
        return []
    return [Fault(text=f"{outcome.in_words()}.", since=outcome.failed_at)]


def _peer_unreachable(look: AlarmLook) -> Sequence[Fault]:
    away = {name: (sign.since, sign.text)
            for name, sign in signs_of(look.connection, rules.PEER_UNREACHABLE.code).items()}  # fmt: skip
    for name, one in suspensions(look.connection).items():
        if one.by:
            away.pop(name, None)
        else:
            away[name] = (one.since, one.reason)
    return [
        Fault(subject=name, text=text, since=since) for name, (since, text) in away.items()
        if name in look.destinations and look.now - since >= look.minutes
    ]  # fmt: skip


def _alarms_untold(look: AlarmLook) -> Sequence[Fault]:
    known = {one.name for one in look.sources.settings.alarm}
    return [
        Fault(subject=name, text=f"Not taken since {_minute(since)}. {why}", since=since)
        for name, (since, why) in oldest_unsent(look.connection).items()
        if name in known and look.now - since >= look.minutes
    ]


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


#: By the codes of the table; those that keep something from look to look are made in `round`.
JUDGES: Mapping[AlarmRule, Judge] = {
    rules.RESULTS_WAITING: _results_waiting,
    rules.RESULTS_PARKED: _results_parked,
    rules.ANALYSES_WAITING: _analyses_waiting,
    rules.MODEL_ERRORS: _model_errors,
    rules.DISK_FILLING: _disk_filling,
    rules.DISK_FULL: _disk_full,
    rules.CERTIFICATE_ENDS: _certificate_ends,
    rules.CLOCK_WRONG: _clock_wrong,
    rules.AUDIT_UNWRITABLE: _audit_unwritable,
    rules.SELF_TEST_FAILED: _self_test_failed,
    rules.BACKUP_FAILED: _backup_failed,
    rules.PEER_UNREACHABLE: _peer_unreachable,
    rules.ALARMS_UNTOLD: _alarms_untold,
}
