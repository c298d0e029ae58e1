"""Studies that hold a word of its own in everything that tells who the patient is, and how such a word may be spelt."""

from __future__ import annotations

import base64
import codecs
import json
import unicodedata
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from dicom_node.core.identifying import confidential_attributes

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
#: Stands in every other attribute of Table E.1-1 that takes text, in private ones, and in an item of a sequence.
ELSEWHERE = "XQZELSE"
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ALONE = frozenset({"PatientBirthDate", "StudyID", "AccessionNumber", "PatientTelephoneNumbers"})
_ENCODINGS = ("utf-8", "latin-1", "iso2022_jp", "shift_jis")


def mark(image: Dataset, character_set: str, doing: str) -> Dataset:
    """Give the image the words, beside a word of its character set; `doing` ends its study's description."""
    names, word = CHARACTER_SETS[character_set]
    for tag in _other_texts():
        image.add_new(tag, dictionary_VR(tag), ELSEWHERE)
    block = image.private_block(0x0009, f"{ELSEWHERE} creator", create=True)
    block.add_new(1, "LO", ELSEWHERE)
    asked = Dataset()
    asked.RequestedProcedureDescription, asked.ReasonForTheRequestedProcedure = ELSEWHERE, ELSEWHERE
    image.RequestAttributesSequence = [asked]
    image.SpecificCharacterSet = names if len(names) > 1 else names[0]
    for keyword, ascii_word in WORDS.items():
        setattr(image, keyword, ascii_word if keyword in _ALONE else f"{ascii_word} {word}")
    image.PatientName = f"{ascii_name(word)}"
    image.StudyDescription = f"{WORDS['StudyDescription']} {word} {doing}"
    return image


def _other_texts() -> Iterator[int]:
    """Yield the tags of the table that take text and have no word of their own."""
    for tag in confidential_attributes():
        if tag.isalnum() and "X" not in tag and tag != "private" and int(tag[:4], 16) > 2:
            try:
                is_text = dictionary_VR(int(tag, 16)) in _TEXT
            except KeyError:
                continue
            if is_text:
                yield int(tag, 16)


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
