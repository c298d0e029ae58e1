"""Whether the audit trail is what was written: every seal, every link, and the end that the anchor remembers."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from dicom_node.index.database import Database
from dicom_node.index.people.audit_records import AuditFilter, AuditRecord, matching_records
from dicom_node.people.audit.seal import Anchor, AnchorMark, AuditKeys, seal_of


@dataclass(frozen=True, slots=True)
class TrailFinding:
    """What was seen of one record; `is_fault`: it was changed or removed. The others are to be known. `by_anchor`: the
    trail is whole in itself, and only the anchor knows of another end, as after a backup was put back."""

    number: int
    text: str
    is_fault: bool = True
    by_anchor: bool = False


def verify(database: Database, keys: AuditKeys, anchor: Anchor) -> tuple[int, list[TrailFinding]]:
    """Read the whole trail; return how many records there are, and what is wrong with which.

    Raises `AuditUnavailable` when key or anchor cannot be read, `IndexUnavailable` for the database.
    """
    marks = list(anchor.marks())  # first: what is added meanwhile is only newer than the anchor
    with database.read() as connection:
        chain = _Chain(keys.known(), marks)
        found = list(_followed(connection, chain))
    return chain.count, [*found, *chain.end()]


def _followed(connection: Connection, chain: _Chain) -> Iterator[TrailFinding]:
    try:
        for record in matching_records(connection, AuditFilter()):
            yield from chain.follow(record)
    except ValueError:  # SQLite keeps whatever is written, and there are records behind it that are not reached
        yield TrailFinding(
            chain.count + 1, "it, or one soon behind it, was changed: it cannot be read as a record any more"
        )


class _Chain:
    """Follows the records in their order."""

    def __init__(self, keys: dict[str, bytes], marks: Iterable[AnchorMark]) -> None:
        self.count = 0
        self._keys = keys
        self._number, self._mac = 0, ""
        self._settled: defaultdict[int, set[str]] = defaultdict(set)
        self._begun: dict[str, int] = {}
        self._first_mark: AnchorMark | None = None
        for mark in marks:
            self._first_mark = self._first_mark or mark
            if mark.settled:
                self._settled[mark.number].add(mark.mac)
                self._begun.pop(mark.mac, None)
            else:
                self._begun[mark.mac] = mark.number

    def follow(self, record: AuditRecord) -> Iterator[TrailFinding]:
        """Yield what is wrong with the next record."""
        self.count += 1
        if record.number < 1:
            yield TrailFinding(record.number, "it was added: the node's own records begin with 1")
            return
        is_next = record.number == self._number + 1
        if not is_next:
            yield _missing(self._number + 1, record.number - 1, "removed")
        key = self._keys.get(record.key_id)
        if key is None:
            yield TrailFinding(record.number, f"its key {record.key_id} is not in the key file: it cannot be proved")
        elif not _is_sealed(record, key):
            yield TrailFinding(record.number, "it was changed after it was written: its seal does not hold")
        elif is_next and record.previous != self._mac:
            yield TrailFinding(record.number, "it does not follow the record before, which is another than it was")
        if self._settled.pop(record.number, {record.mac}) != {record.mac}:
            text = "the anchor names another record of this number: the database is older than the anchor, or rewritten"
            yield TrailFinding(record.number, text, by_anchor=True)
        self._begun.pop(record.mac, None)
        self._number, self._mac = record.number, record.mac

    def end(self) -> Iterator[TrailFinding]:
        """Yield what the anchor remembers behind the last record."""
        if self.count and self._first_mark is None:
            text = "the anchor names no record: nobody can tell whether the end was cut off"
            yield TrailFinding(self._number, text, by_anchor=True)
        elif self._first_mark is not None and self._first_mark.settled:  # a trail begins with an intention
            text = "the anchor was begun anew behind this record: only the old one tells whether it was the last"
            yield TrailFinding(self._first_mark.number, text, is_fault=False)
        last = max(self._settled, default=0)
        if last > self._number:
            how = "removed from the end, or the database is older than the anchor"
            yield replace(_missing(self._number + 1, last, how), by_anchor=True)
        for number in sorted(self._begun.values()):
            text = "a record of this number was being written when its process ended or failed, and is not there"
            yield TrailFinding(number, text, is_fault=False)


def _is_sealed(record: AuditRecord, key: bytes) -> bool:
    try:
        return hmac.compare_digest(seal_of(record, key), record.mac)
    except TypeError:  # what stands there is no text
        return False


def _missing(first: int, last: int, how: str) -> TrailFinding:
    return TrailFinding(first, f"it is missing: {how}" if first == last else f"it and all to {last} are missing: {how}")
