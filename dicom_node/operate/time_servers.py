"""How far the clock of this machine is from a time server's: SNTP, the client's half (RFC 4330; RFC 5905, 14).

One question, one answer. Nothing here sets a clock. Whoever can send packets may forge an answer, so one counts only
if it comes from the address that was asked and repeats a number that nobody else knows.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dicom_node.core.errors import TimeUnavailable, fault_told

NTP_PORT = 123
#: Flags, stratum, poll, precision; root delay, root dispersion; reference identifier; four times (RFC 5905, 7.3).
_PACKET = struct.Struct("!BBbbII4sQQQQ")
_CLIENT, _SERVER, _VERSION = 3, 4, 4
_UNSYNCHRONISED_LEAP, _UNSYNCHRONISED_STRATUM = 3, 16
_HALF_ERA = 1 << 63
#: 1970-01-01 in seconds since 1900-01-01, and how long the seconds of an NTP time go before they begin anew.
_EPOCH_S, _ERA_S = 2_208_988_800, 1 << 32
#: Of a name with many addresses, so many are asked.
_ADDRESSES = 3
#: An answer has 48 bytes, and more only with extensions; what is longer is none.
_LONGEST_BYTES = 1024


@dataclass(frozen=True, slots=True)
class TimeServer:
    """Where a time server is."""

    host: str
    port: int = NTP_PORT

    @property
    def name(self) -> str:
        """The server for people."""
        return self.host if self.port == NTP_PORT else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a server said: it is `offset_s` ahead of this machine, give or take `error_s`: half the way there and back,
    and how wrong the server may be itself (root distance: RFC 5905, 11.2)."""

    server: str
    offset_s: float
    error_s: float
    stratum: int


def ask(server: TimeServer, timeout_s: float = 2.0) -> Reading:
    """Ask a server for the time, at each of its addresses until one answers. Raises `TimeUnavailable`."""
    refused = TimeUnavailable(f"{server.name} has no address. Correct time.servers.")
    for family, address in _addresses(server):
        try:
            return replace(_ask_at(family, address, timeout_s), server=server.name)
        except TimeUnavailable as error:
            refused = TimeUnavailable(f"{server.name} {error}", error.kiss)
        except OSError as error:
            refused = TimeUnavailable(f"{server.name} cannot be asked ({fault_told(error)})")
    raise refused


def agreed(readings: Sequence[Reading]) -> Reading | None:
    """Return the surest reading that more than half of all can be right together with; `None` where they contradict
    each other (the interval of each must overlap its own: RFC 5905, 11.2.1)."""
    surest_first = sorted(readings, key=lambda one: one.error_s)
    return next((one for one in surest_first if 2 * _with(one, readings) > len(readings)), None)


def _with(one: Reading, readings: Sequence[Reading]) -> int:
    return sum(abs(one.offset_s - other.offset_s) <= one.error_s + other.error_s for other in readings)


def _addresses(server: TimeServer) -> Sequence[tuple[socket.AddressFamily, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    except OSError:
        return ()
    return [(family, address) for family, _, _, _, address in found[:_ADDRESSES]]


def _ask_at(family: socket.AddressFamily, address: tuple[object, ...], timeout_s: float) -> Reading:
    """Send one question and wait for its answer; what else comes meanwhile is passed over, whoever sent it."""
    mark = secrets.randbits(64) | 1
    with socket.socket(family, socket.SOCK_DGRAM) as line:
        line.connect(address)  # from then on the kernel drops what comes from any other address or port
        sent_at, began = time.time(), time.monotonic()
        line.send(_question(mark))
        while (left_s := began + timeout_s - time.monotonic()) > 0:
            line.settimeout(left_s)
            try:
                packet = line.recv(_LONGEST_BYTES)
            except TimeoutError:
                break
            took_s = time.monotonic() - began
            if _answers(packet, mark):
                return _reading(packet, sent_at, took_s)
    raise TimeUnavailable("does not answer")


def _question(mark: int) -> bytes:
    """Return a client's packet. All of it is empty but the time it was sent, which the server only repeats: a number
    drawn by lot tells nothing of this machine, and cannot be guessed."""
    return _PACKET.pack(_VERSION << 3 | _CLIENT, 0, 0, 0, 0, 0, b"", 0, 0, 0, mark)


def _answers(packet: bytes, mark: int) -> bool:
    """Tell whether a packet is a server's and repeats the mark of the question (RFC 4330, 5: the originate time)."""
    if len(packet) < _PACKET.size:
        return False
    flags, *_, originate, _, _ = _PACKET.unpack_from(packet)
    return bool(flags & 7 == _SERVER and originate == mark)


def _reading(packet: bytes, sent_at: float, took_s: float) -> Reading:
    """Return offset and error of an answer (RFC 4330, 5). Raises `TimeUnavailable` for one that tells no time."""
    flags, stratum, _, _, delay, dispersion, identifier, reference, _, received, answered = _PACKET.unpack_from(packet)
    if stratum == 0:
        kiss = identifier.decode("ascii", "replace").rstrip("\0")
        raise TimeUnavailable(f"asks to be left alone (kiss-o'-death {kiss!r})", kiss)
    if flags >> 6 == _UNSYNCHRONISED_LEAP or stratum >= _UNSYNCHRONISED_STRATUM:
        raise TimeUnavailable("does not know the time itself (unsynchronised)")
    there_s, back_s, updated_s = _seconds(received), _seconds(answered), _seconds(reference)
    if not received or not answered or back_s < there_s or (reference and updated_s > back_s):
        raise TimeUnavailable("answers with times that cannot be")
    way_s = max(0.0, took_s - (back_s - there_s))
    offset_s = ((there_s - sent_at) + (back_s - sent_at - took_s)) / 2
    return Reading("", offset_s, way_s / 2 + _short(delay) / 2 + _short(dispersion), stratum)


def _short(value: int) -> float:
    """Return an NTP short of 16.16 bits in seconds."""
    return float(value) / (1 << 16)


def _seconds(value: int) -> float:
    """Return an NTP time as seconds since 1970: without its highest bit it is of 2036 or later (RFC 4330, 3)."""
    later_s = 0 if value & _HALF_ERA else _ERA_S
    return value / (1 << 32) + later_s - _EPOCH_S
