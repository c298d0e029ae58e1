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
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

import dicom_node
from dicom_node.config.settings import Settings
from dicom_node.core.errors import AuditUnavailable, IndexUnavailable, SettingsError, fault_told
from dicom_node.deliver.owed_to_nobody import advice_for, owed_to_nobody
from dicom_node.doctor.check import Check, current_user
from dicom_node.index.damage import damage_counts, round_ended_at
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.decided.route_edits import edits_in_force
from dicom_node.index.decided.suspensions import in_words, route_suspensions
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.received.worklist import unlisted_count
from dicom_node.index.retention.disk import disk_forecast
from dicom_node.inference.cards.folders import survey_models
from dicom_node.operate.clock import ask_all, fault_of, kernel_synchronised, time_servers, told
from dicom_node.operate.routes_in_force import RouteOrigin, overlaid
from dicom_node.people.audit.trail import audit_anchor, audit_folder, audit_keys
from dicom_node.storage.folder import existing_part, why_not_writable
from dicom_node.storage.owners import SILENT_S, Owner, Owners

_MB = 1 << 20
PORTS_FILE = "ports.json"
#: A disk that is full so soon needs somebody now.
_NEAR_DAYS = 14
#: What a second's acts of care come to at most; more waits because it must.
_MOST_WAITING_BYTES = 200_000


def check_clock(now: datetime | None = None) -> Check:
    """The clock is no earlier than the program itself; times in results are only as right as this clock."""
    now = now or datetime.now().astimezone()
    installed = datetime.fromtimestamp(Path(dicom_node.__file__).stat().st_mtime, UTC)
    text = f"{now:%Y-%m-%d %H:%M:%S}, UTC{now:%z}"
    if now < installed - timedelta(hours=1):
        return Check("clock", False, f"{text}, which is before this program was installed", "Set the clock; run NTP.")
    is_synchronised = kernel_synchronised()
    if is_synchronised is None:
        return Check("clock", True, text)
    advice = (
        "" if is_synchronised else "Unless the machine's host sets the clock, let chrony or systemd-timesyncd do it."
    )
    return Check(
        "clock", True, f"{text}, {'' if is_synchronised else 'not '}synchronised as far as the kernel knows", advice
    )


def check_time_servers(settings: Settings) -> list[Check]:
    """One check per time server, each asked once, and one of the clock by what they said; none named, none asked."""
    limit_s = settings.time.max_offset_s
    readings, useless = ask_all(time_servers(settings.time), limit_s)
    fault = fault_of(readings, limit_s)
    by_them = (
        [Check("clock by time servers", False, fault.rstrip("."), "Run chrony or systemd-timesyncd.")] if fault else []
    )
    return [
        *(Check(f"time server {one.server}", True, f"this machine is {told(one)}") for one in readings),
        *(Check(f"time server {server.name}", False, str(error), "Correct time.servers, or look at the server.")
          for server, error in useless.items()),
        *by_them,
    ]  # fmt: skip


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


def check_forecast(settings: Settings) -> list[Check]:
    """When the disk will be full, as it grew lately; nothing where no node has run yet."""
    folder, database = settings.node.data_dir, Database(settings.database_url)
    url = sqlalchemy.make_url(settings.database_url)
    try:
        if not folder.exists() or (url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()):
            return []
        if database.schema_version() != SCHEMA_HEAD:
            return []
        with database.read() as connection:
            told = disk_forecast(connection, shutil.disk_usage(folder).free, datetime.now(UTC))
    except (IndexUnavailable, SettingsError, SQLAlchemyError):
        return []  # the check of the database says why
    finally:
        database.close()
    is_near = told.days is not None and told.days < _NEAR_DAYS and not settings.retention.keep_free_mb
    advice = "Set [retention], or add disk: docs/how-to/keep-the-disk-in-bounds.md." if is_near else ""
    return [Check("disk forecast", not is_near, told.text, advice)]


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


def check_index(settings: Settings) -> list[Check]:
    """What the index tells: kept objects that are damaged, and what waits for a destination that is gone; no check
    before a node of this version has run."""
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
            return [
                _check_kept_objects(connection),
                *_check_worklist(connection),
                *_check_owed_to_nobody(connection, settings),
                *_check_what_people_set(connection, settings),
            ]
    except (IndexUnavailable, SQLAlchemyError):
        return []  # told by the check of the database
    finally:
        database.close()


def _check_owed_to_nobody(connection: Connection, settings: Settings) -> list[Check]:
    return [
        Check(f"destination {name}", False, f"{waiting.in_words} for it, and the settings have it no more",
              advice_for(name, waiting))
        for name, waiting in owed_to_nobody(connection, settings).items()
    ]  # fmt: skip


def _check_what_people_set(connection: Connection, settings: Settings) -> list[Check]:
    """What people have suspended, and routes that they have written over those of the file: told, so that nobody
    forgets it. A fault is what is not as it was meant."""
    stopped = [Check(f"destination {name}", True, one.in_words(name)) for name, one in suspensions(connection).items()]
    stopped += [
        Check(f"route {name}", True, in_words(name, one)) for name, one in route_suspensions(connection).items()
    ]
    try:
        edited = overlaid(settings, survey_models(settings.models_dirs).cards, edits_in_force(connection)).origins
    except SettingsError:
        return stopped  # told by the check of the routes
    return [*stopped, *(_check_edited(name, one) for name, one in edited.items())]


def _check_edited(name: str, origin: RouteOrigin) -> Check:
    text = f"edited by {origin.edited_by} on {origin.edited_at:%Y-%m-%d}: {origin.edit_reason}"
    fault = origin.unusable or origin.conflict
    return Check(
        f"route {name}", not fault, f"{text}. {fault}".rstrip(". "), "Save it anew, or revert it." if fault else ""
    )


def _check_kept_objects(connection: Connection) -> Check:
    damaged, since = damage_counts(connection), round_ended_at(connection)
    name = "kept objects"
    if damaged.total:
        text = f"damaged: {damaged.images} images, {damaged.results} results, {damaged.records} records of the journal"
        return Check(name, False, text, "Look at the disk; docs/how-to/operate.md says how each is made whole.")
    seen = "not all read yet" if since is None else f"all read by {since:%Y-%m-%d %H:%M} UTC"
    return Check(name, True, f"no damage known, {seen}")


def _check_worklist(connection: Connection) -> list[Check]:
    """Say how many studies the worklist has not worked out yet, as after an upgrade; they are no fault."""
    waits = unlisted_count(connection)
    studies = "1 study is" if waits == 1 else f"{waits} studies are"
    text = f"{studies} not sorted by urgency, nor found by number, yet: the role index works them out"
    return [Check("worklist", True, text)] if waits else []


def check_audit(settings: Settings) -> list[Check]:
    """The audit trail can be sealed and anchored; no check where it is off, or before a node has made its key."""
    keys, anchor = audit_keys(settings), audit_anchor(settings)
    if not settings.audit.enabled or not running_ports(settings):
        return []
    name, waiting = "audit trail", list((audit_folder(settings) / "waiting").glob("*.jsonl"))
    try:
        keys.known()
        last = max((mark.number for mark in anchor.marks()), default=0)
    except AuditUnavailable as error:
        return [Check(name, False, f"{error}", "What people ask is refused until it can be written.")]
    reason = why_not_writable(existing_part(anchor.path.parent))
    if reason:
        return [Check(name, False, f"{anchor.path.parent} cannot be written ({reason})", "Correct audit.anchor_file.")]
    waits = sum(path.stat().st_size for path in waiting)
    if waits > _MOST_WAITING_BYTES:
        return [Check(name, False, f"{waits} bytes of acts wait for it", "The node's log says why; look for audit.")]
    beside = ", on the disk of the database" if _shares_disk(anchor.path, settings) else ""
    return [Check(name, True, f"{last} records, anchored in {anchor.path}{beside}")]


def _shares_disk(path: Path, settings: Settings) -> bool:
    url = sqlalchemy.make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        return False
    return existing_part(path).stat().st_dev == existing_part(Path(url.database)).stat().st_dev


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
