"""Who may come in, and whether anything can: decided before anything is set up for it."""

from __future__ import annotations

import hmac
import ipaddress
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import SpoolUnavailable
from dicom_node.dimse.vocabulary import CONGESTED, TOO_MANY, UNKNOWN_CALLED, UNKNOWN_CALLER, UNKNOWN_USER, Rejection
from dicom_node.receive.options import AcceptorOptions, AeOption, PeerOption

_USERNAME, _USERNAME_AND_PASSCODE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingPeer:
    """Who asks for an association, over what; `certificate_sha256` is of the certificate it showed, if any."""

    calling_ae_title: str
    called_ae_title: str
    host: str
    tls: bool = False
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """User Identity Negotiation as requested (PS3.7 D.3.3.7.1)."""

    kind: int
    wants_response: bool
    primary: bytes
    secondary: bytes


class NotAdmitted(Exception):
    """The association is rejected; `rejection` is the answer."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.why)
        self.rejection = rejection


class _Rules:
    """Who may call whom: never changed, but replaced as a whole."""

    def __init__(self, options: AcceptorOptions) -> None:
        self.aes = {ae.ae_title: ae for ae in options.aes}
        self.peers = [(peer, _network(peer.network)) for peer in options.peers]
        self.users = options.users
        # Nothing can be kept free for peers that nobody has named, or where one address is all of them.
        self.keeps_places_free = sum(network.num_addresses for network in {one for _, one in self.peers}) > 1


class PeerAdmission:
    """The rules, and how many associations each peer has. Thread-safe."""

    def __init__(self, options: AcceptorOptions, has_disk: Callable[[], bool]) -> None:
        self._options = options
        self._has_disk = has_disk
        self._rules = _Rules(options)
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def renew(self, options: AcceptorOptions) -> None:
        """Judge by the AE titles, peers and users of these options from now on; who is in stays."""
        self._rules = _Rules(options)

    def is_foreign(self, host: str) -> bool:
        """Tell whether no peer at all may call from this address."""
        address, peers = _address(host), self._rules.peers
        return bool(peers) and not any(address in network for _, network in peers)

    def called(self, caller: CallingPeer) -> AeOption:
        """Return the AE title that is called, when this caller may call it. Raises `NotAdmitted`."""
        rules = self._rules
        ae = rules.aes.get(caller.called_ae_title)
        if ae is None:
            raise NotAdmitted(UNKNOWN_CALLED)
        if (ae.tls and not caller.tls) or not _is_listed(rules, caller, ae):
            raise NotAdmitted(UNKNOWN_CALLER)
        return ae

    def policy(self, caller: CallingPeer, identity: Identity | None) -> AeOption:
        """Return the policy of the called AE title. Raises `NotAdmitted`."""
        ae = self.called(caller)
        if not self._is_known_user(identity):
            raise NotAdmitted(UNKNOWN_USER)
        if not self._has_disk():
            raise NotAdmitted(CONGESTED)
        return ae

    @contextmanager
    def place(self, host: str) -> Iterator[None]:
        """Hold one of the places for associations while the block runs. Raises `NotAdmitted` when all are taken."""
        with self._lock:
            if self._open[host] >= self._most_for(host):
                raise NotAdmitted(TOO_MANY)
            self._open[host] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[host] -= 1
                if not self._open[host]:
                    del self._open[host]  # else one entry stays for every address that ever called

    def _most_for(self, host: str) -> int:
        """Return how many associations this address may have now.

        With listed peers, never more than places are free (dynamic thresholds, Choudhury and Hahne 1998): one address
        gets half of all, two a third each, and a peer that has none yet finds one.
        """
        free = self._options.max_associations - self._open.total()
        most = self._options.max_associations_per_peer
        return min(most, free if self._rules.keeps_places_free else self._open[host] + free)

    def _is_known_user(self, identity: Identity | None) -> bool:
        users = self._rules.users
        if not users:
            return True
        if identity is None or identity.kind not in (_USERNAME, _USERNAME_AND_PASSCODE):
            return False
        passcode = identity.secondary if identity.kind == _USERNAME_AND_PASSCODE else b""
        matches = [
            hmac.compare_digest(user.name.encode(), identity.primary)
            & hmac.compare_digest(user.password.encode(), passcode)
            for user in users
        ]
        return any(matches)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; of IPv4 on a socket that takes both, the IPv4 one."""
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return a network; one of IPv4 addresses written as those of IPv6 (RFC 4291 2.5.5.2), the IPv4 one."""
    network = ipaddress.ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return network if mapped is None else ipaddress.ip_network(f"{mapped}/{max(network.prefixlen - 96, 0)}")


def _is_listed(rules: _Rules, caller: CallingPeer, ae: AeOption) -> bool:
    if not rules.peers:
        return True
    if ae.peers and caller.calling_ae_title not in ae.peers:
        return False
    address = _address(caller.host)
    return any(
        peer.ae_title == caller.calling_ae_title and address in network and _is_proven(caller, peer)
        for peer, network in rules.peers
    )


def _is_proven(caller: CallingPeer, peer: PeerOption) -> bool:
    if peer.tls and not caller.tls:
        return False
    return not peer.certificate_sha256 or hmac.compare_digest(peer.certificate_sha256, caller.certificate_sha256)


# --- capacity ------------------------------------------------------------------------------------------------------

_LOOK_EVERY_S = 0.2


class Capacity:
    """Whether the node can take in what comes; asked for every object, so it is cheap. Thread-safe."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._looked_at = -1.0
        self._fault = ""
        #: Set by the parent process: why it cannot file what is received, "" when it can.
        self.unavailable_reason = ""

    def has_disk(self) -> bool:
        """Tell whether the disk below the spool is there and has more free than the reserve."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_EVERY_S:
            self._fault = self._look()
            self._looked_at = now
        return not self._fault

    def check(self) -> None:
        """Raise `SpoolUnavailable` when nothing can be taken now."""
        if self.unavailable_reason:
            raise SpoolUnavailable(self.unavailable_reason)
        if not self.has_disk():
            raise SpoolUnavailable(self._fault)

    def _look(self) -> str:
        """Return what is wrong with the disk, "" when nothing is."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:  # not mounted any more, or its server is gone
            return f"The spool is not there ({error.strerror}). Mount the disk of node.data_dir again."
        if disk.f_bavail * disk.f_frsize <= self._min_free_bytes:
            return "Less disk is free than node.min_free_mb. Free space below node.data_dir."
        return ""
