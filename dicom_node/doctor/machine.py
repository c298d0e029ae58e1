"""This machine: clock, data folder, database, ports."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx
import sqlalchemy
from pyorthanc import Orthanc
from sqlalchemy.exc import SQLAlchemyError

import dicom_node
from dicom_node.config.settings import Settings
from dicom_node.core.errors import IndexUnavailable, SettingsError, fault_told
from dicom_node.doctor.check import Check, current_user
from dicom_node.index.damage import damage_counts, round_ended_at
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.storage.folder import existing_part, why_not_writable
from dicom_node.storage.owners import SILENT_S, Owner, Owners

_MB = 1 << 20
PORTS_FILE = "ports.json"


def check_clock(now: datetime | None = None) -> Check:
    """The clock is no earlier than the program itself; times in results are only as right as this clock."""
    now = now or datetime.now().astimezone()
    installed = datetime.fromtimestamp(Path(dicom_node.__file__).stat().st_mtime, UTC)
    text = f"{now:%Y-%m-%d %H:%M:%S}, UTC{now:%z}"
    if now < installed - timedelta(hours=1):
        return Check("clock", False, f"{text}, which is before this program was installed", "Set the clock; run NTP.")
    return Check("clock", True, text)


def check_data_dir(settings: Settings) -> Check:
    """The data folder can be written, and has more room than the reserve below which images are refused."""
    name, folder = "data folder", settings.node.data_dir.resolve()
    existing = existing_part(folder)
    reason = why_not_writable(existing)
    if reason:
        advice = f"Give the user {current_user()} the right to write there, or set node.data_dir."
        return Check(name, False, f"{existing} cannot be written ({reason})", advice)
    free_mb = shutil.disk_usage(existing).free // _MB
    if free_mb < settings.node.min_free_mb:
        text = f"{folder} has {free_mb} MB free, below node.min_free_mb {settings.node.min_free_mb}"
        return Check(name, False, text, "Free space or move node.data_dir; until then every new image is refused.")
    missing = "" if folder.exists() else ", made at first start"
    return Check(name, True, f"{folder}, {free_mb} MB free{missing}")


def check_database(settings: Settings) -> Check:
    """The database answers and its schema is one this version of the program knows."""
    name, url = "database", sqlalchemy.make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return Check(name, True, f"{shown}, made at first start")
    try:
        database = Database(settings.database_url)
        try:
            version = database.schema_version()
        finally:
            database.close()
    except (IndexUnavailable, SettingsError, SQLAlchemyError) as error:
        return Check(name, False, f"{shown}: {error}", "Start the server, or correct database.url.")
    if version is None:
        return Check(name, True, f"{shown}, empty: tables are made at first start")
    if version > SCHEMA_HEAD:
        text = f"{shown} has schema {version}, newer than this program's {SCHEMA_HEAD}"
        return Check(name, False, text, "Install the version of the node that wrote it, or a newer one.")
    state = "up to date" if version == SCHEMA_HEAD else f"brought to {SCHEMA_HEAD} at the next start"
    return Check(name, True, f"{shown}, schema {version}, {state}")


def check_kept_objects(settings: Settings) -> list[Check]:
    """Nothing that is kept is known to be damaged; no check before a node of this version has run."""
    url = sqlalchemy.make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return []
    try:
        database = Database(settings.database_url)
    except SettingsError:
        return []  # told by the check of the database
    try:
        if database.schema_version() != SCHEMA_HEAD:
            return []
        with database.read() as connection:
            damaged, since = damage_counts(connection), round_ended_at(connection)
    except (IndexUnavailable, SQLAlchemyError):
        return []  # told by the check of the database
    finally:
        database.close()
    name = "kept objects"
    if damaged.total:
        text = f"damaged: {damaged.images} images, {damaged.results} results, {damaged.records} records of the journal"
        return [Check(name, False, text, "Look at the disk; docs/how-to/operate.md says how each is made whole.")]
    seen = "not all read yet" if since is None else f"all read by {since:%Y-%m-%d %H:%M} UTC"
    return [Check(name, True, f"no damage known, {seen}")]


def check_ports(settings: Settings) -> list[Check]:
    """Each listener's port is free, or a process that lives on this data folder serves it."""
    living = _living(settings.node.data_dir)
    return [_check_port(listener, living) for listener in _listeners(settings)]


def running_ports(settings: Settings) -> dict[str, int]:
    """The ports the node wrote down when it last began to listen; empty if it never did."""
    try:
        found = json.loads((settings.node.data_dir / PORTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, int)}


@dataclass(frozen=True, slots=True)
class _Listener:
    """A port that the settings open: its name for people, the name under which a process notes it, and its section."""

    name: str
    noted_as: str
    section: str
    host: str
    port: int


def _listeners(settings: Settings) -> Iterator[_Listener]:
    dicom, tls, api, hl7 = settings.dicom, settings.dicom_tls, settings.api, settings.hl7
    if dicom.plain:
        yield _Listener("DICOM port", "dicom", "dicom", dicom.host, dicom.port)
    if tls.certificate:
        yield _Listener("DICOM TLS port", "dicom_tls", "dicom_tls", tls.host or dicom.host, tls.port)
    if api.enabled:
        yield _Listener("API port", "api", "api", api.host, api.port)
    if hl7.port is not None:
        yield _Listener("HL7 port", "hl7", "hl7", hl7.host, hl7.port)


def _living(data_dir: Path) -> Sequence[tuple[Owner, float]]:
    """The processes that live on the data folder, each with the seconds of its silence; a lock proves that one lives,
    which no answer on a port does where peers are listed."""
    try:
        return Owners(data_dir / "owners").silences()
    except SettingsError:
        return []  # another user's, which the check of the data folder tells


def _check_port(listener: _Listener, living: Sequence[tuple[Owner, float]]) -> Check:
    name, where = listener.name, f"{listener.host}:{listener.port}"
    if listener.port == 0:
        return Check(name, True, f"{listener.host}, any free port")
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        with socket.create_server((listener.host, listener.port), family=family):
            return Check(name, True, f"{where}, free")
    except OSError as error:
        silent = [
            silence for one, silence in living if one.note.get("ports", {}).get(listener.noted_as) == listener.port
        ]
        if silent and error.errno == errno.EADDRINUSE:
            return _served(name, where, min(silent))
        return Check(name, False, f"{where} cannot be used ({fault_told(error)})", _advice_on_port(error, listener))


def _served(name: str, where: str, silence_s: float) -> Check:
    if silence_s > SILENT_S:
        text = f"{where}, served by this node, whose process has given no sign of life for {silence_s:.0f} s"
        return Check(name, False, text, "Look at the process, and start it again.")
    return Check(name, True, f"{where}, served by this node")


def _advice_on_port(error: OSError, listener: _Listener) -> str:
    match error.errno:
        case errno.EACCES:
            need = "Ports below 1024 need the right CAP_NET_BIND_SERVICE; grant it or choose another"
            return f"{need} {listener.section}.port."
        case errno.EADDRINUSE:
            return f"End the program that uses it, or choose another {listener.section}.port."
        case _:
            return f"Give {listener.section}.host an address of this machine."


# --- made known to an Orthanc --------------------------------------------------------------------------------------

_TIMEOUT_S = 15.0
_ANY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound


def register_with_orthanc(settings: Settings, url: str, name: str = "ainode", node_host: str = "") -> Check:
    """Put the node into Orthanc's modalities as `name` and let Orthanc send it a C-ECHO.

    `url` may hold ``user:password@``. `node_host` is the address at which Orthanc reaches the node; by default the
    one this machine uses towards Orthanc. A second call changes nothing.
    """
    address, username, password = _split_credentials(url)
    check = f"registration with {address}"
    host = node_host or _own_address(settings, address)
    entry = {"AET": settings.node.ae_title, "Host": host, "Port": _dicom_port(settings), "AllowStorageCommitment": True}
    try:
        with Orthanc(address, username, password, timeout=_TIMEOUT_S) as orthanc:
            changed = _put(orthanc, name, entry)
            their_title = dict(orthanc.get_system()).get("DicomAet", "?")
            heard = _echo(orthanc, name)
    except httpx.HTTPError as error:
        reason = " ".join(str(error).split())[:120]
        return Check(check, False, f"Orthanc does not do it ({reason})", "Check the address, user and password.")
    where = f"{name} = {entry['AET']} at {host}:{entry['Port']}"
    if not heard:
        advice = (
            f"Start the node, let Orthanc's machine reach {host}:{entry['Port']}, and admit AE title {their_title}: "
            "[[peer]] must list it with Orthanc's address."
        )
        return Check(check, False, f"{where}, but C-ECHO from {their_title} fails", advice)
    done = "registered" if changed else "already registered"
    return Check(check, True, f"{done} as {where}; C-ECHO from {their_title} answered")


def _put(orthanc: Orthanc, name: str, entry: dict[str, Any]) -> bool:
    """Write the entry unless it stands there already; tells whether it was written."""
    known = orthanc.get_modalities(params={"expand": True})
    present = known.get(name, {}) if isinstance(known, dict) else {}
    # Orthanc's own defaults come back beside what was written, some under other names.
    if all(present.get(key) == entry[key] for key in ("AET", "Host", "Port")):
        return False
    orthanc.put_modalities_id(name, entry)
    return True


def _echo(orthanc: Orthanc, name: str) -> bool:
    try:
        orthanc.post_modalities_id_echo(name)
    except httpx.TransportError:
        raise
    except httpx.HTTPError:
        # pyorthanc raises the base class for every HTTP status; here that is Orthanc's word that nobody answered.
        return False
    return True


def _split_credentials(url: str) -> tuple[str, str | None, str | None]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    netloc = parts.netloc.rpartition("@")[2]
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", "")), username, password


def _own_address(settings: Settings, orthanc_address: str) -> str:
    """The configured address, or the one this machine would use to speak to Orthanc."""
    if settings.dicom.host not in _ANY_ADDRESS:
        return settings.dicom.host
    parts = urlsplit(orthanc_address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Connecting a datagram socket sends nothing; it only chooses the route.
        probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
        return str(probe.getsockname()[0])


def _dicom_port(settings: Settings) -> int:
    return settings.dicom.port or running_ports(settings).get("dicom", 0)
