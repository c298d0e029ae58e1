"""The node's own MLLP listener: frames of HL7 v2 messages in, acknowledgements out; one thread for each connection.

A frame is <VT> message <FS><CR> (HL7 v2.5.1 implementation guide, appendix C). Before anything of a stranger is read
his address is looked up; a message is held to its size and to one deadline from its first byte to its last.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node.config.incoming import Hl7Settings
from dicom_node.core.errors import SettingsError
from dicom_node.core.metrics.table import HL7_MESSAGES
from dicom_node.core.metrics.tally import TALLY
from dicom_node.end import VitalThread
from dicom_node.orders.hl7_message import Hl7Segment
from dicom_node.orders.inbox import Inbox, Taken
from dicom_node.receive.acceptor.strangers import Strangers
from dicom_node.receive.acceptor.transport import tls_context
from dicom_node.receive.channel import CallerRefused

_START, _END = b"\x0b", b"\x1c"
_READ_BYTES = 65536
#: So much that is no frame is passed over between two frames: line ends, blanks, what a port scanner says.
_MOST_GARBAGE = 4096
#: So many messages are read at once; the others wait as bytes.
_READERS = 4
_HANDSHAKE_S = 10.0
_EXHAUSTED_WAIT_S = 0.2
_END_S = 5.0
#: Of callers that were turned away so many are kept until somebody asks for them.
_MOST_TURNED_AWAY = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderOption:
    """Who may send: from which network, as which application and facility (empty: any), with which certificate."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    application: str = ""
    facility: str = ""
    character_set: str = "utf-8"
    certificate_sha256: str = ""


_ANYBODY = SenderOption(network=ipaddress.ip_network("::/0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpOptions:
    """What the listener holds its peers to; without `senders` everybody who reaches it may send."""

    senders: Sequence[SenderOption] = ()
    tls: ssl.SSLContext | None = None
    max_connections: int = 32
    max_connections_per_peer: int = 8
    max_message_bytes: int = 1 << 20
    message_timeout_s: float = 30.0
    idle_timeout_s: float = 900.0


class _Over(Exception):
    """The connection ends; the text says why."""


class _Unproven(_Over):
    """It ends because who called has not shown that he may."""


class _Idle(_Over):
    """It ends because nothing was said on it for long, which is nobody's fault."""


class MllpListener:
    """Serves one listening socket until it is stopped."""

    def __init__(self, listener: socket.socket, options: MllpOptions, inbox: Inbox) -> None:
        self._listener = listener
        self._options = options
        self._inbox = inbox
        self._strangers = Strangers(tell=self._tell_refused)
        self._turned_away: deque[CallerRefused] = deque(maxlen=_MOST_TURNED_AWAY)
        self._readers = threading.BoundedSemaphore(_READERS)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, str] = {}
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def turned_away(self) -> list[CallerRefused]:
        """Return who was turned away since this was asked last."""
        self._strangers.tell_rest()
        return [self._turned_away.popleft() for _ in range(len(self._turned_away))]

    def start(self) -> None:
        """Begin to serve."""
        VitalThread(self._accept, "hl7-accept").start()

    def stop(self) -> None:
        """Take no more connections and end those that are open; a message that was not acknowledged comes again."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait until the messages that were being taken are in the index, or are not."""
        until = time.monotonic() + _END_S
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    # --- who comes in ---

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if not self._stopping.is_set():  # files are used up, or the peer has gone already
                    _log.warning("hl7 connection not accepted", extra={"why": error.strerror})
                    self._stopping.wait(_EXHAUSTED_WAIT_S)
                continue
            self._admit(connection, _plain(address[0]))

    def _admit(self, connection: socket.socket, host: str) -> None:
        why = self._why_not(host)
        if why:
            self._strangers.refused("hl7 connection refused", host, why=why)
            connection.close()
            return
        with self._lock:
            self._open[connection] = host
        thread = threading.Thread(target=self._serve, args=(connection, host), name=f"hl7-{host}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left: those who are here are served
            self._forget(connection)
            self._threads.discard(thread)
            self._strangers.refused("hl7 connection refused", host, why="the system has no thread left")
            connection.close()

    def _tell_refused(self, _calling: str, host: str, why: str, count: int) -> None:
        self._turned_away.append(CallerRefused("", host, why, count))

    def _why_not(self, host: str) -> str:
        if self._options.senders and not self._senders_at(host):
            return "no [[hl7.peer]] may send from this address"
        with self._lock:
            held = Counter(self._open.values())
        if held.total() >= self._options.max_connections or held[host] >= self._options.max_connections_per_peer:
            return "too many connections are open"
        return ""

    def _senders_at(self, host: str) -> list[SenderOption]:
        address = ipaddress.ip_address(host)
        return [one for one in self._options.senders if address in one.network]

    # --- one connection ---

    def _serve(self, connection: socket.socket, host: str) -> None:
        peer = connection
        try:
            peer = self._greeted(connection, host)
            self._talk(peer, host, self._proven(peer, host))
        except _Unproven as unproven:
            self._strangers.refused("hl7 connection refused", host, why=str(unproven))
        except _Over as over:
            level = logging.INFO if isinstance(over, _Idle) else logging.WARNING
            _log.log(level, "hl7 connection ended", extra={"host": host, "why": str(over)})
        except OSError as error:
            _log.info("hl7 connection lost", extra={"host": host, "why": type(error).__name__})
        finally:
            self._forget(connection, peer)
            self._threads.discard(threading.current_thread())
            peer.close()
            connection.close()

    def _forget(self, *connections: socket.socket) -> None:
        with self._lock:
            for one in connections:
                self._open.pop(one, None)

    def _greeted(self, connection: socket.socket, host: str) -> socket.socket:
        """Return the connection, with hands shaken where TLS is spoken. Raises `_Unproven`, `OSError`."""
        connection.settimeout(_HANDSHAKE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._options.tls is None:
            return connection
        peer = self._options.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:  # it holds the descriptor from now on
            self._open[peer] = self._open.pop(connection, host)
        try:
            peer.do_handshake()
        except OSError as error:  # no certificate, too slow, or hung up
            peer.close()
            self._forget(peer)
            reason = getattr(error, "reason", None) or type(error).__name__
            raise _Unproven(f"hands could not be shaken ({reason})") from error
        return peer

    def _proven(self, peer: socket.socket, host: str) -> list[SenderOption]:
        """Return who this may be, by address and certificate; `[]` where nobody is listed. Raises `_Unproven`."""
        at_host = self._senders_at(host)
        shown = peer.getpeercert(binary_form=True) if isinstance(peer, ssl.SSLSocket) else None
        digest = hashlib.sha256(shown).hexdigest() if shown else ""
        proven = [
            one for one in at_host if not one.certificate_sha256 or hmac.compare_digest(one.certificate_sha256, digest)
        ]
        if self._options.senders and not proven:
            raise _Unproven("it showed no certificate of a [[hl7.peer]] with this address")
        return proven

    def _talk(self, peer: socket.socket, host: str, senders: Sequence[SenderOption]) -> None:
        """Answer message by message until the peer hangs up, falls silent, or says what is no frame."""

        def character_set_of(header: Hl7Segment) -> str | None:
            known = senders or (_ANYBODY,)
            found = next((one.character_set for one in known if _is_from(header, one)), None)
            if found is None:
                why = "no [[hl7.peer]] at this address is its application and facility"
                self._strangers.refused("hl7 sender refused", host, why=why)
            return found

        for message, is_whole in _Frames(peer, self._options):
            started = time.monotonic()
            with self._readers:
                taken = self._inbox.take(message, character_set_of) if is_whole else self._inbox.cut_off(message)
            peer.settimeout(self._options.message_timeout_s)
            for answer in taken.answers:
                peer.sendall(_START + answer + _END + b"\r")
            self._tell(host, taken, time.monotonic() - started)
            if not is_whole:
                raise _Over("a message was larger than hl7.max_message_kb")

    def _tell(self, host: str, taken: Taken, took_s: float) -> None:
        TALLY.count(HL7_MESSAGES, message=taken.kind.partition("^")[0], outcome=taken.outcome.replace(" ", "_"))
        what = {"host": host, "kind": taken.kind, "took_ms": round(took_s * 1000)}
        if taken.why:
            _log.warning(f"hl7 message {taken.outcome}", extra=what | {"why": taken.why})
        else:
            _log.info(f"hl7 message {taken.outcome}", extra=what)


class _Frames:
    """The messages that come on one connection, each with whether it is whole: of one that is too large, the beginning.

    A frame that begins inside another means that the first was broken off: it is dropped and not answered.
    """

    def __init__(self, peer: socket.socket, options: MllpOptions) -> None:
        self._peer = peer
        self._options = options
        self._buffer = bytearray()

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        while self._begun():
            yield self._rest()

    def _begun(self) -> bool:
        """Wait for the start of a frame, passing over what stands before it; `False`: the peer has hung up."""
        deadline, passed = time.monotonic() + self._options.idle_timeout_s, 0
        while (start := self._buffer.find(_START)) < 0:
            passed += len(self._buffer)
            self._buffer.clear()
            if passed > _MOST_GARBAGE:
                raise _Over("what it sends is no frame of MLLP")
            if not self._more(deadline, _Idle("it sent no message for hl7.idle_timeout_s")):
                return False
        if passed + start > _MOST_GARBAGE:
            raise _Over("what it sends is no frame of MLLP")
        del self._buffer[: start + 1]
        return True

    def _rest(self) -> tuple[bytes, bool]:
        """Return a message that has begun. Raises `_Over` where it is not whole in time."""
        deadline, looked = time.monotonic() + self._options.message_timeout_s, 0
        while (end := self._buffer.find(_END, looked)) < 0:
            looked = len(self._buffer)
            if looked > self._options.max_message_bytes:
                return bytes(self._buffer[: self._options.max_message_bytes]), False
            if not self._more(deadline, _Over("a message took longer than hl7.message_timeout_s")):
                raise _Over("it hung up in the middle of a message")
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(message) > self._options.max_message_bytes:
            return message[: self._options.max_message_bytes], False
        return message.rpartition(_START)[2], True

    def _more(self, deadline: float, too_late: _Over) -> bool:
        """Read what is there; `False` at the end of the connection. Raises `too_late` when the time is over."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise too_late
        self._peer.settimeout(left_s)
        try:
            received = self._peer.recv(_READ_BYTES)
        except TimeoutError as error:
            raise too_late from error
        self._buffer += received
        return bool(received)


def _plain(host: str) -> str:
    """Return an address; of IPv4 on a socket that takes both, the IPv4 one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_from(header: Hl7Segment, sender: SenderOption) -> bool:
    return sender.application in ("", header.value(3)) and sender.facility in ("", header.value(4))


# --- from the settings --------------------------------------------------------------------------------------------


def mllp_options(settings: Hl7Settings) -> MllpOptions:
    """Return what the settings say of the listener. Raises `SettingsError` for files of TLS that cannot be used."""
    return MllpOptions(
        senders=tuple(
            SenderOption(
                network=ipaddress.ip_network(network, strict=False), application=one.application,
                facility=one.facility, character_set=one.character_set, certificate_sha256=one.certificate_sha256,
            )
            for one in settings.peer
            for network in one.networks
        ),
        tls=_tls(settings),
        max_connections=settings.max_connections,
        max_connections_per_peer=settings.max_connections_per_peer,
        max_message_bytes=settings.max_message_kb * 1024,
        message_timeout_s=settings.message_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
    )  # fmt: skip


def _tls(settings: Hl7Settings) -> ssl.SSLContext | None:
    if not settings.certificate:
        return None
    files = [str(one or "") for one in (settings.certificate, settings.private_key, settings.ca)]
    try:
        return tls_context(files[0], files[1], files[2], settings.client_certificate)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"hl7.certificate, hl7.private_key or hl7.ca cannot be used ({type(error).__name__}: {error.strerror}). "
            "Give PEM files that the node may read and that belong together."
        ) from error
