"""Whose a study is: what headers say of a patient, compared by what it means and not by how it is written."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.headers.sound import READ_ERRORS

#: What is told of a patient and of the order, keyword by keyword; what is not said is missing or empty.
Said = Mapping[str, str]
#: What is compared, and named where it differs.
COMPARED = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
)  # fmt: skip
#: What a decoder puts in the place of letters that it could not read.
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """Whether two headers name different patients, and the keywords of what both say and say differently."""

    is_other_patient: bool
    differing: tuple[str, ...]


def said_in(header: Dataset) -> Said:
    """Return what a header says of its patient and order; a value that nobody can read counts as not said."""
    return {keyword: _text(header, keyword) for keyword in COMPARED}


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword) or "")
    except READ_ERRORS:
        return ""


def meaning(header: Dataset | Said, keyword: str) -> tuple[str, ...]:
    """Return what a value says, of a name each group: alphabetic, ideographic, phonetic.

    Blanks around a value and empty components at the end of a name say nothing (PS3.5 6.2, 6.2.1).
    """
    text = unicodedata.normalize("NFC", str(header.get(keyword) or ""))
    if keyword != "PatientName":
        return (text.strip(),)
    return tuple("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("="))


def compare(ours: Said, theirs: Said) -> PatientComparison:
    """Compare what two parties say of one study; what only one of them says contradicts nothing.

    Another PatientID is another patient, unless it is of another issuer; another name together with another birth date
    is, too. A name or a birth date that differs alone is one where nothing else says that it is the same patient.
    """
    same = {keyword: _agree(ours, theirs, keyword) for keyword in COMPARED}
    if same["IssuerOfPatientID"] is False:
        same["PatientID"] = None
    patient_id, name, birth_date = same["PatientID"], same["PatientName"], same["PatientBirthDate"]
    differs, agrees = False in {name, birth_date}, True in {patient_id, name, birth_date}
    is_other = patient_id is False or (differs and not agrees) or (name is False and birth_date is False)
    return PatientComparison(is_other, tuple(keyword for keyword, is_same in same.items() if is_same is False))


def _agree(ours: Said, theirs: Said, keyword: str) -> bool | None:
    """Tell whether both say the same; `None` where one of them says nothing, or nothing that could be read."""
    both = [
        (mine, other)
        for mine, other in zip(meaning(ours, keyword), meaning(theirs, keyword), strict=False)
        if mine and other and _UNREADABLE not in mine + other
    ]
    if not both:
        return None
    if keyword == "PatientName":  # archives write names in capitals
        both = [(mine.casefold(), other.casefold()) for mine, other in both]
    return all(mine == other for mine, other in both)
