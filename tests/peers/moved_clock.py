"""A wall clock that is moved ahead for some programs while they run, so that a year passes in an hour.

What they wait for stays as it is: a quiet period of a second takes a second. Only the time of day is another one, as it
is for a program that was stopped for a night. `moved_clock.c` is compiled for it and loaded before the C library.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.needs import absent

_SOURCE = Path(__file__).with_suffix(".c")


class MovedClock:
    """A clock of `folder`; programs started with `environment` go by it, and others by the real one."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            absent("gcc is missing; install the Debian packages gcc and libc6-dev")
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # a database's own user reads it, too
        self._library, self._ahead = folder / "moved_clock.so", folder / "ahead_s"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", self._library, _SOURCE, "-ldl"],
            check=True,
        )
        self._ahead.write_bytes(struct.pack("q", 0))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program has to be started with."""
        return {"LD_PRELOAD": str(self._library), "MOVED_CLOCK": str(self._ahead)}

    @property
    def now(self) -> datetime:
        """What such a program takes the time for."""
        (ahead_s,) = struct.unpack("q", self._ahead.read_bytes())
        return datetime.now(UTC) + timedelta(seconds=ahead_s)

    def move_to(self, moment: datetime) -> None:
        """Let it be this moment now, which must not be an earlier one."""
        ahead_s = round((moment - datetime.now(UTC)).total_seconds())
        if moment < self.now:
            raise ValueError(f"it is {self.now} already")
        with self._ahead.open("r+b") as file:  # in place: programs have it mapped
            file.write(struct.pack("q", ahead_s))
