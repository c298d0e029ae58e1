"""One object on its way in: fragments go straight into one reused buffer, or through it into a file when they outgrow
it. A checksum is taken as they come; of what becomes a file at once, the digest that names it."""

from __future__ import annotations

import hashlib
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.core.errors import RefusedObject, SpoolUnavailable
from dicom_node.storage.journal import SLOT_BYTES
from dicom_node.storage.spool import Spool, SpoolPart

#: Kept for the head of the file, which stands before the data set in a slot.
HEAD_BYTES = 1024
_BUFFER_BYTES = SLOT_BYTES - HEAD_BYTES


class TooLarge(Exception):
    """The object is larger than the node takes."""


class IncomingObject:
    """Collects the data set of one C-STORE; reused for every object of an association, so the buffer is, too."""

    def __init__(self, spool: Spool, parts_owner: str, max_object_bytes: int, max_pdu_bytes: int) -> None:
        self._spool = spool
        self._parts_owner = parts_owner
        self._max_object_bytes = max_object_bytes
        self._least = max_pdu_bytes
        self._buffer = memoryview(bytearray(0))
        self._head = b""
        self._part: SpoolPart | None = None
        self._filled = 0
        self._fault: RefusedObject | SpoolUnavailable | None = None
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        #: CRC-32 of a small data set.
        self.crc32 = 0

    def begin(
        self, head: bytes, transfer_syntax_uid: str, fault: RefusedObject | SpoolUnavailable | None = None
    ) -> None:
        """Start with an empty data set; `head` is the file's head, should it become a file.

        With a `fault` the data set is received and thrown away: a sender that is cut off in the middle would try for
        ever, one that gets a status knows why.
        """
        if not self._buffer:
            self._buffer = memoryview(bytearray(max(_BUFFER_BYTES, self._least)))
        self._head = head
        self._part, self._filled, self._fault, self.size_bytes, self.crc32 = None, 0, fault, 0, 0
        self._digest = hashlib.sha256(transfer_syntax_uid.encode())

    def buffer_for(self, length: int) -> memoryview:
        """Return where the next `length` bytes are to be received. Raises `TooLarge`."""
        if self.size_bytes + length > self._max_object_bytes:
            raise TooLarge
        if self.is_small and self._filled + length > _BUFFER_BYTES:
            self._spill()
        start = self._filled if self.is_small else 0
        return self._buffer[start : start + length]

    def received(self, view: memoryview) -> None:
        """Take note that a view given by `buffer_for` is filled."""
        self.size_bytes += len(view)
        if self.is_small:
            self.crc32 = zlib.crc32(view, self.crc32)
            self._filled += len(view)
        elif self._part is not None:
            self._digest.update(view)
            self._append(view)

    @property
    def is_small(self) -> bool:
        """Tell whether the whole data set lies in the buffer."""
        return self._part is None and self._fault is None

    @property
    def part(self) -> SpoolPart:
        """The file of a data set that is not small. Raises the fault with which it began, or `SpoolUnavailable` when
        the disk did not take it."""
        if self._fault is not None:
            raise self._fault
        if self._part is None:
            raise RuntimeError("the object is small, it has no file")
        return self._part

    @property
    def sha256(self) -> str:
        """The digest of transfer syntax and data set, which names the content, of a data set that is not small."""
        return self._digest.hexdigest()

    @contextmanager
    def data_set(self) -> Iterator[memoryview]:
        """Give the whole data set to look at; a large one is mapped, not read."""
        if self.is_small:
            yield self._buffer[: self._filled]
            return
        with self.part.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            view = whole[len(self._head) :]
            try:
                yield view
            finally:
                view.release()
                whole.release()

    def discard(self) -> None:
        """Forget the data set; its file is deleted."""
        if self._part is not None:
            self._part.discard()
        self._part = None

    def _spill(self) -> None:
        """Move from the buffer to a file; when the disk does not take it, that is the object's fault from now on."""
        try:
            self._part = self._spool.new_part(self._parts_owner)
            self._part.write(self._head)
            self._part.write(self._buffer[: self._filled])
            self._digest.update(self._buffer[: self._filled])
        except SpoolUnavailable as error:
            self._give_up(error)

    def _append(self, view: memoryview) -> None:
        try:
            if self._part is not None:
                self._part.write(view)
        except SpoolUnavailable as error:
            self._give_up(error)

    def _give_up(self, error: SpoolUnavailable) -> None:
        self.discard()
        self._fault = error
