"""The node made known to an Orthanc, and asked for by it."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx
from pyorthanc import Orthanc

from dicom_node.config.settings import Settings
from dicom_node.doctor.check import Check
from dicom_node.doctor.machine import running_ports

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
