"""What makes a change of the audit trail show: a keyed seal on every record, and an anchor outside the database.

Each record is sealed (HMAC-SHA-256, RFC 2104) together with the seal of the one before: who has no key can change,
remove and add nothing unseen. Who removes the end leaves a shorter chain that is whole; therefore the anchor, a file
that is only ever added to, names the last record of every batch: before the batch is committed (``?``) and after
(``=``). The disk is waited for once, after that, when the database is not locked any more.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC
from itertools import count
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any

from dicom_node.core.errors import AuditUnavailable
from dicom_node.index.people.audit_records import AuditRecord

_KEY_BYTES = 32
_KEY_LINE = re.compile(r"([0-9a-f]{16}) ([0-9a-f]{64})")
#: What a seal covers, in the order in which it is written down for it; all but the number are texts.
_SEALED = sorted({one.name for one in fields(AuditRecord)} - {"mac"})
_FORM = "{" + ", ".join(f'"{name}": %s' for name in _SEALED) + "}"
_MARK = re.compile(r"([?=]) ([0-9]{1,18}) ([0-9a-f]{64})")


# --- keys --------------------------------------------------------------------------------------------------------


class AuditKeys:
    """The keys of a file, one a line after its id; the last seals what is new, the others prove what is old.

    The file is read again when it was changed, so that a key is rotated without a restart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, ...] = ()
        self._keys: dict[str, bytes] = {}

    def known(self) -> dict[str, bytes]:
        """Return every key by its id, in the order of the file. Raises `AuditUnavailable`."""
        try:
            found = self.path.stat()
            state = (found.st_ino, found.st_size, found.st_mtime_ns)
            if state != self._read_at:
                self._keys = _read_keys(self.path)
                self._read_at = state
        except (OSError, ValueError) as error:
            self._read_at = ()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise AuditUnavailable(
                f"The key of the audit trail, {self.path}, cannot be read ({why}). Put it back, or correct "
                "audit.key_file."
            ) from error
        return self._keys

    def make(self) -> None:
        """Make the file with a first key, unless it is there. Raises `AuditUnavailable`."""
        if not self.path.exists():
            self._write([], os.O_EXCL)

    def rotate(self) -> str:
        """Add a key, with which everything is sealed from now on; return its id. Raises `AuditUnavailable`."""
        return self._write([f"{key_id} {key.hex()}" for key_id, key in self.known().items()], 0)

    def _write(self, lines: Sequence[str], flags: int) -> str:
        """Write the file whole or not at all, with one key more; return the new key's id."""
        key = secrets.token_bytes(_KEY_BYTES)
        key_id = hashlib.sha256(key).hexdigest()[:16]
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, opened with its mode
                file.write("".join(f"{line}\n" for line in [*lines, f"{key_id} {key.hex()}"]))
                file.flush()
                os.fsync(file.fileno())
            if flags & os.O_EXCL:
                with suppress(FileExistsError):  # another process that starts was quicker
                    self.path.hardlink_to(draft)
                draft.unlink()
            else:
                draft.replace(self.path)
        except OSError as error:
            raise AuditUnavailable(
                f"The key of the audit trail, {self.path}, cannot be written ({error.strerror}). Give the node's user "
                "the right to, or set audit.key_file."
            ) from error
        return key_id


def _read_keys(path: Path) -> dict[str, bytes]:
    lines = path.read_text(encoding="ascii").splitlines()
    found = [_KEY_LINE.fullmatch(line) for line in lines]
    if not lines or not all(found):
        raise ValueError("it must hold lines of a key id and 64 hexadecimal digits")
    return {one[1]: bytes.fromhex(one[2]) for one in found if one is not None}


# --- seals -------------------------------------------------------------------------------------------------------


def seal_of(record: AuditRecord, key: bytes) -> str:
    """Return the seal of everything in a record but its own seal. Raises `TypeError` for one that holds no texts."""
    return seal_of_values({name: getattr(record, name) for name in _SEALED}, key)


def seal_of_values(values: Mapping[str, Any], key: bytes) -> str:
    """Return the seal of what a record is made of, by column: of its JSON, put together here because an encoder of the
    library takes twice as long, while others wait for the chain."""
    told = {**values, "at": values["at"].astimezone(UTC).isoformat(timespec="microseconds")}
    text = _FORM % tuple(int(told[name]) if name == "number" else _quoted(told[name]) for name in _SEALED)
    return hmac.digest(key, text.encode(), "sha256").hex()


# --- the anchor ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnchorMark:
    """What the anchor says of a record that ended a batch; `settled`: it was in the database."""

    settled: bool
    number: int
    mac: str


class Anchor:
    """A file outside the database that names the last record again and again. It is opened for every line, so that it
    may be put aside at any time, and be on a disk that only takes what is added (``chattr +a``)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def intend(self, record: AuditRecord, head: tuple[int, str] = (0, "")) -> None:
        """Say that the batch which this record ends is being written upon `head`, number and seal of the last record
        before: a file that is new begins with that one. No kill takes this line, but a power cut may: nobody was told
        yet that the batch is written. Raises `AuditUnavailable`."""
        if head[0] and self._is_empty():
            self._add(f"= {head[0]} {head[1]}\n", durable=False)
        self._add(f"? {record.number} {record.mac}\n", durable=False)

    def settle(self, record: AuditRecord) -> None:
        """Say durably that it is in the database. Raises `AuditUnavailable`."""
        self._add(f"= {record.number} {record.mac}\n", durable=True)

    def marks(self) -> Iterator[AnchorMark]:
        """Yield what the file says; a line that was cut off says nothing. Raises `AuditUnavailable`."""
        try:
            with self.path.open(encoding="ascii", errors="replace") as lines:
                for line in lines:
                    if found := _MARK.fullmatch(line.rstrip("\n")):
                        yield AnchorMark(found[1] == "=", int(found[2]), found[3])
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unavailable(error) from error

    def put_aside(self) -> Path | None:
        """Keep the file under another name, so that a new one begins with the next record; return that name, `None`
        where there is no file. Raises `AuditUnavailable`."""
        names = (self.path.with_name(f"{self.path.name}.former-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        try:
            self.path.rename(aside)
            _sync_folder(self.path.parent)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        return aside

    def _add(self, line: str, *, durable: bool) -> None:
        try:
            is_new = not self.path.exists()
            if is_new:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A line of its own, whatever a crash has left of the one before.
                os.write(descriptor, f"\n{line}".encode() if _is_torn(descriptor) else line.encode())
                if durable:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise self._unavailable(error) from error

    def _is_empty(self) -> bool:
        try:
            return self.path.stat().st_size == 0
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> AuditUnavailable:
        return AuditUnavailable(
            f"The anchor of the audit trail, {self.path}, cannot be used ({error.strerror}). Make room or give the "
            "node's user the right to write there, or correct audit.anchor_file."
        )


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
