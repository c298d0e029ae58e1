"""The listening sockets, opened before anything heavy is loaded: from then on nobody is turned away.

Connections wait in the system's queue until the acceptor has loaded, a second or two later. Standard library only.
"""

from __future__ import annotations

import socket

from dicom_node.errors import SettingsError

_BACKLOG = 256


def open_listener(host: str, port: int, section: str = "dicom") -> socket.socket:
    """Listen on `host`:`port` (0: any free port). Raises `SettingsError` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The node cannot listen on {host}:{port} ({error.strerror}). Another program has the port, or the address "
            f"is not this machine's; change {section}.host or {section}.port."
        ) from error
