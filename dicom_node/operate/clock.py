"""Watches the clock of this machine: asks the time servers now and then, and says when the clock is not to be believed.

It never sets the clock: that is the work of the machine's own service (chrony, systemd-timesyncd).
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.config.running import TimeSettings
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import TimeUnavailable
from dicom_node.operate.time_servers import NTP_PORT, Reading, TimeServer, agreed, ask

#: What a server asks for by these is never asked again (RFC 5905, 7.4); RATE: asked less often.
_NEVER_AGAIN = frozenset({"DENY", "RSTR"})
_RATE = "RATE"
_LONGEST_WAIT_S = 86400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What is known of the clock of this machine.

    `offset_s` is by how much the time servers are ahead of it, give or take `error_s`, when it was last measured, at
    `measured_at`; `None` before. `servers` says of each server what it answered, or why that is of no use. `fault` says
    why the clock is not to be believed; empty when it is well.
    """

    offset_s: float | None
    error_s: float | None
    measured_at: datetime | None
    servers: Mapping[str, str]
    fault: str


def time_servers(settings: TimeSettings) -> Sequence[TimeServer]:
    """Return the servers that the settings name."""
    return [TimeServer(host, port or NTP_PORT) for host, port in settings.addresses]


def ask_all(
    servers: Sequence[TimeServer], limit_s: float
) -> tuple[Sequence[Reading], Mapping[TimeServer, TimeUnavailable]]:
    """Ask every server once; return what can be used, and what is wrong with the others. Takes seconds."""
    readings: list[Reading] = []
    useless: dict[TimeServer, TimeUnavailable] = {}
    for server in servers:
        try:
            reading = ask(server)
        except TimeUnavailable as error:
            useless[server] = error
            continue
        if reading.error_s > limit_s:
            useless[server] = TimeUnavailable(
                f"{server.name} is unsure by {reading.error_s:.3g} s, more than the limit"
            )
        else:
            readings.append(reading)
    return readings, useless


def told(reading: Reading) -> str:
    """Return a reading in words."""
    side = "ahead of" if reading.offset_s < 0 else "behind"
    return (
        f"{abs(reading.offset_s):.3f} s {side} {reading.server} (give or take {reading.error_s:.3f} s, "
        f"stratum {reading.stratum})"
    )


def fault_of(readings: Sequence[Reading], limit_s: float) -> str:
    """Return why the clock is not to be believed by what servers said; empty when it is, or when none said anything."""
    best = agreed(readings)
    if best is None:
        return "The time servers contradict each other. Name three or more." if readings else ""
    if abs(best.offset_s) <= limit_s:
        return ""
    return f"The clock of this machine is {told(best)}; {limit_s:g} s are allowed. Let the machine set it by NTP."


def kernel_synchronised() -> bool | None:
    """Return whether the kernel counts its clock as synchronised, as a time service tells it; `None`: not to be known.

    Needs no rights: ``ntp_gettime`` (RFC 1589) of the C library only reads, and answers 5 (TIME_ERROR) for no.
    """
    with suppress(AttributeError, OSError):
        answer = int(ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(256)))
        return None if answer < 0 else answer != 5
    return None


@dataclass(slots=True)
class ClockWatch:
    """The clock against the time servers; `run` asks them, `state` tells what is known. Thread-safe."""

    settings: TimeSettings
    clock_s: Callable[[], float] = time.monotonic
    _readings: Sequence[Reading] = ()
    _last: Reading | None = None
    _measured_at: datetime | None = None
    _heard_at_s: float = field(init=False)
    _answers: dict[str, str] = field(default_factory=dict)
    #: How long each server that asked for it is left alone, and until when.
    _rests_s: dict[TimeServer, float] = field(default_factory=dict)
    _resting_until_s: dict[TimeServer, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _outage: OutageLog = field(default_factory=lambda: OutageLog(_log, "clock not to be believed", "clock is well"))

    def __post_init__(self) -> None:
        self._heard_at_s = self.clock_s()

    def run(self) -> None:
        """Ask every server that may be asked, and log when the clock stops or begins to be well."""
        now_s = self.clock_s()
        due = [one for one in time_servers(self.settings) if self._resting_until_s.get(one, -math.inf) <= now_s]
        if not due:
            return
        readings, useless = ask_all(due, self.settings.max_offset_s)
        with self._lock:
            self._note(readings, useless)
        for server, error in useless.items():
            self._leave_alone(server, error.kiss)
        self._log(self.state())

    def state(self) -> ClockState | None:
        """Return what is known now; `None` where no time server is named."""
        if not self.settings.servers:
            return None
        with self._lock:
            last = self._last
            return ClockState(
                offset_s=None if last is None else last.offset_s,
                error_s=None if last is None else last.error_s,
                measured_at=self._measured_at,
                servers=dict(self._answers),
                fault=self._silence() or fault_of(self._readings, self.settings.max_offset_s),
            )

    def _note(self, readings: Sequence[Reading], useless: Mapping[TimeServer, TimeUnavailable]) -> None:
        self._answers |= {one.server: told(one) for one in readings}
        self._answers |= {server.name: str(error) for server, error in useless.items()}
        if readings:
            self._readings, self._heard_at_s = readings, self.clock_s()
        best = agreed(readings)
        if best is not None:
            self._last, self._measured_at = best, datetime.now(UTC)

    def _silence(self) -> str:
        silent_s = self.clock_s() - self._heard_at_s
        if silent_s < self.settings.silent_after_s:
            return ""
        said = "; ".join(f"{one}" for one in self._answers.values())
        return (
            f"No time server has told the time for {silent_s / 60:.0f} minutes: {said}. Look at them and the network."
        )

    def _leave_alone(self, server: TimeServer, kiss: str) -> None:
        if kiss in _NEVER_AGAIN:
            self._resting_until_s[server] = math.inf
        elif kiss == _RATE:
            rest_s = min(2 * self._rests_s.get(server, self.settings.ask_every_s), _LONGEST_WAIT_S)
            self._rests_s[server] = rest_s
            self._resting_until_s[server] = self.clock_s() + rest_s

    def _log(self, state: ClockState | None) -> None:
        if state is None:
            return
        if state.fault:
            # The first words: figures differ each time, and would each be told as another reason.
            reason = " ".join(state.fault.split()[:5])
            self._outage.failed(reason, {"advice": state.fault, "servers": dict(state.servers)})
        elif self._readings:
            self._outage.worked(offset_s=state.offset_s)
