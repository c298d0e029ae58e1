"""Headers parsed in a process with limits: what breaks the parser breaks nothing else.

`HeaderReader` takes many encoded headers at a time, as the journal's consumer has them; `FileHeaders` one file of the
spool, as every other way in has it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dicom_node.core.errors import InferenceError, RefusedObject, StoreStatus, WorkerDied
from dicom_node.headers.header import Header, read_header, read_header_of_file
from dicom_node.logs import quiet_third_parties
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=10.0, address_space_mb=2048)
_FILE_LIMITS = ProcessLimits(time_s=20.0, address_space_mb=2048)
#: Answering senders comes first.
NICE = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A data set up to its pixel data, and how it is encoded."""

    data_set: bytes
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A header that could not be read, and why."""

    why: str


class HeaderReader:
    """Reads headers in a child process, many at a time. Not for several threads at once."""

    def __init__(self) -> None:
        self._sandbox = Sandbox("dicom_node.headers.reader:read_all", answer=list[Header | Unreadable], limits=_LIMITS)

    def warm_up(self) -> None:
        """Start the child process in the background, so that the first object need not wait for it."""
        threading.Thread(target=self._run_empty, name="header-reader", daemon=True).start()

    def read(self, batch: Sequence[Encoded]) -> list[Header | Unreadable]:
        """Return a header, or why there is none, for each data set. Never raises for what is in them."""
        if not batch:
            return []
        try:
            answer = self._sandbox.run(list(batch))
        except (WorkerDied, InferenceError) as error:
            if len(batch) == 1:
                _log.error("a header broke its reader", extra={"why": str(error)})
                return [Unreadable(f"reading it ended the process that read it ({error})")]
            return [one for encoded in batch for one in self.read([encoded])]
        return cast("list[Header | Unreadable]", answer)

    def _run_empty(self) -> None:
        # The node stops meanwhile; or it dies again at the first header, and that is told.
        with suppress(WorkerDied, InferenceError):
            self._sandbox.run([])

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()


def read_all(batch: Sequence[Encoded]) -> list[Header | Unreadable]:
    """Read headers; runs in the child process."""
    if os.getpriority(os.PRIO_PROCESS, 0) < NICE:  # the first time
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    quiet_third_parties()
    return [_read(encoded) for encoded in batch]


def _read(encoded: Encoded) -> Header | Unreadable:
    try:
        return read_header(encoded.data_set, encoded.transfer_syntax_uid)
    except RefusedObject as refusal:
        return Unreadable(str(refusal))


# --- files of the spool --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeaderRequest:
    """Which file, where its data set begins, and how that is encoded."""

    path: Path
    data_set_offset: int
    transfer_syntax_uid: str


class FileHeaders:
    """Reads headers in a child process that starts with the first file. Safe to share between threads."""

    def __init__(self) -> None:
        self._sandbox = Sandbox("dicom_node.headers.reader:read", answer=Header, limits=_FILE_LIMITS)

    def read(self, path: Path, data_set_offset: int, transfer_syntax_uid: str) -> Header:
        """Return the header. Raises `RefusedObject`."""
        try:
            answer = self._sandbox.run(HeaderRequest(path, data_set_offset, transfer_syntax_uid))
        except (WorkerDied, InferenceError) as error:
            raise RefusedObject(
                StoreStatus.PROCESSING_FAILURE, f"Reading its header ended the process that read it. {error}"
            ) from error
        return cast(Header, answer)

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()


def read(request: HeaderRequest) -> Header:
    """Read one header; runs in the child process."""
    with request.path.open("rb") as file:
        file.seek(request.data_set_offset)
        return read_header_of_file(file, request.transfer_syntax_uid)
