"""What a slot holds: read, checked, and copied into the spool."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.header_reader import Encoded, Unreadable
from dicom_node.headers import Header
from dicom_node.journal import Record, RecordKind, copy_payload, read_payload
from dicom_node.settle.news import Stored
from dicom_node.spool import Spool, object_key


@dataclass(slots=True)
class Item:
    """One record on its way: where it is copied to until it has its name, and what its header says."""

    news: Stored
    record: Record
    part: Path | None = None
    header: Header | Unreadable | None = None

    @property
    def is_object(self) -> bool:
        """Tell whether it stands for an object (and not for a request)."""
        return self.record.kind is not RecordKind.COMMITMENT

    @property
    def object_key(self) -> str:
        """Where its content lies in the spool, or will."""
        return object_key(self.record.sha256, ".dcm")


class ItemReader:
    """Reads slots of one journal for one spool."""

    def __init__(self, journal: Path, spool: Spool) -> None:
        self._journal = journal
        self._spool = spool

    def item(self, news: Stored, record: Record) -> Item:
        """Return the record with the digest that names its content."""
        if record.kind is RecordKind.OBJECT:
            digest = hashlib.sha256(record.transfer_syntax_uid.encode())
            digest.update(self._data_set(news.slot, record))
            record = replace(record, sha256=digest.hexdigest())
        return Item(news, record)

    def is_whole(self, slot: int, record: Record) -> bool:
        """Tell a record from one that was cut off."""
        if record.kind is RecordKind.FILE:
            path = self._spool.path(record.object_key)
            return path.exists() and path.stat().st_size == record.payload_bytes
        return zlib.crc32(self._data_set(slot, record)) == record.crc32

    def encoded_header(self, item: Item) -> Encoded:
        """Return the data set up to its pixel data."""
        record = item.record
        if record.kind is RecordKind.FILE:
            with self._spool.path(record.object_key).open("rb") as file:
                header = os.pread(file.fileno(), record.header_bytes, record.data_set_offset)
        else:
            header = read_payload(self._journal, item.news.slot, record.data_set_offset, record.header_bytes)
        return Encoded(header, record.transfer_syntax_uid)

    def copy(self, item: Item) -> None:
        """Copy the payload into a part of the spool, unless its content is filed already.

        What a start finds is always written again: after a power cut a name may be durable whose content is not.
        Raises `SpoolUnavailable`.
        """
        if item.record.kind is not RecordKind.OBJECT:
            return
        if not item.news.found and self._spool.path(item.object_key).exists():
            return
        part = self._spool.new_part("settle")
        part.fill(lambda target: copy_payload(self._journal, item.news.slot, item.record.payload_bytes, target))
        item.part = part.finish()

    def request(self, item: Item) -> bytes:
        """Return the data set of a request for storage commitment."""
        return read_payload(self._journal, item.news.slot, 0, item.record.payload_bytes)

    def _data_set(self, slot: int, record: Record) -> bytes:
        start = record.data_set_offset
        return read_payload(self._journal, slot, start, record.payload_bytes - start)
