"""Which processes live on a data folder: each holds a lock that the kernel takes back with its last breath.

A process id proves nothing: another container has the same ones, and another machine its own. A lock on a file
(flock(2)) of the folder that all share is held exactly as long as its holder lives, also after kill -9.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from dicom_node.core.errors import SettingsError
from dicom_node.storage.folder import make_private

_HOST_LENGTH = 64
_POLL_S = 0.1
_READ_AGAIN = 5
_PATIENCE_S = 10.0
#: How often a process gives a sign of life, and without one for how long it counts as silent.
BEAT_EVERY_S, SILENT_S = 5.0, 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, by a name that no other start of a process has or had, and what it has noted of itself."""

    token: str
    note: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Who claims a lease: host and process for people, the token for the proof."""
        return str(self.note.get("identity", self.token))


class Owners:
    """The processes of one data folder: enter, tell the living, put in order what the dead have left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._token = uuid.uuid4().hex
        self._descriptor = -1

    @cached_property
    def me(self) -> Owner:
        """This process, entered on first use. Raises `SettingsError`."""
        make_private(self._folder)
        identity = f"{socket.gethostname()[:_HOST_LENGTH]}:{os.getpid()}:{self._token}"
        note: dict[str, Any] = {"identity": identity}
        # Another may try the lock of the file at the moment in which it is made.
        descriptor = take_lock(self._path(self._token), note, _PATIENCE_S)
        assert descriptor is not None, "nobody else knows this name"
        self._descriptor = descriptor
        return Owner(self._token, note)

    def note(self, **more: object) -> None:
        """Note something of this process that others may read."""
        assert isinstance(self.me.note, dict)
        self.me.note.update(more)
        _write_note(self._descriptor, self.me.note)

    def living(self) -> Sequence[Owner]:
        """Return the processes that live, this one among them when it has entered."""
        found = []
        for path in sorted(self._folder.glob("*.lock")):
            descriptor = None if path.stem == self._token else try_lock(path)
            if descriptor is not None:
                os.close(descriptor)
            elif path.exists():
                found.append(Owner(path.stem, read_note(path)))
        return found

    def beat(self) -> None:
        """Give a sign of life; a process that is stopped holds its lock, too."""
        _ = self.me
        os.utime(self._descriptor)

    def silences(self) -> Sequence[tuple[Owner, float]]:
        """Return the processes that live, and for how many seconds each has been silent.

        Counted from the latest sign of any: all times are the file system's, so that no clock need agree with another.
        """
        signs = []
        for owner in self.living():
            with suppress(FileNotFoundError):
                signs.append((owner, self._path(owner.token).stat().st_mtime))
        latest = max((at for _, at in signs), default=0.0)
        return [(owner, latest - at) for owner, at in signs]

    @contextmanager
    def dead(self) -> Iterator[Sequence[Owner]]:
        """Give those that are gone, one keeper at a time, and forget them when what they left is in order."""
        held = {}
        for path in sorted(self._folder.glob("*.lock")):
            descriptor = None if path.stem == self._token else try_lock(path)
            if descriptor is not None:
                held[path] = descriptor
        try:
            yield [Owner(path.stem, read_note(path)) for path in held]
            for path in held:
                path.unlink(missing_ok=True)
        finally:
            for descriptor in held.values():
                os.close(descriptor)

    def leave(self) -> None:
        """Let go, as the end of the process does; what is left of it, the next one finds."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _path(self, token: str) -> Path:
        return self._folder / f"{token}.lock"


def take_lock(path: Path, note: Mapping[str, object], patience_s: float = 0.0) -> int | None:
    """Lock a file, made if it is not there, and leave a note in it; `None` when another holds it for longer.

    Held until the returned descriptor, and every copy that a child process was given, is closed. Raises
    `SettingsError` where the file system knows no locks.
    """
    until = time.monotonic() + patience_s
    while True:
        descriptor = try_lock(path, os.O_CREAT)
        if descriptor is not None:
            _write_note(descriptor, {**note, "since": datetime.now(UTC).isoformat(timespec="seconds")})
            return descriptor
        if time.monotonic() >= until:
            return None
        time.sleep(_POLL_S)


def try_lock(path: Path, flags: int = 0) -> int | None:
    """Return the descriptor of the locked file; `None` when it is not there, or another has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(
            f"The file {path} cannot be opened: {error.strerror}. It belongs to the node's user; correct its rights."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # held, or forgotten since it was opened
        pass
    except OSError as error:
        os.close(descriptor)
        raise SettingsError(
            f"The file {path} cannot be locked: {error.strerror}. Put node.data_dir on a file system that knows "
            "flock(2)."
        ) from error
    os.close(descriptor)
    return None


def read_note(path: Path) -> Mapping[str, Any]:
    """Return what the holder of a lock has noted; nothing when it died before. One that writes at this moment is read
    again: half a note is no reason to take it for gone."""
    for _ in range(_READ_AGAIN):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            break
        except ValueError:
            continue
        return note if isinstance(note, dict) else {}
    return {}


def _write_note(descriptor: int, note: Mapping[str, object]) -> None:
    """Write a note over the one before, in one step: who reads meanwhile sees either. So a shorter one is filled up."""
    content = json.dumps(dict(note)).encode()
    os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size), 0)
