"""A watched folder: files that somebody copies there are taken in like any others.

A thread looks every second. A file counts as whole when it has not changed for a while; one that cannot be used then
may still be a copy that stalled, so it is tried once more after a longer wait before it is put aside into `rejected`,
with the reason in a text beside it. What was taken in goes to `done`, is deleted, or stays. Symbolic links are not
followed, and no name decides anything but whether the pattern fits.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config.incoming import WatchSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import RefusedObject
from dicom_node.end import VitalThread
from dicom_node.ingest.archive import ArchiveLimits, Kind, archive_limits, take_archive, told
from dicom_node.ingest.session import FileReport, FileState, IngestParts, IngestSession, refused, take_dicom

DONE, REJECTED = "done", "rejected"
_EVERY_S = 1.0
#: How many times the settling time a file that cannot be used is left alone before it is tried for the last time.
_PATIENCE = 6
#: A session holds its studies open while files are still settling; not for ever, for a file that never stops growing.
_LONGEST_SESSION_S = 600.0
_PIECE_BYTES = 1 << 20
#: No link is followed, and a pipe put in a file's place does not make the thread wait.
_OPEN_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Print:
    """What changes when a file changes."""

    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(slots=True)
class _Seen:
    """A file that was seen: as what, since when, how often it was tried, and whether nothing more is done with it."""

    print: _Print
    since_s: float
    tries: int = 0
    is_settled: bool = False


class WatchFolder:
    """Watches one folder in a thread of its own."""

    def __init__(self, parts: IngestParts, settings: WatchSettings, archives: ArchiveLimits) -> None:
        self._parts = parts
        self._settings = settings
        self._archives = archives
        self._root = settings.path
        self._seen: dict[Path, _Seen] = {}
        self._session: IngestSession | None = None
        self._session_began_s = 0.0
        self._is_missing = False
        self._stopping = threading.Event()
        self._thread = VitalThread(self._run, "watch")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the file under way; the others wait for the next start."""
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.look()
        self._close_session()

    def look(self) -> None:
        """Look once: take what has settled."""
        try:
            found = dict(self._files())
        except OSError as error:
            self._log_missing(error)
            return
        self._is_missing = False
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        for path, print_ in found.items():
            if self._stopping.is_set():
                return
            if self._is_due(path, print_):
                self._take(path)
        waiting = any(not seen.is_settled for seen in self._seen.values())
        if not waiting or time.monotonic() > self._session_began_s + _LONGEST_SESSION_S:
            self._close_session()

    # --- what is there -------------------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[Path, _Print]]:
        """Yield plain files, oldest names first; what is hidden is still being copied by somebody."""
        pattern = self._settings.pattern.lower()
        for folder, names, files in os.walk(self._root, onerror=_raise):
            if Path(folder) == self._root:
                names[:] = [name for name in names if name not in {DONE, REJECTED}]
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                print_ = _print_of(path)
                if print_ and not name.startswith(".") and fnmatch.fnmatchcase(name.lower(), pattern):
                    yield path, print_

    def _is_due(self, path: Path, print_: _Print) -> bool:
        now = time.monotonic()
        seen = self._seen.get(path)
        if seen is None or seen.print != print_:
            self._seen[path] = _Seen(print_, now)
            return False
        wait_s = self._settings.settle_s * (_PATIENCE if seen.tries else 1)
        return not seen.is_settled and now - seen.since_s >= wait_s and self._parts.intake.has_room()

    # --- one file ------------------------------------------------------------------------------------------------

    def _take(self, path: Path) -> None:
        seen = self._seen[path]
        try:
            reports = self._reports(path)
        except OSError as error:
            reports = [refused(path.name, f"It cannot be read: {error.strerror}.")]
        seen.since_s = time.monotonic()
        if _print_of(path) != seen.print or any(report.again_later for report in reports):
            return  # it changed while it was read, or the node cannot store now
        seen.tries += 1
        usable = [report for report in reports if report.state is not FileState.SKIPPED]
        failed = [report for report in usable if report.state is FileState.REFUSED]
        if usable and not failed:
            self._finish(path, seen)
        elif seen.tries > 1:
            self._reject(path, seen, failed or reports)

    def _reports(self, path: Path) -> list[FileReport]:
        """Take a file, or what is in it. Raises `OSError`."""
        session = self._open_session()
        with os.fdopen(os.open(path, _OPEN_PLAIN), "rb") as file:
            kind, pieces = told(iter(lambda: file.read(_PIECE_BYTES), b""))
            if kind is Kind.DICOM:
                return [take_dicom(session, path.name, pieces)]
        if kind is not Kind.ARCHIVE:
            return [refused(path.name, "It is neither a DICOM file nor a zip archive.")]
        try:
            return list(take_archive(session, path, self._archives))
        except RefusedObject as refusal:
            return [refused(path.name, str(refusal))]

    def _finish(self, path: Path, seen: _Seen) -> None:
        seen.is_settled = True
        if self._settings.after == "delete":
            self._attempt(path.unlink, path)
        elif self._settings.after == "move":
            self._put_aside(path, DONE)

    def _reject(self, path: Path, seen: _Seen, reports: list[FileReport]) -> None:
        """Put a file aside for a person to look at; it stays as it is, and is tried no more until it changes."""
        seen.is_settled = True
        reasons = sorted({report.why for report in reports if report.why}) or ["It holds no DICOM file."]
        _log.warning("watched file rejected", extra={"folder": str(self._root), "why": reasons[:5]})
        target = self._put_aside(path, REJECTED)
        if target is not None:
            lines = [f"{report.name}: {report.why}\n" for report in reports]
            note = target.with_name(f"{target.name}.txt")
            self._attempt(lambda: note.write_text("".join(lines), encoding="utf-8"), path)

    def _put_aside(self, path: Path, folder: str) -> Path | None:
        """Move a file below `folder`, where it keeps its place in the tree; return where it is now."""
        wanted = self._root / folder / path.relative_to(self._root)
        target, number = wanted, 1
        while target.exists():
            target, number = wanted.with_name(f"{wanted.name}.{number}"), number + 1

        def move() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

        return target if self._attempt(move, path) else None

    def _attempt(self, change: Callable[[], object], path: Path) -> bool:
        """Change the folder; where that is not allowed the file stays and is remembered."""
        try:
            change()
        except FileNotFoundError:
            return False  # another node that watches the same folder was first
        except OSError as error:
            _log.error("watched file stays where it is", extra={"folder": str(self._root), "why": str(error.strerror)})
            return False
        self._seen.pop(path, None)
        return True

    # --- the session ---------------------------------------------------------------------------------------------

    def _open_session(self) -> IngestSession:
        if self._session is None:
            self._session, self._session_began_s = IngestSession(self._parts, "WATCH", "localhost"), time.monotonic()
        return self._session

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        session.close()
        if session.stored:
            counts = {"objects": session.stored.total(), "studies": len(session.stored)}
            _log.info("watched files taken in", extra=counts | {"folder": str(self._root)})

    def _log_missing(self, error: OSError) -> None:
        if not self._is_missing:
            _log.error("watched folder cannot be read", extra={"folder": str(self._root), "why": str(error.strerror)})
        self._is_missing = True


class WatchFolders:
    """All configured folders; they share what reads headers."""

    def __init__(self, parts: IngestParts, settings: Settings) -> None:
        self._parts = parts
        limits = archive_limits(settings.upload)
        self._folders = [WatchFolder(parts, one, limits) for one in settings.watch]

    def start(self) -> None:
        """Begin to watch."""
        for folder in self._folders:
            folder.start()

    def stop(self) -> None:
        """Stop watching; what is not taken in yet stays where it is."""
        for folder in self._folders:
            folder.stop()
        self._parts.close()


def _print_of(path: Path) -> _Print | None:
    """Return what a plain file looks like now; `None` for everything else, links above all."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return _Print(found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _raise(error: OSError) -> None:
    raise error
