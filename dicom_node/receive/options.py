"""What the acceptor process is told at its start: plain data, made from the settings by `start`."""

from __future__ import annotations

from dataclasses import dataclass

#: Connections that have not said who they are, at once.
MAX_WAITING = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOption:
    """Who may send: a calling AE title, from where, and how it proves itself."""

    ae_title: str
    network: str
    tls: bool = False
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AeOption:
    """One AE title the node answers to, and its policy. No `peers`: every listed peer."""

    ae_title: str
    peers: tuple[str, ...] = ()
    tls: bool = False
    any_sop_class: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOption:
    """A user for identity negotiation (PS3.7 D.3.3.7); no password: the name alone will do."""

    name: str
    password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOption:
    """Files and rules of the TLS listener."""

    certificate: str
    private_key: str
    authorities: str
    client_certificate: str
    handshake_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorOptions:
    """Everything the acceptor needs to know."""

    spool: str
    journal: str
    parts_owner: str
    aes: tuple[AeOption, ...]
    peers: tuple[PeerOption, ...] = ()
    users: tuple[UserOption, ...] = ()
    tls: TlsOption | None = None
    max_associations: int = 64
    max_associations_per_peer: int = 32
    max_waiting: int = MAX_WAITING
    max_pdu_bytes: int = 131072
    max_object_bytes: int = 4 << 30
    min_free_bytes: int = 0
    journal_slots: int = 512
    idle_timeout_s: float = 60.0
    pdu_timeout_s: float = 30.0
    log_level: str = "INFO"
