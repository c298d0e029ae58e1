"""What a number is found by without being written down: a keyed digest, equal for equal numbers."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass

from dicom_node.core.entities import PatientNumber


@dataclass(frozen=True, slots=True)
class SearchKeys:
    """Digests of numbers under one secret of the node (HMAC-SHA-256, RFC 2104), in hexadecimal.

    Who has the index and not the secret cannot try all numbers.
    """

    secret: bytes

    @property
    def name(self) -> str:
        """What tells this secret from another; it says nothing of it."""
        return hashlib.sha256(b"search keys of " + self.secret).hexdigest()[:16]

    def of_accession(self, number: str) -> str:
        """Return what an accession number is found by."""
        return self._digest("accession", number)

    def of_patient(self, number: PatientNumber) -> tuple[str, str]:
        """Return what a patient's number is found by: without its issuer, and with it."""
        return self.of_patient_id(number.value), self._digest("patient", number.value, number.authority)

    def of_patient_id(self, value: str) -> str:
        """Return what a patient's number is found by, whoever gave it out."""
        return self._digest("patient", value)

    def _digest(self, *parts: str) -> str:
        text = "\x1f".join(map(normalised, parts))
        return hmac.new(self.secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def normalised(value: str) -> str:
    """Return a value as it means the same: blanks around a value of LO or SH, and the NUL that some pad with, say
    nothing (PS3.5 6.2); letters that can be written in two ways are written in one (Unicode NFC)."""
    return unicodedata.normalize("NFC", value).strip(" \0")
