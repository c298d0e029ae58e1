"""Whose a study is: what headers say of a patient, compared by what it means and not by how it is written."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.charset import convert_encodings

from dicom_node.core.entities import StatedPatient
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


# --- what a registration says instead ------------------------------------------------------------------------------


def restate(header: Dataset, stated: StatedPatient, by: str, at: datetime) -> None:
    """Have a header say of its patient what a registration has stated, and what it said before.

    Where the patient has another number by now, that and all that was stated with it is written. Otherwise only what
    corrects the same patient is, where the header says something: one that names another patient is left as it is. A
    value is changed only where it means something else, and a name only where the header's character set can write it.
    What was there is kept in Original Attributes Sequence (PS3.3 C.12.1.1.9), changed at `at` (aware) `by` this system.
    """
    told = {"PatientName": stated.name, "PatientBirthDate": stated.birth_date, "PatientSex": stated.sex}
    if stated.is_moved:
        told["PatientID"] = stated.number.value
    before = said_in(header)
    if not stated.is_moved and compare(before, told).is_other_patient:
        return
    other = (False, None) if stated.is_moved else (False,)
    changes = {one: value for one, value in told.items() if value and _agree(before, told, one) in other}
    if "PatientName" in changes and not _can_write(header, stated.name):
        del changes["PatientName"]
    if changes:
        _keep_original(header, changes, by, at)
        for keyword, value in changes.items():
            setattr(header, keyword, value)


def _can_write(header: Dataset, name: str) -> bool:
    """Tell whether the first character set that a header states has all letters of a name."""
    stated = header.get("SpecificCharacterSet") or "ISO_IR 6"
    try:
        name.encode(convert_encodings(stated)[0])
    except (UnicodeEncodeError, *READ_ERRORS):
        return False
    return True


def _keep_original(header: Dataset, keywords: Iterable[str], by: str, at: datetime) -> None:
    before = Dataset()
    for keyword in keywords:
        if keyword in header:
            before[keyword] = copy.deepcopy(header[keyword])
    item = Dataset()
    item.ModifiedAttributesSequence = [before]
    item.AttributeModificationDateTime = at.strftime("%Y%m%d%H%M%S%z")
    item.ModifyingSystem, item.SourceOfPreviousValues = by, ""
    item.ReasonForTheAttributeModification = "COERCE"
    header.OriginalAttributesSequence = [*(header.get("OriginalAttributesSequence") or ()), item]
