"""Pictures are wrapped in a process with limits; this is the side that asks, and loads no decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import InferenceError, RefusedObject, StoreStatus, WorkerDied
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=60.0, address_space_mb=4096)


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """Which file, where the object goes, what is said of it (DICOM keyword → text), and the largest picture taken."""

    picture: Path
    target: Path
    attributes: Mapping[str, str]
    study_instance_uid: str
    instance_number: int
    max_megapixels: int


class PictureWrapper:
    """Wraps pictures in a child process that starts with the first one. Safe to share between threads."""

    def __init__(self) -> None:
        self._sandbox = Sandbox("dicom_node.ingest.picture:wrap", answer=None, limits=_LIMITS)

    def wrap(self, request: PictureRequest) -> None:
        """Write a picture as a DICOM file. Raises `RefusedObject`."""
        try:
            self._sandbox.run(request)
        except (WorkerDied, InferenceError) as error:
            raise RefusedObject(
                StoreStatus.PROCESSING_FAILURE,
                "The picture was refused: decoding it ended the process that decoded it.",
            ) from error

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()
