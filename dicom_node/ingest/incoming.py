"""One file on its way into the spool, piece by piece: whatever its size, only its beginning is ever held in memory.

Preamble and file meta information are the sender's until the data set begins; what is kept has a head of our own, for a
preamble can hide another file type (CVE-2019-11687) and the meta information can name another object.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dicom_node.core.errors import RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.vocabulary import TRANSFER_SYNTAXES
from dicom_node.headers.file_meta import LONGEST_HEAD_BYTES, file_head, read_head
from dicom_node.headers.scan import HeaderScan, scan_header
from dicom_node.storage.spool import Buffer, Spool, SpoolPart

#: PS3.18 Table I.2-2: Referenced Transfer Syntax not supported.
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122
_COPIED_AT_ONCE_BYTES = 1 << 20
_OFFERED = frozenset(TRANSFER_SYNTAXES)


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A file that came to its end and was found whole: a part with our head, and what the scan of its header found."""

    part: SpoolPart
    sha256: str
    transfer_syntax_uid: str
    data_set_offset: int
    scan: HeaderScan


class IncomingFile:
    """Takes one file; what is wrong with it is told at the end, so that a body it is part of can be read on."""

    def __init__(self, spool: Spool, owner: str, max_object_bytes: int, transfer_syntax_uid: str = "") -> None:
        """`owner` names the part, should a crash leave it; `transfer_syntax_uid` holds for a bare data set."""
        self._spool = spool
        self._owner = owner
        self._max_object_bytes = max_object_bytes
        self._given_syntax = transfer_syntax_uid
        self._beginning = bytearray()
        self._part: SpoolPart | None = None
        self._digest = hashlib.sha256()
        self._transfer_syntax_uid = ""
        self._names: tuple[str, str] | None = None
        self._own_head = b""
        self._fault: RefusedObject | SpoolUnavailable | None = None
        self.size_bytes = 0

    def write(self, piece: Buffer) -> None:
        """Append."""
        self.size_bytes += len(piece)
        if self._fault is not None:
            return
        try:
            if self.size_bytes > self._max_object_bytes:
                raise RefusedObject(
                    StoreStatus.CANNOT_UNDERSTAND, "The object is larger than dicom.max_object_mb allows."
                )
            if self._part is not None:
                self._append(self._part, piece)
                return
            self._beginning += piece
            if len(self._beginning) >= LONGEST_HEAD_BYTES:
                self._part = self._opened_part()
        except (RefusedObject, SpoolUnavailable) as fault:
            self.discard()
            self._fault = fault

    def finish(self) -> WholeFile:
        """Say that nothing more comes. Raises `RefusedObject`, or `SpoolUnavailable`; nothing is left behind then."""
        if self._fault is not None:
            raise self._fault
        try:
            part = self._part or self._opened_part()
            self._part = part
            scan = self._scanned(part)
            if self._names != (scan.sop_class_uid, scan.sop_instance_uid):
                part = self._with_head_of(part, scan)
        except (RefusedObject, SpoolUnavailable):
            self.discard()
            raise
        self._part = None
        return WholeFile(part, self._digest.hexdigest(), self._transfer_syntax_uid, len(self._own_head), scan)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing of a file that did not come to its end."""
        self.discard()

    @property
    def names(self) -> tuple[str, str]:
        """SOP Class and Instance UID as the file meta information has them; "" where it is missing or unread."""
        return self._names or ("", "")

    def discard(self) -> None:
        """Forget what came."""
        if self._part is not None:
            self._part.discard()
        self._part = None
        self._beginning.clear()

    def _opened_part(self) -> SpoolPart:
        beginning = bytes(self._beginning)
        head = read_head(beginning, self._given_syntax)
        if is_valid_uid(head.sop_class_uid) and is_valid_uid(head.sop_instance_uid):
            self._names = (head.sop_class_uid, head.sop_instance_uid)
        if head.transfer_syntax_uid not in _OFFERED:
            raise RefusedObject(
                TRANSFER_SYNTAX_NOT_SUPPORTED,
                "Its transfer syntax is not one the node takes (deflated, video, private …). Send it in another.",
            )
        self._transfer_syntax_uid = head.transfer_syntax_uid
        self._digest.update(head.transfer_syntax_uid.encode())
        if self._names is not None:
            self._own_head = file_head(*self._names, self._transfer_syntax_uid)
        self._part = self._spool.new_part(self._owner)
        self._part.write(self._own_head)
        self._append(self._part, memoryview(beginning)[head.data_set_offset :])
        self._beginning.clear()
        return self._part

    def _append(self, part: SpoolPart, piece: Buffer) -> None:
        self._digest.update(piece)
        part.write(piece)

    def _scanned(self, part: SpoolPart) -> HeaderScan:
        """Walk the data set in the file; it is mapped, not read."""
        if part.size_bytes == len(self._own_head):
            raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "The object was refused: it has no data set.")
        with part.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            view = whole[len(self._own_head) :]
            try:
                return scan_header(view, self._transfer_syntax_uid)
            finally:
                view.release()
                whole.release()

    def _with_head_of(self, part: SpoolPart, scan: HeaderScan) -> SpoolPart:
        """Write the file again behind the right head: it came without names, or with those of another object."""
        source = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            position = len(self._own_head)
            self._own_head = file_head(scan.sop_class_uid, scan.sop_instance_uid, self._transfer_syntax_uid)
            self._part = self._spool.new_part(self._owner)
            self._part.write(self._own_head)
            while piece := os.pread(source, _COPIED_AT_ONCE_BYTES, position):
                self._part.write(piece)
                position += len(piece)
        finally:
            os.close(source)
            part.discard()
        return self._part
