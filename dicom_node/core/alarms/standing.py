"""When an alarm is raised, told again and cleared, from what is seen now and what is known of it. Pure.

What flickers is not told: a fault must last before it is raised, and be gone for a while before it is cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from dicom_node.core.alarms.rules import AlarmRule, Severity

#: A clock that was set back by more than this is not waited for.
_SET_BACK = timedelta(hours=1)
#: What was below a limit must come so far back over it before it counts as well (and the other way round).
_MARGIN = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that a rule sees now: of whom (`subject`), in a sentence, since when as far as that is known.

    Nothing of a patient is in it. `detail` is for the page, where somebody has signed in.
    """

    subject: str = ""
    text: str
    since: datetime | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


class AlarmStep(StrEnum):
    """What receivers are told of."""

    RAISED = "raised"
    AGAIN = "again"
    CLEARED = "cleared"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm. `seen_at` is when its fault was first seen, `gone_at` since when it is not seen any more.

    `number` is 0 before it is kept. It is raised when `raised_at` is set, and over when `cleared_at` is.
    """

    number: int = 0
    rule: str
    severity: Severity
    subject: str
    text: str
    since: datetime
    seen_at: datetime
    gone_at: datetime | None = None
    raised_at: datetime | None = None
    told_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    note: str = ""
    cleared_at: datetime | None = None
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def standing(self) -> str:
        """Where it stands, in one word."""
        if self.cleared_at is not None:
            return "CLEARED"
        if self.acknowledged_at is not None:
            return "ACKNOWLEDGED"
        return "RAISED" if self.raised_at is not None else "SEEN"


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of an alarm: as it is from now on (`None`: it was never raised, and is forgotten), and what is to be
    told of that."""

    alarm: Alarm | None
    step: AlarmStep | None = None


def first_seen(rule: AlarmRule, fault: Fault, now: datetime, severity: Severity | None = None) -> Judged:
    """Judge a fault of which nothing was known."""
    since = min(fault.since or now, now)
    alarm = Alarm(
        rule=rule.code, severity=severity or rule.severity, subject=fault.subject, text=fault.text, since=since,
        seen_at=now, detail=fault.detail,
    )  # fmt: skip
    return _raised_if_due(alarm, rule, now)


def seen_again(rule: AlarmRule, alarm: Alarm, fault: Fault, now: datetime, repeat: timedelta) -> Judged:
    """Judge a fault that was seen before: it may have lasted long enough, or be due to be told again."""
    alarm = replace(alarm, text=fault.text, gone_at=None, detail=fault.detail)
    if alarm.raised_at is None:
        return _raised_if_due(alarm, rule, now)
    told = alarm.told_at or alarm.raised_at
    if alarm.acknowledged_at is None and repeat and has_passed(told, repeat, now):
        return Judged(replace(alarm, told_at=now), AlarmStep.AGAIN)
    return Judged(alarm)


def not_seen(rule: AlarmRule, alarm: Alarm, now: datetime) -> Judged:
    """Judge an alarm whose fault is not seen now."""
    if alarm.raised_at is None:
        return Judged(None)
    alarm = replace(alarm, gone_at=alarm.gone_at or now)
    if alarm.gone_at is not None and has_passed(alarm.gone_at, rule.clear_after, now):
        return Judged(replace(alarm, cleared_at=now), AlarmStep.CLEARED)
    return Judged(alarm)


def _raised_if_due(alarm: Alarm, rule: AlarmRule, now: datetime) -> Judged:
    if not has_passed(alarm.seen_at, rule.raise_after, now):
        return Judged(alarm)
    return Judged(replace(alarm, raised_at=now, told_at=now), AlarmStep.RAISED)


def has_passed(since: datetime, wanted: timedelta, now: datetime) -> bool:
    """Tell whether so much time has passed; what lies far ahead was written before the clock was set back."""
    return now - since >= wanted or since - now > _SET_BACK


def is_over(value: float, limit: float, *, is_open: bool) -> bool:
    """Tell whether a value is above its limit; once that is told, it must fall a fifth below the limit to be well."""
    return value > limit * (1 - _MARGIN if is_open else 1)


def is_under(value: float, limit: float, *, is_open: bool) -> bool:
    """Tell whether a value is below its limit; once that is told, it must rise a fifth above the limit to be well."""
    return value < limit * (1 + _MARGIN if is_open else 1)
