"""The parent's side of the acceptor: start it with the open ports, pass its news on, start it again when it dies."""

from __future__ import annotations

import base64
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from dicom_node.core.errors import SettingsError
from dicom_node.receive.channel import AcceptorOptions, Channel, Message, channel_pair

_READY_S = 60.0
_CLOSING_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_log = logging.getLogger(__name__)


class AcceptorListener(Protocol):
    """Who wants to know what the acceptor tells. Called in the order of events; must not block."""

    def stored(self, slot: int, sequence: int, study_instance_uid: str, *, found: bool) -> None: ...
    def closed(self, association_id: str, outcome: str, at_s: float) -> None: ...
    def reported(self, number: int, status: int | None) -> None: ...
    def died(self) -> None: ...


class AcceptorProcess:
    """Runs the acceptor beside this process, for as long as this process lives."""

    def __init__(self, options: AcceptorOptions, listeners: Mapping[str, socket.socket]) -> None:
        """`listeners` are open sockets by name: ``dicom``, and ``dicom_tls`` which speaks TLS."""
        self._options = options
        self._listeners = dict(listeners)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._failure = ""
        self._trouble = ""
        self._news: AcceptorListener | None = None
        self._launch()

    def listen_to(self, news: AcceptorListener) -> None:
        """Pass its news on from now on (it has waited with them) and keep it running."""
        self._news = news
        threading.Thread(target=self._attend, name="acceptor", daemon=True).start()

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
    def ports(self) -> dict[str, int]:
        """Where peers can connect, by the listener's name."""
        return {name: int(listener.getsockname()[1]) for name, listener in self._listeners.items()}

    @property
    def is_serving(self) -> bool:
        """Tell whether peers are served."""
        return self._ready.is_set() and not self._failure and not self._stopping.is_set()

    @property
    def process_id(self) -> int | None:
        """The process id of the acceptor."""
        return self._process.pid if self._process else None

    def freed(self, slots: Sequence[tuple[int, int]]) -> None:
        """Tell it whose records (slot, sequence) have settled."""
        self._tell("free", slots=list(slots))

    def trouble(self, why: str) -> None:
        """Tell it why nothing can be filed; until it is told "", objects are answered "out of resources"."""
        self._trouble = why
        self._tell("trouble", why=why)

    def report(self, number: int, association_id: str, event_type: int, data_set: bytes) -> None:
        """Ask it to send an N-EVENT-REPORT on an association; the answer comes as `News.reported`."""
        encoded = base64.b64encode(data_set).decode()
        self._tell("report", number=number, association_id=association_id, event_type=event_type, data_set=encoded)

    def stop(self) -> None:
        """End it: no new connections, the open ones cut."""
        self._stopping.set()
        self._tell("stop")
        if self._process is not None:
            try:
                self._process.wait(_CLOSING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for listener in self._listeners.values():
            listener.close()

    # --- the process ---------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        ours, theirs = channel_pair()
        command = [sys.executable, "-m", "dicom_node.receive.acceptor.acceptor", str(theirs.fileno())]
        command += [f"{name}={listener.fileno()}" for name, listener in self._listeners.items()]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), *(listener.fileno() for listener in self._listeners.values())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        theirs.close()
        self._channel = Channel(ours, "to-acceptor")
        self._channel.tell("options", options=self._options.to_json())
        if self._trouble:
            self._channel.tell("trouble", why=self._trouble)

    def _attend(self) -> None:
        """Pass news on; whenever the acceptor dies, start it again."""
        wait_s = _FIRST_WAIT_S
        while True:
            began = time.monotonic()
            for message in self._channel.messages() if self._channel else ():
                self._pass_on(message)
            status = self._process.wait() if self._process else None
            if self._stopping.is_set() or self._failure:
                self._ready.set()
                return
            self._ready.clear()
            if self._channel is not None:
                self._channel.close()  # its thread and socket would stay
            if self._news is not None:
                self._news.died()
            _log.critical("acceptor died and is started again", extra={"status": status})
            wait_s = _FIRST_WAIT_S if time.monotonic() - began > _LONGEST_WAIT_S else min(wait_s * 2, _LONGEST_WAIT_S)
            if self._stopping.wait(wait_s):
                return
            self._launch()

    def _pass_on(self, message: Message) -> None:
        if self._news is None:
            return
        match message["kind"]:
            case "stored":
                self._news.stored(message["slot"], message["sequence"], message["study"], found=message["found"])
            case "closed":
                self._news.closed(message["association_id"], message["outcome"], message["at_s"])
            case "reported":
                self._news.reported(message["number"], message["status"])
            case "ready":
                self._ready.set()
            case "failed":
                self._failure = message["why"]
                self._ready.set()

    def _tell(self, kind: str, **more: object) -> None:
        if self._channel is not None:
            self._channel.tell(kind, **more)
