"""What senders were told is kept and the index does not know yet: the full slots of the journals (0009).

They are copied before the database is. A slot is freed only when its row is committed, so that whatever was
acknowledged before is in one of both; what is in both is filed twice when the copy is put back, which changes nothing.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.core.errors import BackupFault
from dicom_node.operate.backup.folder import sha256_of
from dicom_node.operate.backup.manifest import KeptFile
from dicom_node.storage.folder import make_private
from dicom_node.storage.journal import (
    HEAD_BYTES,
    SLOT_BYTES,
    Record,
    RecordKind,
    is_free,
    read_record,
    slot_path,
    slots_in,
)

_SLOT = re.compile(r"[0-9]{4,}\.slot")
#: A record is written by one call; what is read meanwhile is whole soon after.
_LOOKS, _PAUSE_S = 10, 0.02


@dataclass(frozen=True, slots=True)
class KeptSlots:
    """The slots of a snapshot, and the objects that some of them name instead of holding them."""

    files: tuple[KeptFile, ...]
    keys: tuple[str, ...]


def journals_of(settings: Settings) -> list[Path]:
    """Return the journals of all receivers that share the data folder; that of the settings may lie elsewhere."""
    data_dir = settings.node.data_dir.resolve()
    own = (data_dir / settings.dicom.journal).resolve()
    beside = {path.parent for pattern in ("*/*.slot", "*/*/*.slot") for path in data_dir.glob(pattern) if is_slot(path)}
    return sorted({own} | beside)


def is_slot(path: Path) -> bool:
    """Tell whether a file is a slot of a journal, and none that was set aside."""
    return _SLOT.fullmatch(path.name) is not None


def copy_journals(settings: Settings, part: Path) -> KeptSlots:
    """Copy every full slot into a snapshot. Raises `BackupFault` for one that the disk does not give."""
    data_dir = settings.node.data_dir.resolve()
    files: list[KeptFile] = []
    keys: list[str] = []
    for number, journal in enumerate(journals_of(settings)):
        target = journal.relative_to(data_dir) if journal.is_relative_to(data_dir) else Path(journal.name)
        for slot, content, record in _full_slots(journal):
            path = f"journals/{number}/{slot_path(Path(), slot).name}"
            files.append(_kept(part, path, str(target / slot_path(Path(), slot).name), content))
            if record is not None and record.kind is RecordKind.FILE:
                keys.append(record.object_key)
    return KeptSlots(tuple(files), tuple(keys))


def restore_slot(copy: Path, target: Path) -> None:
    """Put a slot back, as long as slots are."""
    make_private(target.parent)
    content = copy.read_bytes()
    target.touch(mode=0o600)
    target.write_bytes(content.ljust(HEAD_BYTES + SLOT_BYTES, b"\0"))


def _full_slots(journal: Path) -> Iterator[tuple[int, bytes, Record | None]]:
    for slot in sorted(slots_in(journal)) if journal.is_dir() else ():
        try:
            found = _read(journal, slot)
        except FileNotFoundError:  # set aside at this moment
            continue
        except OSError as error:
            raise BackupFault(
                f"{slot_path(journal, slot)} cannot be read ({error.strerror}). Look at the disk; the node sets the "
                "slot aside at its next start."
            ) from error
        if found is not None:
            yield slot, *found


def _read(journal: Path, slot: int) -> tuple[bytes, Record | None] | None:
    """Return the slot's bytes up to the end of its record; `None`: it is free.

    One that holds another record than a moment ago was filed before. What does not become whole is damaged, or was cut
    off by a kill: it is copied as it is, and the node that starts on the copy tells of it.
    """
    content, first = b"", None
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        if is_free(journal, slot):
            return None
        record = read_record(journal, slot)
        if look and record != first:
            return None
        first = record
        content = slot_path(journal, slot).read_bytes()
        if record is not None and record == read_record(journal, slot) and _is_whole(content, record):
            return content[: HEAD_BYTES + (0 if record.kind is RecordKind.FILE else record.payload_bytes)], record
    return content, first


def _is_whole(content: bytes, record: Record) -> bool:
    if record.kind is RecordKind.FILE:
        return True
    begin = HEAD_BYTES + record.data_set_offset
    return zlib.crc32(content[begin : HEAD_BYTES + record.payload_bytes]) == record.crc32


def _kept(part: Path, path: str, target: str, content: bytes) -> KeptFile:
    copy = part / path
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy.touch(mode=0o600)
    copy.write_bytes(content)
    return KeptFile(path=path, target=target, sha256=sha256_of(copy), size_bytes=len(content))
