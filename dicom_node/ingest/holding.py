"""Files that must lie whole before they can be used, archives and pictures: held in the spool for as long as that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.errors import RefusedObject
from dicom_node.headers import StoreStatus
from dicom_node.spool import Spool


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file that is there until the `with` block ends."""

    path: Path
    sha256: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)


def hold(spool: Spool, pieces: Iterable[bytes], max_bytes: int) -> HeldFile:
    """Write a file down. Raises `RefusedObject` when it is too large, `SpoolUnavailable`, and whatever `pieces` raise;
    nothing is left behind then."""
    digest = hashlib.sha256()
    part = spool.new_part("held")
    is_whole = False
    try:
        for piece in pieces:
            digest.update(piece)
            part.write(piece)
            if part.size_bytes > max_bytes:
                raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"It has more than {max_bytes} bytes.")
        is_whole = True
    finally:
        if not is_whole:
            part.discard()
    return HeldFile(part.finish(), digest.hexdigest())
