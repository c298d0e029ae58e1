"""This machine: clock, data folder, the days until its disk is full, ports."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

import dicom_node
from dicom_node.config.settings import Settings
from dicom_node.core.errors import IndexUnavailable, SettingsError, fault_told
from dicom_node.doctor.check import Check, current_user
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.retention.disk import disk_forecast
from dicom_node.operate.clock import ask_all, fault_of, kernel_synchronised, time_servers, told
from dicom_node.storage.folder import existing_part, why_not_writable
from dicom_node.storage.owners import SILENT_S, Owner, Owners

_MB = 1 << 20
PORTS_FILE = "ports.json"
#: A disk that is full so soon needs somebody now.
_NEAR_DAYS = 14


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
