"""From the settings to a running acceptor. Loads nothing heavy: it runs before everything else of a start."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import socket
import sys
from pathlib import Path

from dicom_node.config.incoming import DEFAULT_JOURNAL, AeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.alarms.rules import SELF_TEST_TITLE
from dicom_node.core.errors import SettingsError
from dicom_node.receive.options import MAX_WAITING, AcceptorOptions, AeOption, PeerOption, TlsOption, UserOption
from dicom_node.receive.process import AcceptorProcess
from dicom_node.storage.folder import make_folder, make_private
from dicom_node.storage.journal import HEAD_BYTES, SLOT_BYTES
from dicom_node.storage.owners import read_note, take_lock

_MEGABYTE = 1 << 20
_BACKLOG = 256
#: The journal takes at most this part of the disk that is free when it is made.
_DISK_SHARE = 4
_SLOT_BYTES = SLOT_BYTES + HEAD_BYTES
_FEWEST_SLOTS, _FILES_PER_ASSOCIATION, _OTHER_FILES = 2, 2, 64
_MORE_FILES = "Allow more: LimitNOFILE=8192 in the systemd unit, ulimit -n 8192 in a shell"
_LOCK = "lock"
_PREDECESSOR_ENDS_S = 10.0


def receiver_id(settings: Settings) -> str:
    """Return what this receiver is known by; it stays the same over restarts, so that it can tidy up after itself."""
    place = f"{socket.gethostname()}:{settings.dicom.host}:{settings.dicom.port}"
    if settings.dicom.journal == DEFAULT_JOURNAL:
        return place[:64]
    # Containers may be equal in all of that; their journals are not.
    return f"{place[:55]}:{hashlib.sha256(settings.dicom.journal.encode()).hexdigest()[:8]}"


def start_acceptor(settings: Settings) -> AcceptorProcess:
    """Open the DICOM ports and start the process that serves them. Raises `SettingsError`."""
    make_folder(settings.node.data_dir)
    lock = lock_journal(journal_folder(settings))
    listeners: dict[str, socket.socket] = {}
    if settings.dicom.plain:
        listeners["dicom"] = open_listener(settings.dicom.host, settings.dicom.port)
    if settings.dicom_tls.certificate:
        tls = settings.dicom_tls
        listeners["dicom_tls"] = open_listener(tls.host or settings.dicom.host, tls.port, "dicom_tls")
    return AcceptorProcess(acceptor_options(settings), listeners, lock)


def journal_folder(settings: Settings) -> Path:
    """Return where the journal lies; it belongs to one receiver alone."""
    return settings.node.data_dir / settings.dicom.journal


def not_taken_file(settings: Settings) -> Path:
    """Return where a receiver writes what peers proposed and it did not take; all of a node's lie in one folder."""
    return settings.node.data_dir / "not-taken" / f"{Path(settings.dicom.journal).name}.json"


def lock_journal(folder: Path) -> int:
    """Take a journal for this receiver, and return the descriptor that holds it.

    The acceptor, which outlives a parent that was killed by some moments, holds it too: so long nobody else may use
    the slots. Raises `SettingsError` that names the receiver which has it.
    """
    make_private(folder)
    path = folder / _LOCK
    lock = take_lock(path, {"pid": os.getpid(), "host": socket.gethostname()}, _PREDECESSOR_ENDS_S)
    if lock is None:
        other = read_note(path)
        raise SettingsError(
            f"The journal {folder} belongs to a receiver that runs: process {other.get('pid', '?')} on "
            f"{other.get('host', '?')}, since {other.get('since', '?')}. Two receivers in one journal lose images. End "
            "that one, or give this one another node.data_dir; or another dicom.journal, to share the data folder."
        )
    return lock


def acceptor_options(settings: Settings) -> AcceptorOptions:
    """Return what the acceptor must know."""
    node, dicom = settings.node, settings.dicom
    own = AeOption(ae_title=node.ae_title, any_sop_class=dicom.accept_any_sop_class)
    return AcceptorOptions(
        spool=str(node.data_dir / "spool"),
        journal=str(journal_folder(settings)),
        # Several receivers may share a spool; each tidies up after itself only.
        parts_owner=f"dicom-{hashlib.sha256(receiver_id(settings).encode()).hexdigest()[:8]}",
        aes=(own, *map(_ae, settings.ae)),
        peers=tuple(
            PeerOption(ae_title=p.ae_title, network=network, tls=p.tls, certificate_sha256=p.certificate_sha256)
            for p in settings.peer
            for network in p.networks
        )
        + _itself(settings),
        users=tuple(UserOption(name=u.name, password=u.password.get_secret_value()) for u in settings.user),
        tls=_tls(settings),
        max_associations=dicom.max_associations,
        max_associations_per_peer=dicom.max_associations_per_peer,
        max_pdu_bytes=dicom.max_pdu_bytes,
        max_object_bytes=dicom.max_object_mb * _MEGABYTE,
        min_free_bytes=node.min_free_mb * _MEGABYTE,
        journal_slots=_slots(settings),
        idle_timeout_s=dicom.network_timeout_s,
        pdu_timeout_s=dicom.pdu_timeout_s,
        log_level=node.log_level,
    )


def own_host(settings: Settings) -> str:
    """Return the address at which the node calls itself."""
    host = settings.dicom.host
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host) or str(socket.getaddrinfo(host, 0)[0][4][0])  # noqa: S104


def _itself(settings: Settings) -> tuple[PeerOption, ...]:
    """Let the node call itself from its own address, where it tests itself and peers are listed."""
    if not (settings.selftest.at and settings.peer):
        return ()
    return (PeerOption(ae_title=SELF_TEST_TITLE, network=own_host(settings)),)


def _ae(ae: AeSettings) -> AeOption:
    return AeOption(ae_title=ae.ae_title, peers=ae.peers, tls=ae.tls, any_sop_class=ae.accept_any_sop_class)


def _tls(settings: Settings) -> TlsOption | None:
    tls = settings.dicom_tls
    if not tls.certificate:
        return None
    return TlsOption(
        certificate=str(tls.certificate),
        private_key=str(tls.private_key or ""),
        authorities=str(tls.ca or ""),
        client_certificate=tls.client_certificate,
        handshake_timeout_s=tls.handshake_timeout_s,
    )


def _slots(settings: Settings) -> int:
    """Return how many slots the journal gets: what is configured, less on a small disk, where those that are there
    count as free, and no more than can be held open. Raises `SettingsError` when too few can."""
    present = len(list(journal_folder(settings).glob("*.slot")))
    free = shutil.disk_usage(settings.node.data_dir).free + present * _SLOT_BYTES
    most = _slots_held_open(settings)
    if most < _FEWEST_SLOTS:
        raise SettingsError(
            f"A process may hold {_most_files()} files open here, too few for dicom.max_associations = "
            f"{settings.dicom.max_associations}. {_MORE_FILES}, or set dicom.max_associations lower."
        )
    return min(most, max(_FEWEST_SLOTS, min(_wanted_slots(settings), free // _DISK_SHARE // _SLOT_BYTES)))


def _wanted_slots(settings: Settings) -> int:
    return settings.dicom.journal_mb * _MEGABYTE // _SLOT_BYTES


def _slots_held_open(settings: Settings) -> int:
    """Return how many slots the acceptor can hold open beside associations, each with a file that it receives, and
    connections that have not said who they are."""
    return _most_files() - _FILES_PER_ASSOCIATION * settings.dicom.max_associations - MAX_WAITING - _OTHER_FILES


def _most_files() -> int:
    """Return how many files the acceptor may hold open: it makes use of the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def files_wanting(settings: Settings) -> str:
    """Return why the journal has fewer slots than the settings want, when it is for files that may not be opened."""
    if _slots_held_open(settings) >= _wanted_slots(settings):
        return ""
    return f"a process may hold {_most_files()} files open here, one for each slot. {_MORE_FILES}."


def open_listener(host: str, port: int, section: str = "dicom") -> socket.socket:
    """Listen on `host`:`port` (0: any free port); on ``::`` IPv4 peers are heard, too.

    Raises `SettingsError` when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise SettingsError(
            f"The node cannot listen on {host}:{port} ({error.strerror}). Another program has the port, or the address "
            f"is not this machine's; change {section}.host or {section}.port."
        ) from error
