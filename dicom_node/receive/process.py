"""The parent's side of the acceptor: start it with the open ports, hand on what it tells, restart it when it dies."""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from dicom_node.core.errors import SettingsError
from dicom_node.core.metrics.table import PROCESS_DEATHS, PROCESS_STARTS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.end import VitalThread
from dicom_node.receive.channel import (
    AcceptorFailed,
    AcceptorReady,
    AreYouAlive,
    AssociationClosed,
    CallerRefused,
    Channel,
    ContextRefused,
    Counted,
    Message,
    NewRules,
    Options,
    RecordStored,
    ReportAnswered,
    ReportReceived,
    RulesTaken,
    StillAlive,
    Stop,
    ToAcceptor,
    Unavailable,
    channel_pair,
)
from dicom_node.receive.events import AcceptorDied, ReceiveEvents
from dicom_node.receive.options import AcceptorOptions
from dicom_node.receive.refusals import Refusals

_READY_S = 60.0
_CLOSING_S = 5.0
#: Asked so often whether it lives; after so many questions without an answer it is not ready, or is started anew.
#: Counted in questions, not in seconds: a machine that stood still asked none.
_ASK_EVERY_S, _SILENT, _FROZEN = 2.0, 5, 15
#: How long new rules are waited for; an acceptor that takes longer is frozen, or ends and starts with them.
_RULES_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_log = logging.getLogger(__name__)


class AcceptorProcess:
    """Runs the acceptor beside this process, for as long as this process lives."""

    def __init__(self, options: AcceptorOptions, listeners: Mapping[str, socket.socket], lock: int) -> None:
        """`listeners` are open sockets by name: ``dicom``, and ``dicom_tls`` which speaks TLS. `lock` is the descriptor
        that holds the journal; it is closed at the end."""
        self._options = options
        self._lock = lock
        self._listeners = dict(listeners)
        #: What peers proposed to send and cannot, since the start.
        self.refusals = Refusals()
        #: Reports on storage commitments that the node asked for; whoever takes them here answers them.
        self.reports: queue.SimpleQueue[ReportReceived | None] = queue.SimpleQueue()
        #: Callers that were not let in; whoever takes them here writes them down. So few a minute that they may wait.
        self.turned_away: deque[CallerRefused] = deque(maxlen=10_000)
        self._ready = threading.Event()
        self._has_served = False
        self._stopping = threading.Event()
        self._failure = ""
        self._unavailable = Unavailable("")
        self._unanswered = 0
        self._disk_fault = ""
        self._rules_taken = threading.Condition()
        self._rules_asked = self._rules_in_force = 0
        self._process, self._channel = self._launch()

    def attend(self, events: ReceiveEvents) -> None:
        """Put what it tells into `events` from now on (it has waited with that), and keep it running."""
        VitalThread(self._attend, "acceptor", events).start()
        VitalThread(self._watch, "acceptor-watch").start()

    def wait_until_ready(self) -> None:
        """Return when peers are served. Raises `SettingsError` when the acceptor cannot start."""
        if not self._ready.wait(_READY_S) or self._failure:
            why = self._failure or f"it did not start within {_READY_S:g} s"
            raise SettingsError(f"The DICOM listener cannot work: {why}. Check [dicom], [dicom_tls] and node.data_dir.")

    @property
    def journal_slots(self) -> int:
        """How many slots its journal has."""
        return self._options.journal_slots

    @property
    def process_id(self) -> int:
        """The process that serves the ports now."""
        return self._process.pid

    @property
    def ports(self) -> dict[str, int]:
        """Where peers can connect, by the listener's name."""
        return {name: int(listener.getsockname()[1]) for name, listener in self._listeners.items()}

    @property
    def is_serving(self) -> bool:
        """Tell whether peers are served, and hear success: what they send can be written and filed."""
        ends = self._failure or self._unavailable.reason or self._disk_fault or self._unanswered >= _SILENT
        return self._ready.is_set() and not ends and not self._stopping.is_set()

    def tell(self, message: ToAcceptor) -> None:
        """Tell it something, and never block; one that starts again is told anew only why nothing can be filed."""
        if isinstance(message, Unavailable):
            self._unavailable = message
        self._channel.tell(message)

    def renew(self, options: AcceptorOptions) -> None:
        """Let in who these options say from now on, and after each new start of the acceptor; return when that is so.
        Who is in stays. Nothing else of the options counts."""
        self._options = replace(
            self._options, aes=options.aes, peers=options.peers, users=options.users, log_level=options.log_level
        )
        with self._rules_taken:
            self._rules_asked += 1
            number = self._rules_asked
            self.tell(NewRules(number, self._options))
            if not self._rules_taken.wait_for(lambda: self._rules_in_force >= number, _RULES_S):
                _log.warning("acceptor has not answered to new rules", extra={"waited_s": _RULES_S})

    def stop(self) -> None:
        """End it: no new connections, the open ones cut."""
        self._stopping.set()
        self.tell(Stop())
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for listener in self._listeners.values():
            listener.close()
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    # --- the process ---------------------------------------------------------------------------------------------

    def _launch(self) -> tuple[subprocess.Popen[bytes], Channel]:
        ours, theirs = channel_pair()
        command = [sys.executable, "-m", "dicom_node.receive.acceptor.acceptor", str(theirs.fileno())]
        command += [f"{name}={listener.fileno()}" for name, listener in self._listeners.items()]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), self._lock, *(listener.fileno() for listener in self._listeners.values())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        theirs.close()
        TALLY.count(PROCESS_STARTS, process="acceptor")
        channel = Channel(ours, "to-acceptor")
        channel.tell(Options(self._options))
        if self._unavailable.reason:
            channel.tell(self._unavailable)
        return process, channel

    def _attend(self, events: ReceiveEvents) -> None:
        """Hand on what it tells; whenever the acceptor dies, start it again."""
        wait_s = _FIRST_WAIT_S
        while True:
            began = time.monotonic()
            for message in self._channel.messages():
                self._take(message, events)
            status = self._process.wait()
            if self._stopping.is_set() or (self._failure and not self._has_served):
                self._ready.set()
                return
            self._ready.clear()
            self._unanswered = 0
            self._channel.close()  # its thread and socket would stay
            events.put(AcceptorDied(time.time()))
            TALLY.count(PROCESS_DEATHS, process="acceptor", why="died")
            _log.critical("acceptor died and is started again", extra={"status": status, "why": self._failure})
            wait_s = _FIRST_WAIT_S if time.monotonic() - began > _LONGEST_WAIT_S else min(wait_s * 2, _LONGEST_WAIT_S)
            if self._stopping.wait(wait_s):
                return
            self._process, self._channel = self._launch()

    def _watch(self) -> None:
        """Ask again and again whether it lives; end one that serves and has been frozen for long."""
        while not self._stopping.wait(_ASK_EVERY_S):
            if not self._ready.is_set():
                continue
            if self._unanswered == _FROZEN:
                _log.critical("acceptor does not answer and is ended", extra={"questions": self._unanswered})
                self._process.kill()
            self._unanswered += 1
            self.tell(AreYouAlive())

    def _take(self, message: Message, events: ReceiveEvents) -> None:
        match message:
            case RecordStored() | AssociationClosed() | ReportAnswered():
                events.put(message)
            case ReportReceived():
                self.reports.put(message)
            case ContextRefused():
                self.refusals.note(message)
            case CallerRefused():
                self.turned_away.append(message)
            case Counted(counts):
                TALLY.take(counts)
            case RulesTaken(number):
                with self._rules_taken:
                    self._rules_in_force = number
                    self._rules_taken.notify_all()
            case StillAlive(disk_fault):
                self._unanswered = 0
                self._note_disk(disk_fault)
            case AcceptorReady():
                self._failure, self._has_served = "", True
                self._ready.set()
            case AcceptorFailed(reason):
                self._failure = reason
                self._ready.set()

    def _note_disk(self, fault: str) -> None:
        if fault and not self._disk_fault:
            _log.error("objects cannot be written", extra={"why": fault})
        elif self._disk_fault and not fault:
            _log.info("objects can be written again")
        self._disk_fault = fault
