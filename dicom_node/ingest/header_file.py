"""Headers of files in the spool, parsed in a process with limits: what breaks the parser breaks nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dicom_node.errors import InferenceError, RefusedObject, WorkerDied
from dicom_node.headers import Header, StoreStatus, read_header_of_file
from dicom_node.inference.workers.sandbox import Sandbox

_TIME_LIMIT_S = 20.0
_MEMORY_LIMIT_MB = 2048


@dataclass(frozen=True, slots=True)
class HeaderRequest:
    """Which file, where its data set begins, and how that is encoded."""

    path: Path
    data_set_offset: int
    transfer_syntax_uid: str


class FileHeaders:
    """Reads headers in a child process that starts with the first file. Safe to share between threads."""

    def __init__(self) -> None:
        self._sandbox = Sandbox(
            "dicom_node.ingest.header_file:read", time_limit_s=_TIME_LIMIT_S, memory_limit_mb=_MEMORY_LIMIT_MB
        )

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
