"""Studies that hold a word of its own in everything that tells who the patient is, and how such a word may be spelt."""

from __future__ import annotations

import base64
import codecs
import json
import unicodedata
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from pydicom.dataset import Dataset

#: Character sets, and a word in each that ASCII has no letters for.
CHARACTER_SETS: Mapping[str, tuple[list[str], str]] = {
    "latin": (["ISO_IR 100"], "Grünmärk"),
    "unicode": (["ISO_IR 192"], "Žõmarkß"),
    "japanese": (["", "ISO 2022 IR 87"], "山田標識"),
}
#: Attributes that tell who it is, each with its word.
WORDS: Mapping[str, str] = {
    "PatientName": "XQZNAME",
    "PatientID": "XQZNUMBER",
    "PatientBirthDate": "18870117",
    "OtherPatientIDs": "XQZOTHER",
    "IssuerOfPatientID": "XQZISSUER",
    "PatientMotherBirthName": "XQZMOTHER",
    "PatientAddress": "XQZSTREET",
    "PatientTelephoneNumbers": "XQZPHONE",
    "PatientComments": "XQZCOMMENT",
    "AccessionNumber": "XQZORDER",
    "StudyID": "XQZSTUDYID",
    "StudyDescription": "XQZSTUDY",
    "SeriesDescription": "XQZSERIES",
    "ImageComments": "XQZIMAGE",
    "ReferringPhysicianName": "XQZREFERRER",
    "PerformingPhysicianName": "XQZPERFORMER",
    "OperatorsName": "XQZOPERATOR",
    "InstitutionName": "XQZHOSPITAL",
}
_ALONE = frozenset({"PatientBirthDate", "StudyID", "AccessionNumber", "PatientTelephoneNumbers"})
_ENCODINGS = ("utf-8", "latin-1", "iso2022_jp", "shift_jis")


def mark(image: Dataset, character_set: str, doing: str) -> Dataset:
    """Give the image the words, beside a word of its character set; `doing` ends its study's description."""
    names, word = CHARACTER_SETS[character_set]
    image.SpecificCharacterSet = names if len(names) > 1 else names[0]
    for keyword, ascii_word in WORDS.items():
        setattr(image, keyword, ascii_word if keyword in _ALONE else f"{ascii_word} {word}")
    image.PatientName = f"{ascii_name(word)}"
    image.StudyDescription = f"{WORDS['StudyDescription']} {word} {doing}"
    return image


def ascii_name(word: str) -> str:
    """Return the patient's name with its ideographic group, as Japanese names have it (PS3.5 6.2.1.2)."""
    return f"{WORDS['PatientName']}^Anna={word}^Anna"


def spellings(word: str) -> Iterator[bytes]:
    """Yield how a word may stand in a log, in lower case: plain, escaped, or in another encoding."""
    for form in {word, unicodedata.normalize("NFD", word)}:
        yield json.dumps(form)[1:-1].lower().encode()
        yield form.lower().encode()
        yield form.encode("unicode_escape").lower()
        for encoding in _ENCODINGS:
            try:
                encoded = form.encode(encoding)
            except UnicodeEncodeError:
                continue
            yield from (encoded.lower(), quote(encoded).lower().encode(), encoded.hex().encode())
            yield codecs.escape_encode(encoded)[0].lower()  # type: ignore[attr-defined]


def in_base64(word: str) -> Iterator[bytes]:
    """Yield what base64 makes of a word, wherever it begins: the letters that depend on it alone."""
    for encoding in _ENCODINGS:
        try:
            encoded = word.encode(encoding)
        except UnicodeEncodeError:
            continue
        for before in range(3):
            found = base64.b64encode(b"\0" * before + encoded)
            whole = (before + len(encoded)) * 8 // 6
            yield found[-(-before * 8 // 6) : whole]
