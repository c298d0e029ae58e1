"""The acceptor process: listens on the DICOM ports and serves each connection in a thread of its own.

Run by `process.AcceptorProcess` with inherited sockets, as
``python -m dicom_node.receive.acceptor.acceptor CHANNEL dicom=SOCKET dicom_tls=SOCKET``. It knows
no database: what it has made durable it tells its parent, and it ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import logging
import os
import queue
import resource
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from dicom_node.core.errors import SettingsError, SpoolUnavailable
from dicom_node.core.metrics.table import ASSOCIATIONS_OPEN, ASSOCIATIONS_REFUSED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.uids import loggable_uid
from dicom_node.dimse.vocabulary import ActionStatus
from dicom_node.end import VitalThread, watch_threads
from dicom_node.logs import configure_logs, set_log_level
from dicom_node.memory import share_one_heap
from dicom_node.receive.acceptor.admission import CallingPeer, Capacity, PeerAdmission
from dicom_node.receive.acceptor.association import AcceptorServices, ServedAssociation
from dicom_node.receive.acceptor.messages import ReportQueue
from dicom_node.receive.acceptor.negotiation import RefusedClass
from dicom_node.receive.acceptor.storing import Storing
from dicom_node.receive.acceptor.strangers import Strangers
from dicom_node.receive.acceptor.transport import (
    PeerGone,
    PeerTooSlow,
    PlainTransport,
    TlsTransport,
    Transport,
    tls_context,
)
from dicom_node.receive.channel import (
    AcceptorFailed,
    AcceptorReady,
    AnswerReport,
    AreYouAlive,
    AssociationClosed,
    CallerRefused,
    Channel,
    ContextRefused,
    Counted,
    Freed,
    Message,
    NewRules,
    Options,
    RecordStored,
    ReportAnswered,
    ReportReceived,
    RulesTaken,
    SendReport,
    StillAlive,
    Stop,
    Unavailable,
)
from dicom_node.receive.options import AcceptorOptions
from dicom_node.storage.folder import DiskTrial
from dicom_node.storage.journal import UNREADABLE, JournalWriter, Record
from dicom_node.storage.spool import Spool

_STACK_BYTES = 512 * 1024
_PR_SET_PDEATHSIG = 1
_FAREWELL_S = 2.0
#: How long the parent, and its database, may take to answer a report; its sender reports again.
_ANSWERED_WITHIN_S = 20.0
_log = logging.getLogger("dicom_node.receive.acceptor.acceptor")  # run by -m, its name is another


class Acceptor:
    """Listens and serves until it is told to stop."""

    def __init__(self, options: AcceptorOptions, channel: Channel) -> None:
        """Raises `OSError` when the TLS files cannot be used."""
        self._options = options
        self._channel = channel
        self._journal = JournalWriter(Path(options.journal), options.journal_slots)
        self._capacity = Capacity(Path(options.spool), options.min_free_bytes)
        self._trial = DiskTrial((Path(options.journal), Path(options.spool)), options.parts_owner)
        self._open: dict[str, ReportQueue] = {}
        #: Reports that came and wait for the parent's answer, by ticket.
        self._heard: dict[str, queue.SimpleQueue[int]] = {}
        self._waiting: OrderedDict[int, Transport] = OrderedDict()
        self._serving: dict[int, Transport] = {}
        self._lock = threading.Lock()
        self._tls = _context(options)
        TALLY.allow("peer", {peer.ae_title for peer in options.peers})
        self._services = AcceptorServices(
            options=options,
            admission=PeerAdmission(options, self._capacity.has_disk),
            storing=Storing(self._journal, self._capacity, self._stored, self._hear),
            strangers=Strangers(tell=self._turned_away),
            capacity=self._capacity,
            spool=Spool(Path(options.spool)),
            began=self._began,
            ended=self._ended,
            answered=self._answered,
            not_taken=self._not_taken,
        )

    def start(self, listeners: list[tuple[socket.socket, bool]]) -> None:
        """Tell of what a crash left, then serve the listeners (socket, whether it speaks TLS)."""
        for slot, record in self._journal.recover():
            self._stored(slot, record, found=True)
        for slot in self._journal.unreadable:
            self._channel.tell(RecordStored(slot, UNREADABLE, "", found=True))
        self._services.spool.remove_parts(self._options.parts_owner)
        threading.Thread(target=self._grow, name="journal", daemon=True).start()
        VitalThread(self._trial.run, "disk-trial").start()
        for listener, speaks_tls in listeners:
            VitalThread(self._listen, "listener", listener, speaks_tls).start()
        self._channel.tell(AcceptorReady())

    def obey(self, message: Message) -> bool:
        """Do what the parent says; return False when that is to stop."""
        match message:
            case Freed(slots):
                for slot, sequence in slots:
                    self._journal.settled(slot, sequence)
            case Unavailable(reason):
                self._capacity.unavailable_reason = reason
            case NewRules(number, options):
                TALLY.allow("peer", {peer.ae_title for peer in options.peers})
                self._services.admission.renew(options)
                set_log_level(options.log_level)
                self._channel.tell(RulesTaken(number))
            case SendReport():
                self._report(message)
            case AnswerReport(ticket, status):
                if (waiting := self._heard.get(ticket)) is not None:
                    waiting.put(status)
            case AreYouAlive():
                self._services.strangers.tell_rest()
                self._tell_counts()
                self._channel.tell(StillAlive(self._trial.fault()))
            case Stop():
                return False
        return True

    def _tell_counts(self) -> None:
        TALLY.set(ASSOCIATIONS_OPEN, len(self._open))
        self._channel.tell(Counted(tuple(TALLY.drain())))

    def stop(self) -> None:
        """End every connection; what was answered with success is durable, the rest was not answered."""
        with self._lock:
            serving = [*self._serving.values(), *self._waiting.values()]
        for transport in serving:
            transport.cut()
        deadline = time.monotonic() + _FAREWELL_S
        while self._serving and time.monotonic() < deadline:
            time.sleep(0.01)

    # --- connections ---------------------------------------------------------------------------------------------

    def _listen(self, listener: socket.socket, speaks_tls: bool) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError as error:  # out of descriptors or memory; those who wait are not turned away
                _log.error("connections cannot be accepted", extra={"why": error.strerror})
                time.sleep(0.2)
                continue
            if self._is_unheard(address[0]):
                connection.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection, address[0], speaks_tls), name="connection", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                _log.error("connections cannot be served", extra={"why": str(error)})
                connection.close()

    def _is_unheard(self, host: str) -> bool:
        """Tell whether this address was refused again and again, and no peer may call from there."""
        strangers = self._services.strangers
        unheard = strangers.is_worn_out(host) and self._services.admission.is_foreign(host)
        if unheard:
            TALLY.count(ASSOCIATIONS_REFUSED, peer="", reason="worn-out")
            strangers.drop(host)
        return unheard

    def _serve(self, connection: socket.socket, host: str, speaks_tls: bool) -> None:
        key = id(connection)
        try:
            transport = self._transport(connection, speaks_tls=speaks_tls)
        except (PeerGone, OSError):
            connection.close()
            return
        self._wait_in_line(key, transport)
        try:
            caller = self._caller(transport, host)
            ServedAssociation(transport, caller, self._services).serve(lambda: self._admitted(key, transport))
        except (PeerGone, PeerTooSlow) as error:
            why = str(error) or "the handshake took too long or the peer left"
            TALLY.count(ASSOCIATIONS_REFUSED, peer="", reason="handshake")
            self._services.strangers.refused("connection ended before it began", host, why=why)
        except Exception:  # noqa: BLE001 - the thread's door: one connection's fault stays its own
            _log.exception("association failed", extra={"host": host})
        finally:
            transport.close()
            with self._lock:
                self._waiting.pop(key, None)
                self._serving.pop(key, None)

    def _transport(self, connection: socket.socket, *, speaks_tls: bool) -> Transport:
        patience_s = min(self._options.pdu_timeout_s, self._options.idle_timeout_s)
        if speaks_tls and self._tls is not None:
            return TlsTransport(connection, self._tls, patience_s)
        return PlainTransport(connection, patience_s)

    def _caller(self, transport: Transport, host: str) -> CallingPeer:
        """Return who is known to call before a word of DICOM is said. Raises `PeerGone`, `PeerTooSlow`."""
        caller = CallingPeer(calling_ae_title="", called_ae_title="", host=host)
        if not isinstance(transport, TlsTransport) or self._options.tls is None:
            return caller
        transport.shake_hands(self._options.tls.handshake_timeout_s)
        shown = transport.certificate()
        return replace(caller, tls=True, certificate_sha256=hashlib.sha256(shown).hexdigest() if shown else "")

    def _wait_in_line(self, key: int, transport: Transport) -> None:
        """Wait for handshake and request. When too many wait, the one that has waited longest in silence goes: a
        modality says who it is at once, so silent connections cannot shut it out."""
        with self._lock:
            self._waiting[key] = transport
            if len(self._waiting) > self._options.max_waiting:
                _, oldest = self._waiting.popitem(last=False)
                oldest.cut()

    def _admitted(self, key: int, transport: Transport) -> None:
        with self._lock:
            self._waiting.pop(key, None)
            self._serving[key] = transport

    # --- what associations tell ----------------------------------------------------------------------------------

    def _stored(self, slot: int, record: Record, *, found: bool = False) -> None:
        self._channel.tell(RecordStored(slot, record.sequence, record.study_instance_uid, found))

    def _began(self, association_id: str, reports: ReportQueue) -> None:
        self._open[association_id] = reports

    def _ended(self, association_id: str, outcome: str, stored: int) -> None:
        self._open.pop(association_id, None)
        if stored:
            self._channel.tell(AssociationClosed(association_id, outcome, time.time()))

    def _answered(self, number: int, association_id: str, status: int | None) -> None:
        self._channel.tell(ReportAnswered(number, association_id, status, time.time()))

    def _hear(self, caller: CallingPeer, transfer_syntax_uid: str, data_set: bytes) -> int:
        """Hand a report on a storage commitment to the parent, who knows what was asked; return the answer to it."""
        ticket, answer = str(uuid.uuid4()), queue.SimpleQueue[int]()
        self._heard[ticket] = answer
        try:
            said = ReportReceived(ticket, caller.calling_ae_title, caller.host, transfer_syntax_uid, data_set)
            self._channel.tell(said)
            return answer.get(timeout=_ANSWERED_WITHIN_S)
        except queue.Empty:
            return ActionStatus.PROCESSING_FAILURE
        finally:
            del self._heard[ticket]

    def _turned_away(self, calling_ae_title: str, host: str, why: str, count: int) -> None:
        self._channel.tell(CallerRefused(calling_ae_title, host, why, count))

    def _not_taken(self, caller: CallingPeer, refused: RefusedClass) -> None:
        syntaxes = tuple(map(loggable_uid, refused.transfer_syntax_uids))
        uid = loggable_uid(refused.sop_class_uid)
        self._channel.tell(ContextRefused(caller.calling_ae_title, caller.host, uid, syntaxes, refused.why))

    def _report(self, report: SendReport) -> None:
        reports = self._open.get(report.association_id)
        if reports is None:
            self._answered(report.number, report.association_id, None)
        else:
            reports.put(report)

    def _grow(self) -> None:
        try:
            self._journal.grow()
        except SpoolUnavailable as error:
            _log.error("journal is smaller than configured", extra={"why": str(error), "slots": self._journal.count()})


def _context(options: AcceptorOptions) -> ssl.SSLContext | None:
    tls = options.tls
    if tls is None:
        return None
    return tls_context(tls.certificate, tls.private_key, tls.authorities, tls.client_certificate)


def main(arguments: list[str]) -> None:
    """Serve until the parent says stop or is gone."""
    _prepare_process()
    channel = Channel(socket.socket(fileno=int(arguments[0])), "acceptor")
    messages = channel.messages()
    options = _options(next(messages))
    configure_logs(options.log_level)
    # What it raises about a malformed request is told in one line; it would add a traceback of its own.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    pairs = [text.split("=") for text in arguments[1:]]
    listeners = [(socket.socket(fileno=int(number)), name == "dicom_tls") for name, number in pairs]
    try:
        acceptor = Acceptor(options, channel)
        acceptor.start(listeners)
    except (OSError, SpoolUnavailable, SettingsError) as error:
        channel.tell(AcceptorFailed(str(error)))
        channel.close()
        os._exit(1)  # threads that were started by then hold nothing that matters
    gc.collect()
    gc.freeze()  # what is loaded now stays; collecting it again and again would stop every association
    with contextlib.suppress(StopIteration):
        while acceptor.obey(next(messages)):
            pass
    for listener, _ in listeners:
        listener.close()
    acceptor.stop()
    channel.close()
    os._exit(0)  # threads that still wait in a system call hold nothing that matters


def _options(message: Message) -> AcceptorOptions:
    if not isinstance(message, Options):
        raise TypeError(f"the first message of the parent is {type(message).__name__}, not Options")
    return message.options


def _prepare_process() -> None:
    watch_threads(lambda: os._exit(1))  # the parent starts another
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    # Ctrl-C goes to the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold patient data
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(_STACK_BYTES)
    share_one_heap()


if __name__ == "__main__":
    main(sys.argv[1:])
