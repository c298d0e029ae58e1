"""What a systemd unit says (systemd.syntax(7)): a key may come again, and an empty value forgets those before."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import tool


@dataclass(frozen=True, slots=True)
class UnitFile:
    """The section `[Service]` of a unit."""

    service: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, *paths: Path) -> UnitFile:
        """Read a unit and then its drop-ins."""
        found: dict[str, list[str]] = {}
        for path in paths:
            section = ""
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("["):
                    section = line
                elif "=" in line and not line.startswith(("#", ";")) and section == "[Service]":
                    key, _, value = line.partition("=")
                    found[key] = [*found.get(key, []), value] if value else []
        return cls(found)

    def last(self, key: str, default: str = "") -> str:
        """Return the value that counts where only one does."""
        return next(reversed(self.service.get(key, [])), default)

    def is_on(self, key: str) -> bool:
        return self.last(key) in {"yes", "true", "on", "1"}

    @property
    def command(self) -> list[str]:
        return shlex.split(self.last("ExecStart"))

    def allowed_calls(self) -> set[str]:
        """Return the system calls that `SystemCallFilter` leaves: the first line says what is let through."""
        allowed: set[str] = set()
        for number, line in enumerate(self.service.get("SystemCallFilter", ())):
            names = {call for word in line.removeprefix("~").split() for call in _calls_of(word)}
            assert line.startswith("~") == (number > 0), "a list of what is let through, then what is taken out of it"
            allowed = allowed - names if number else names | set(_calls_of("@default"))
        return allowed


def _calls_of(word: str) -> Iterator[str]:
    """Return the calls of a group, as systemd of this machine knows it; a call is itself."""
    if not word.startswith("@"):
        yield word
        return
    command = [tool("systemd-analyze", "systemd"), "syscall-filter", word]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in map(str.strip, told.splitlines()[1:]):
        if line and not line.startswith("#"):
            yield from _calls_of(line)
