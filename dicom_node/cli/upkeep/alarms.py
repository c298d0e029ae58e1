"""`dicom-node alarms`: what stands, that somebody knows of it, and whether receivers can be told."""

from __future__ import annotations

import argparse
import uuid
from datetime import UTC, datetime

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.alarms.rules import BY_CODE, Severity
from dicom_node.core.alarms.standing import Alarm, AlarmStep
from dicom_node.core.alarms.telling import AlarmMessage, as_told
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import DeliveryError, SettingsError
from dicom_node.deliver.alarms import alarm_kinds_of
from dicom_node.deliver.alarms.telling import page_link
from dicom_node.index.alarms.standing import acknowledge, latest_alarms
from dicom_node.operate.alarms.round import receivers_of
from dicom_node.roles.settings import load_settings

_SHOWN = 100
_PATIENCE_S = 30.0


def list_alarms(options: argparse.Namespace) -> int:
    """Show what stands, or also what is over."""
    with opened(options) as database, database.read() as connection:
        found = latest_alarms(connection, _SHOWN, only_standing=not options.all)
    if options.json:
        print_json([_line(one) for one in found])
        return 0
    rows = [(one.number, f"{one.severity}: {_title(one)}{f' ({one.subject})' if one.subject else ''}", one.text,
             one.since, one.standing, one.acknowledged_by) for one in found]  # fmt: skip
    if rows:
        print_table(["", "what", "seen", "since", "", "by"], rows)
    else:
        say("No alarm stands.")
    return 0


def acknowledge_alarm(options: argparse.Namespace) -> int:
    """Say that somebody knows of an alarm."""
    settings = settings_of_a_node(options)
    with (
        opened(options, AuditedAct.ALARM_ACKNOWLEDGED, alarm=options.number) as database,
        database.write() as connection,
    ):
        who = actor(), datetime.now(UTC)
        one = acknowledge(connection, options.number, options.reason, who, receivers_of(settings))
    say(f"Acknowledged: alarm {one.number}, {_title(one)}. It is not told again while it lasts.")
    return 0


def test(options: argparse.Namespace) -> int:
    """Tell every receiver a test, now; the exit status is 1 where one does not take it."""
    settings = load_settings(options.config)
    receivers = alarm_kinds_of(settings)
    if not receivers:
        raise SettingsError("The settings have no [[alarm]]: nobody is told of alarms.")
    now, failed = datetime.now(UTC), 0
    alarm = Alarm(rule="test", severity=Severity.NOTICE, subject="", text="Somebody tries whether alarms arrive.",
                  since=now, seen_at=now)  # fmt: skip
    for one in receivers:
        message = AlarmMessage(
            id=f"alm_{uuid.uuid4().hex}", node=settings.node.ae_title, link=page_link(settings),
            alarms=[as_told(alarm, AlarmStep.TEST, now)],
        )  # fmt: skip
        try:
            one.send(message, _PATIENCE_S)
        except DeliveryError as error:
            failed += 1
            say(f"FAIL  {one.name}: {error}")
        else:
            say(f"ok    {one.name} has taken a test alarm")
    return 1 if failed else 0


def _title(alarm: Alarm) -> str:
    rule = BY_CODE.get(alarm.rule)
    return rule.title if rule else alarm.rule


def _line(alarm: Alarm) -> dict[str, object]:
    return {
        "id": alarm.number, "rule": alarm.rule, "severity": alarm.severity, "title": _title(alarm),
        "subject": alarm.subject, "text": alarm.text, "since": alarm.since, "standing": alarm.standing,
        "acknowledged_by": alarm.acknowledged_by, "note": alarm.note, "cleared_at": alarm.cleared_at,
    }  # fmt: skip
