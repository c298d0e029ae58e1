"""Is there room: free disk above the reserve, a database and a spool that work? Asked for every object, so cheap."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dicom_node.errors import SpoolUnavailable

_LOOK_EVERY_S = 0.2


class Room:
    """What the acceptor may still take in. Thread-safe."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._looked_at = -1.0
        self._has_disk = True
        #: Set by the parent process: why it cannot file what is received, "" when it can.
        self.trouble = ""

    def has_disk(self) -> bool:
        """Tell whether the disk below the spool has more free than the reserve."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_EVERY_S:
            disk = os.statvfs(self._folder)
            self._has_disk = disk.f_bavail * disk.f_frsize > self._min_free_bytes
            self._looked_at = now
        return self._has_disk

    def check(self) -> None:
        """Raise `SpoolUnavailable` when nothing can be taken now."""
        if self.trouble:
            raise SpoolUnavailable(self.trouble)
        if not self.has_disk():
            raise SpoolUnavailable("Less disk is free than node.min_free_mb. Free space below node.data_dir.")
