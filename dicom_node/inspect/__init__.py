"""`dicom-node inspect`: what is in an object, of ours or of others, in words, tables and a picture."""

from __future__ import annotations

from typing import cast

from dicom_node.core.errors import InferenceError, UnreadableObject, WorkerDied
from dicom_node.inspect.described import ContentItem, Description, Inspected, InspectRequest, Table, name_of
from dicom_node.sandbox.host import ProcessLimits, Sandbox

__all__ = ["ContentItem", "Description", "InspectRequest", "Inspected", "Inspector", "Table", "name_of"]

_TIME_LIMIT_S = 120.0
_MEMORY_LIMIT_MB = 6144


class Inspector:
    """Looks at files in a process of its own: a file that breaks its reader costs one answer. Close it when done."""

    def __init__(self) -> None:
        # A picture comes back with its answer.
        limits = ProcessLimits(time_s=_TIME_LIMIT_S, address_space_mb=_MEMORY_LIMIT_MB, answer_mb=_MEMORY_LIMIT_MB)
        self._sandbox = Sandbox("dicom_node.inspect.reading:look", answer=Inspected, limits=limits)

    def look(self, request: InspectRequest) -> Inspected:
        """Describe one file. Raises `UnreadableObject`, whatever is wrong with it."""
        try:
            return cast("Inspected", self._sandbox.run(request))
        except WorkerDied as error:
            raise UnreadableObject(
                f"{name_of(request.path)} broke its reader: it takes more than {_TIME_LIMIT_S:.0f} s or "
                f"{_MEMORY_LIMIT_MB} MB, or it is made to do harm."
            ) from error
        except InferenceError as error:
            raise UnreadableObject(
                f"{name_of(request.path)} is damaged or is not what it says it is; a validator such as dciodvfy or "
                "dcmdump shows where."
            ) from error

    def close(self) -> None:
        """End the process."""
        self._sandbox.close()
