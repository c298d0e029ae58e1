"""Processes that read stored objects for viewers: kept warm, confined, and replaced when a file breaks one.

What was read of a header is kept, so that the frames of a series that is scrolled through are cut out of their files
without any process: only compressed frames that a client wants decoded, and pictures, need one.
"""

from __future__ import annotations

import os
import queue
import shutil
import stat
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from dicom_node.core.errors import InferenceError, UnreadableObject, WorkerDied
from dicom_node.sandbox.confinement import Confinement
from dicom_node.sandbox.host import ProcessLimits, Sandbox
from dicom_node.storage.digest import is_damaged
from dicom_node.viewing.described import (
    Answer,
    BulkRequest,
    DecodeRequest,
    Described,
    DescribeRequest,
    EncodedFrames,
    ExplicitRequest,
    NotDescribed,
    RenderRequest,
    Request,
    StoredFrame,
    View,
)

_TARGET = "dicom_node.viewing.process:perform"
_LIMITS = ProcessLimits(time_s=30.0, address_space_mb=3072, answer_mb=512)
#: So many headers go to a process at a time: whoever waits for a picture waits for these at most.
_BATCH = 16
#: What is kept of headers and layouts, in bytes of text and eight for each number.
_KEPT_BYTES = 64 << 20
#: Who waits longer for a free process is told that the node is busy.
_PATIENCE_S = 30.0


class ReadersBusy(Exception):
    """Every process has been at work for longer than anybody should wait."""


class ObjectLost(Exception):
    """The file of an object is gone, or holds other bytes than were stored."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The file of an object, and the digest of what it should hold."""

    path: Path
    sha256: str


class ImageReaders:
    """Reads stored objects in processes with limits. Thread-safe; the processes start with the first request."""

    def __init__(self, folder: Path, objects: Path, processes: int = 2, limits: ProcessLimits = _LIMITS) -> None:
        """`folder` is the processes' own; `objects` holds the files that they read, and nothing else."""
        self._folder = folder
        self._confinements = [Confinement(folder / f"reader-{number}", (objects,)) for number in range(processes)]
        self._sandboxes = [
            Sandbox(_TARGET, answer=Answer, limits=limits, confinement=one) for one in self._confinements
        ]
        self._free: queue.LifoQueue[int] = queue.LifoQueue()
        for number in range(processes):
            self._free.put(number)
        self._kept: OrderedDict[str, Described] = OrderedDict()
        self._kept_bytes = 0
        self._gate = threading.Lock()
        self._is_warm = False

    def close(self) -> None:
        """End the processes, and remove what they may have left."""
        for sandbox in self._sandboxes:
            sandbox.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def warm_up(self) -> None:
        """Start all processes in the background, the first time; the second image must not wait for one."""
        with self._gate:
            is_warm, self._is_warm = self._is_warm, True
        if is_warm:
            return
        for _ in self._sandboxes:
            threading.Thread(target=self._start_one, name="image-reader", daemon=True).start()

    def _start_one(self) -> None:
        with suppress(WorkerDied, InferenceError, ReadersBusy), self._one() as (sandbox, _):
            sandbox.run(DescribeRequest(()))

    @contextmanager
    def _one(self) -> Iterator[tuple[Sandbox, Path]]:
        """Hold a free process and its folder. Raises `ReadersBusy`."""
        try:
            number = self._free.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise ReadersBusy from None
        try:
            yield self._sandboxes[number], self._confinements[number].out
        finally:
            self._free.put(number)

    # --- headers ------------------------------------------------------------------------------------------------------

    def describe(self, file: StoredFile) -> Described:
        """Return header and layout of an object. Raises `ObjectLost`, `UnreadableObject` and `ReadersBusy`."""
        found = next(self.describe_all([file]))
        if isinstance(found, NotDescribed):
            raise UnreadableObject(f"The object cannot be shown: {found.why}.")
        if isinstance(found, ObjectLost):
            raise found
        return found

    def describe_all(self, files: Sequence[StoredFile]) -> Iterator[Described | NotDescribed | ObjectLost]:
        """Yield header and layout of each object, or why there are none. Raises `ReadersBusy`."""
        for first in range(0, len(files), _BATCH):
            batch = files[first : first + _BATCH]
            known = [self._known(one) for one in batch]
            fresh = [one for one, found in zip(batch, known, strict=True) if found is None]
            read = iter(self._read(fresh))
            yield from (found if found is not None else next(read) for found in known)

    def _known(self, file: StoredFile) -> Described | None:
        with self._gate:
            found = self._kept.get(file.sha256)
            if found is not None:
                self._kept.move_to_end(file.sha256)
            return found

    def _read(self, files: Sequence[StoredFile]) -> list[Described | NotDescribed | ObjectLost]:
        if not files:
            return []
        self.warm_up()
        whole = [one for one in files if not is_damaged(one.path, one.sha256)]
        read = dict(zip(whole, self._described(whole), strict=True))
        for file, found in read.items():
            if isinstance(found, Described):
                self._keep(file, found)
        return [read.get(one, ObjectLost()) for one in files]

    def _described(self, files: Sequence[StoredFile]) -> list[Described | NotDescribed]:
        """Describe files; of several of which one breaks the process, each alone."""
        if not files:
            return []
        try:
            with self._one() as (sandbox, _):
                answer = sandbox.run(DescribeRequest(tuple(one.path for one in files)))
            return cast("list[Described | NotDescribed]", answer)
        except (WorkerDied, InferenceError) as error:
            if len(files) == 1:
                return [NotDescribed(f"reading it ended the process that read it ({error})")]
            return [one for file in files for one in self._described([file])]

    def _keep(self, file: StoredFile, found: Described) -> None:
        with self._gate:
            if file.sha256 not in self._kept:
                self._kept[file.sha256] = found
                self._kept_bytes += _size(found)
            while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= _size(self._kept.popitem(last=False)[1])

    # --- frames and pictures ------------------------------------------------------------------------------------------

    def decoded(self, file: StoredFile, number: int) -> bytes:
        """Return a frame as in Explicit VR Little Endian. Raises as `drawn`."""
        return self._encoded(file, lambda found: DecodeRequest(_frame(file, found, number))).content

    def drawn(self, file: StoredFile, number: int, view: View) -> EncodedFrames:
        """Return a picture of a frame, from 1.

        Raises `ObjectLost`, `ReadersBusy`, and `UnreadableObject` or `NotAnalysable` for what cannot be shown.
        """
        return self._encoded(file, lambda found: RenderRequest(_frame(file, found, number), view))

    def value_at(self, file: StoredFile, place: str) -> EncodedFrames:
        """Return a value that is too long for metadata. Raises as `drawn`."""
        return self._encoded(file, lambda _: BulkRequest(file.path, place))

    def _encoded(self, file: StoredFile, asked: Callable[[Described], Request]) -> EncodedFrames:
        request = asked(self.describe(file))
        try:
            with self._one() as (sandbox, _):
                return cast("EncodedFrames", sandbox.run(request))
        except InferenceError as error:  # also of a process that died
            raise UnreadableObject(f"The object cannot be shown: {error}") from error

    @contextmanager
    def explicit(self, file: StoredFile) -> Iterator[BinaryIO]:
        """Give an object written as Explicit VR Little Endian, as an open file. Raises as `drawn`."""
        self.describe(file)
        with self._one() as (sandbox, out):
            path = out / f"{uuid.uuid4().hex}.dcm"
            try:
                sandbox.run(ExplicitRequest(file.path, path))
                made = _opened(path)
            except InferenceError as error:
                raise UnreadableObject(f"The object cannot be written in another encoding: {error}") from error
            finally:
                path.unlink(missing_ok=True)  # what is open stays readable
        with made:
            yield made


def _frame(file: StoredFile, found: Described, number: int) -> StoredFrame:
    return StoredFrame(file.path, number, found.layout.pieces(number))


def _size(found: Described) -> int:
    return len(found.header) + 8 * sum(map(len, found.layout.fragments)) + 256


def _opened(path: Path) -> BinaryIO:
    """Open what a process has left: a plain file of this user with one name. Raises `InferenceError`."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InferenceError("the process that should write it left no file") from error
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        os.close(opened)
        raise InferenceError("the process that should write it left something else than a file")
    return os.fdopen(opened, "rb")
