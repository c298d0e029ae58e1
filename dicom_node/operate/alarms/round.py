"""The round in which every rule is judged, and what follows is kept and owed to receivers.

All is looked at beside whoever writes; what changes then is one transaction, and one process at a time is in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from dicom_node.config.settings import Settings
from dicom_node.core.alarms.habits import hour_of
from dicom_node.core.alarms.rules import CRITICAL_FINDING, RULES, SCANNER_SILENT, AlarmRule
from dicom_node.core.alarms.standing import Alarm, AlarmStep, Fault, Judged, first_seen, not_seen, seen_again
from dicom_node.index.alarms.heard import note_watched
from dicom_node.index.alarms.messages import forget_receivers, tell
from dicom_node.index.alarms.receivers import AlarmReceivers
from dicom_node.index.alarms.standing import (
    forget,
    forget_old,
    keep,
    known_subjects,
    open_alarms,
    take_turn_to_judge,
)
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.operate.alarms.critical import CriticalFindings
from dicom_node.operate.alarms.judges import JUDGES, AlarmLook, AlarmSources, Judge
from dicom_node.operate.alarms.silence import SilentScanners

_Standing = Mapping[tuple[str, str], Alarm]
_log = logging.getLogger(__name__)


class AlarmRound:
    """Judges all rules; to be run every half minute. Several processes may."""

    def __init__(self, database: Database, sources: AlarmSources) -> None:
        self._database = database
        self._sources = sources
        settings = sources.settings
        self._receivers = receivers_of(settings)
        self._limits = settings.alarms.as_limits
        self._repeat = timedelta(hours=settings.alarms.repeat_hours)
        self._judges = judges_of(settings)
        self._tidied: datetime | None = None

    def run(self, at: datetime | None = None) -> None:
        """Judge every rule as of now. Raises `IndexUnavailable`."""
        with self._database.read() as connection:
            now = at or now_in(connection)
            standing = open_alarms(connection)
            seen = {rule: self._seen(connection, (rule, judge), standing, now)
                    for rule, judge in self._judges.items()}  # fmt: skip
        is_hour_new = self._tidied != hour_of(now)
        if not (standing or any(seen.values()) or is_hour_new):
            return
        with self._database.write() as connection:
            take_turn_to_judge(connection)
            standing = open_alarms(connection)
            for rule, faults in seen.items():
                if faults is not None:
                    self._judge(connection, (rule, faults), _of(standing, rule), now)
            if is_hour_new:
                self._tidy(connection, standing, now)
        self._tidied = hour_of(now)

    def _seen(
        self, connection: Connection, judged: tuple[AlarmRule, Judge], standing: _Standing, now: datetime
    ) -> Sequence[Fault] | None:
        """Return what a rule finds; `None`: nothing can be said now, and all stays as it is."""
        rule, judge = judged
        if rule.code in self._limits.off:
            return []
        mine = _of(standing, rule)
        look = AlarmLook(
            connection=connection, now=now, limit=self._limits.of(rule), standing=mine, sources=self._sources
        )  # fmt: skip
        return judge(look)

    def _judge(
        self, connection: Connection, found: tuple[AlarmRule, Sequence[Fault]], standing: Mapping[str, Alarm],
        now: datetime,
    ) -> None:  # fmt: skip
        rule, faults = found
        seen = {fault.subject: fault for fault in faults}
        if rule.ends_with_acknowledgement:  # what somebody has acknowledged lasts, and is over
            over = known_subjects(connection, rule.code, list(seen)) - standing.keys()
            seen = {subject: fault for subject, fault in seen.items() if subject not in over}
        for subject, fault in seen.items():
            known = standing.get(subject)
            if known is None:
                self._keep(connection, None, first_seen(rule, fault, now), now)
            else:
                self._keep(connection, known, seen_again(rule, known, fault, now, self._repeat), now)
        for subject, known in standing.items():
            if subject not in seen:
                self._keep(connection, known, not_seen(rule, known, now), now)

    def _keep(self, connection: Connection, known: Alarm | None, judged: Judged, now: datetime) -> None:
        if judged.alarm is None:
            if known is not None:
                forget(connection, known)
            return
        alarm = known if judged.alarm == known else keep(connection, judged.alarm)
        if alarm is not None and judged.step is not None:
            tell(connection, alarm, judged.step, self._receivers, now)
            _log_step(alarm, judged.step)

    def _tidy(self, connection: Connection, standing: _Standing, now: datetime) -> None:
        """Note once an hour that the node is there, and drop what nobody wants any more."""
        note_watched(connection, now)
        dropped = forget_receivers(connection, [one.name for one in self._receivers.receivers])
        if dropped:
            _log.warning("alarms dropped: the settings have their receiver no more", extra={"messages": dropped})
        codes = {rule.code for rule in RULES}
        for alarm in standing.values():
            if alarm.rule not in codes:  # of another version
                keep(connection, not_seen(SCANNER_SILENT, alarm, now).alarm or alarm)
        forget_old(connection, now)


def judges_of(settings: Settings) -> Mapping[AlarmRule, Judge]:
    """Return how each rule of the table is judged."""
    return {
        SCANNER_SILENT: SilentScanners(receivers_of(settings).zone),
        **JUDGES,
        CRITICAL_FINDING: CriticalFindings(settings.critical_finding),
    }


def receivers_of(settings: Settings) -> AlarmReceivers:
    """Return who is told of alarms, as the settings say."""
    zone: tzinfo | None = ZoneInfo(settings.node.time_zone) if settings.node.time_zone else None
    return AlarmReceivers([one.as_receiver for one in settings.alarm], zone)


def _of(standing: _Standing, rule: AlarmRule) -> Mapping[str, Alarm]:
    return {subject: one for (code, subject), one in standing.items() if code == rule.code}


def _log_step(alarm: Alarm, step: AlarmStep) -> None:
    told = {"alarm": alarm.number, "rule": alarm.rule, "severity": alarm.severity, "subject": alarm.subject,
            "why": alarm.text}  # fmt: skip
    if step is AlarmStep.CLEARED:
        _log.info("alarm cleared", extra=told)
    elif step is AlarmStep.RAISED:
        _log.warning("alarm raised", extra=told)
