"""What is said of alarms, and when: quiet hours, the words of a message, and the same as data. Pure.

A message holds names of the settings, numbers and times; nothing of a patient, and no UID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

from dicom_node.core.alarms.rules import BY_CODE, Severity
from dicom_node.core.alarms.standing import Alarm, AlarmStep

_STEPS = {AlarmStep.RAISED: "", AlarmStep.AGAIN: "still: ", AlarmStep.CLEARED: "over: ", AlarmStep.TEST: "test: "}


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of each day, of the site's own time, in which only what is critical is told; they may go over midnight."""

    begin: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietHours | None:
        """Read ``22:00-06:30``; "" is none. Raises `ValueError`."""
        if not text:
            return None
        try:
            begin, end = (datetime.strptime(one, "%H:%M").time() for one in text.split("-"))
        except ValueError:
            raise ValueError(f"{text!r} are no hours; write them as 22:00-06:30") from None
        if begin == end:
            raise ValueError(f"{text!r} are no hours: they end when they begin")
        return cls(begin, end)

    def end_after(self, now: datetime) -> datetime | None:
        """Return when the present quiet hours end; `None`: these are none. `now` is in the site's time zone."""
        at = now.time()
        over_midnight = self.begin > self.end
        is_quiet = (at >= self.begin or at < self.end) if over_midnight else self.begin <= at < self.end
        if not is_quiet:
            return None
        day = now.date() + timedelta(days=1 if over_midnight and at >= self.begin else 0)
        return datetime.combine(day, self.end, tzinfo=now.tzinfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmReceiver:
    """Who is told of what: of which rules (none: of all), from which severity on, and when not at once."""

    name: str
    least: Severity = Severity.NOTICE
    rules: frozenset[str] = frozenset()
    quiet: QuietHours | None = None

    def wants(self, alarm: Alarm) -> bool:
        """Tell whether the receiver is told of this alarm at all."""
        return alarm.severity.rank >= self.least.rank and (not self.rules or alarm.rule in self.rules)

    def held_until(self, alarm: Alarm, now: datetime, zone: tzinfo | None) -> datetime | None:
        """Return until when what is harmless is held back; `None`: it is told now."""
        if self.quiet is None or alarm.severity is Severity.CRITICAL:
            return None
        return self.quiet.end_after(now.astimezone(zone))


def as_told(alarm: Alarm, step: AlarmStep, now: datetime) -> Mapping[str, object]:
    """Return what a message holds of an alarm, as it is at this moment."""
    rule = BY_CODE.get(alarm.rule)
    return {
        "alarm": alarm.number,
        "step": step.value,
        "rule": alarm.rule,
        "severity": alarm.severity.value,
        "title": rule.title if rule else "A test of the alarms",
        "subject": alarm.subject,
        "text": alarm.text,
        "since": _stamp(alarm.since),
        "at": _stamp(now),
        "advice": rule.advice if rule else "Nothing is to be done.",
        "acknowledged_by": alarm.acknowledged_by,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMessage:
    """What goes to a receiver at once: one alarm, or several that were held back. `id` is the same at every attempt."""

    id: str
    node: str
    link: str
    alarms: Sequence[Mapping[str, object]]

    @property
    def subject(self) -> str:
        """One line of printable ASCII."""
        if len(self.alarms) == 1:
            one = self.alarms[0]
            of = f" ({one['subject']})" if one["subject"] else ""
            text = f"[{self.node}] {one['severity']}: {_STEPS[AlarmStep(str(one['step']))]}{one['title']}{of}"
        else:
            text = f"[{self.node}] {len(self.alarms)} alarms that were held back in quiet hours"
        return "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:200]

    @property
    def text(self) -> str:
        """The message for people."""
        parts = [*map(_paragraph, self.alarms)]
        where = f"The node's page: {self.link}" if self.link else f"The page of node {self.node}: Node, Alarms."
        return "\n\n".join([*parts, where]) + "\n"

    def as_event(self) -> Mapping[str, object]:
        """Return it as a webhook is told: the type is the step of one, or `alarm.several`."""
        kind = str(self.alarms[0]["step"]) if len(self.alarms) == 1 else "several"
        data = {"node": self.node, "link": self.link, "summary": self.subject, "alarms": list(self.alarms)}
        return {"type": f"alarm.{kind}", "timestamp": self.alarms[-1]["at"], "data": data}


def _paragraph(one: Mapping[str, object]) -> str:
    of = f" ({one['subject']})" if one["subject"] else ""
    lines = [
        f"{str(one['severity']).upper()}: {_STEPS[AlarmStep(str(one['step']))]}{one['title']}{of}",
        f"What: {one['text']}",
        f"Since: {one['since']}",
        *([f"Acknowledged by: {one['acknowledged_by']}"] if one["acknowledged_by"] else []),
        f"To do: {one['advice']}" if one["step"] != AlarmStep.CLEARED else f"Cleared: {one['at']}",
        f"Alarm {one['alarm']}, rule {one['rule']}",
    ]
    return "\n".join(lines)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
