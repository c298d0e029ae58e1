"""What commands write: tables for people on a terminal, JSON for scripts, and how AE titles are typed."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.core.errors import SettingsError
from dicom_node.core.principal import Principal, UserRole
from dicom_node.dimse.negotiation import Remote, Tls
from dicom_node.roles.settings import load_settings

_PEER = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})")

console = Console(highlight=False, markup=False, soft_wrap=True)


def print_json(data: object) -> None:
    """Write data for a script: JSON, times as ISO 8601, dataclasses as objects."""
    sys.stdout.write(json.dumps(data, default=_plain, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Write a table; values are shown as they are, never interpreted."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    console.print(table)


def say(text: str) -> None:
    """Write one line."""
    console.print(text)


def read_peer(options: argparse.Namespace) -> Remote:
    """Read ``AET@HOST:PORT``, and who calls it how, from a command's options. Raises `SettingsError`."""
    text = options.peer
    found = _PEER.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise SettingsError(f"{text!r} is not AET@HOST:PORT, for example PACS@pacs.local:104.")
    host, tls = found["host"].strip("[]"), None
    calling = options.calling or load_settings(options.config).node.ae_title
    if options.tls:
        own = load_settings(options.config).dicom_tls
        tls = Tls(options.tls_name or host, own.ca, own.certificate, own.private_key)
    return Remote(host, int(found["port"]), found["title"], calling, options.timeout, tls)


def _plain(value: Any) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


# --- who typed the command ---------------------------------------------------------------------------------------


def os_user() -> str:
    """Return the user, and who became that user by sudo: ``alice as root``."""
    user, before = getpass.getuser(), os.environ.get("SUDO_USER", "")
    return f"{before} as {user}" if before and before != user else user


def actor() -> Principal:
    """Return who acts, for the timeline. Whoever may open the database may do everything."""
    return Principal(f"cli:{os_user()}", frozenset({UserRole.ADMIN}))
