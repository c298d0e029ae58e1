"""Which scanners are silent for longer than their habit; worked out every few minutes, for it reads weeks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from dicom_node.core.alarms.habits import silence
from dicom_node.core.alarms.standing import Fault, has_passed
from dicom_node.index.alarms.heard import heard_from, watched
from dicom_node.operate.alarms.judges import AlarmLook

_EVERY = timedelta(minutes=5)


class SilentScanners:
    """Judges the rule `scanner_silent`."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._looked_at: datetime | None = None
        self._found: Sequence[Fault] = ()

    def __call__(self, look: AlarmLook) -> Sequence[Fault]:
        """Return who is silent, as of a few minutes ago at most."""
        if self._looked_at is None or has_passed(self._looked_at, _EVERY, look.now):
            self._found, self._looked_at = list(self._silent(look)), look.now
        return self._found

    def _silent(self, look: AlarmLook) -> Iterator[Fault]:
        hours = watched(look.connection)
        for title, heard in sorted(heard_from(look.connection, look.now).items()):
            one = silence(heard, hours, look.now, self._zone, look.limit)
            if one is not None:
                since = f"since {one.last_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
                habit = f"by its habit something had come in {one.expected_hours:.0f} of the hours since"
                yield Fault(subject=title, text=f"Nothing came from {title} {since}; {habit}.", since=one.last_at)
