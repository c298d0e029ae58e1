"""What stands for the values that are taken away: the same for the same value and key; nobody finds it without."""

from __future__ import annotations

import hmac
import secrets
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from dicom_node.core.errors import SettingsError
from dicom_node.storage.durable import write_new_file

#: By how many days the dates of a patient move into the past: at least a year, at most ten more.
_LEAST_DAYS, _MOST_DAYS = 366, 366 + 3652
_DATE_DIGITS = 8
_IDENTIFIER_DIGITS = 12
#: In the node's data folder.
KEY_FILE = "deidentification-key"
_KEY_BYTES = 32


def read_or_make_key(path: Path) -> bytes:
    """Return a key of the node, made and durable by now. Raises `SettingsError` where it cannot be read or written.

    Whoever has it can tell which pseudonym a known number has; without it a later export gives other pseudonyms.
    """
    try:
        if not path.exists():
            write_new_file(path, f"{secrets.token_hex(_KEY_BYTES)}\n".encode())
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise SettingsError(f"The key {path} cannot be read or written ({type(error).__name__}).") from error
    if len(key) < _KEY_BYTES:
        raise SettingsError(f"The key {path} is too short. Restore it from a backup.")
    return key


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Replacements under one key for one patient, told apart by number and issuer, for want of one by the study."""

    key: bytes
    patient: tuple[str, ...]

    def uid(self, original: str) -> str:
        """Return the UID that stands for another: ``2.25.`` and a UUID (PS3.5 B.2) made of a keyed digest."""
        digest = self._digest("uid", original)
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"

    @property
    def identifier(self) -> str:
        """What stands for the patient's number and name."""
        return f"ANON-{self._digest('patient', *self.patient).hex()[:_IDENTIFIER_DIGITS].upper()}"

    @property
    def days(self) -> int:
        """By how many days this patient's dates move; whole days, so that times of day and intervals stay."""
        span = _MOST_DAYS - _LEAST_DAYS
        return -(_LEAST_DAYS + int.from_bytes(self._digest("days", *self.patient)[:8], "big") % span)

    def shifted(self, moment: str) -> str:
        """Return a DA or DT value with its date moved; "" for one that has no whole date."""
        digits = moment.strip().replace(".", "", 2) if moment[4:5] == "." else moment.strip()
        try:
            day = date.fromisoformat(digits[:_DATE_DIGITS])
            moved = day + timedelta(days=self.days)
        except (ValueError, OverflowError):
            return ""
        return f"{moved:%Y%m%d}".rjust(_DATE_DIGITS, "0") + digits[_DATE_DIGITS:]

    def _digest(self, *parts: str) -> bytes:
        return hmac.digest(self.key, "\x1f".join(parts).encode(), "sha256")
