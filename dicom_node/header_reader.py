"""Headers of received objects, parsed in a process with limits: what breaks the parser breaks nothing else."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from dicom_node.errors import InferenceError, RefusedObject, WorkerDied
from dicom_node.headers import Header, read_header
from dicom_node.inference.workers.sandbox import Sandbox
from dicom_node.logs import quiet_third_parties

_TIME_LIMIT_S = 10.0
_MEMORY_LIMIT_MB = 2048
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
        self._sandbox = Sandbox(
            "dicom_node.header_reader:read_all", time_limit_s=_TIME_LIMIT_S, memory_limit_mb=_MEMORY_LIMIT_MB
        )

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
