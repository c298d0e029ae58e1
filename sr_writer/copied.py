"""What is copied from the source into every object: all that says something about the patient and the study.

These attributes belong to patient and study, not to an image (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3), so that
all objects of a study have to agree in them.
"""

from __future__ import annotations

import re
from datetime import date

from pydicom import config as pydicom_settings
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_node.analysis.answer import Analysis, NotAnalysed, with_headers
from dicom_node.core.uids import is_valid_uid
from dicom_node.headers.sound import NUMBER_VRS, READ_ERRORS, is_as_due, with_own_elements, without_unreadable

#: Type 2 in every composite object: present even when the source lacks them, then empty.
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
)  # fmt: skip
_PATIENT = (
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "OtherPatientIDsSequence",
    "OtherPatientNames", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar", "PatientAlternativeCalendar", "QualityControlSubject", "EthnicGroup",
    "EthnicGroupCodeSequence", "PatientComments", "ReferencedPatientSequence",
    "ReferencedPatientPhotoSequence", "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
_ANIMAL = (
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "BreedRegistrationSequence", "StrainDescription", "StrainNomenclature", "StrainCodeSequence",
    "StrainStockSequence", "StrainAdditionalInformation", "GeneticModificationsSequence", "PatientSexNeutered",
)  # fmt: skip
_STUDY = (
    "StudyInstanceUID", "StudyDescription", "IssuerOfAccessionNumberSequence", "ProcedureCodeSequence",
    "ReferencedStudySequence", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence", "RequestingService",
    "RequestingServiceCodeSequence", "ReasonForPerformedProcedureCodeSequence",
)  # fmt: skip
_PATIENT_STUDY = (
    "PatientAge", "PatientSize", "PatientSizeCodeSequence", "PatientWeight", "PatientBodyMassIndex",
    "MeasuredAPDimension", "MeasuredLateralDimension", "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus",
    "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "ReasonForVisit", "ReasonForVisitCodeSequence",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence", "PatientState",
)  # fmt: skip
_TRIAL = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID", "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID", "IssuerOfClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
    "ClinicalTrialTimePointTypeCodeSequence", "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
)  # fmt: skip
#: Without these the values above could not be read as they were meant.
_READING = ("SpecificCharacterSet", "TimezoneOffsetFromUTC", "CodingSchemeIdentificationSequence")

#: Copied as they are when the source has them.
COPIED = (*TYPE_2, *_PATIENT, *_ANIMAL, *_STUDY, *_PATIENT_STUDY, *_TRIAL, *_READING)


# --- what nobody can read counts as not said -------------------------------------------------------------------------

_DIRECTION = re.compile(r"[LRAPHF]{1,3}")


def with_sound_headers(answer: Analysis | NotAnalysed) -> Analysis | NotAnalysed:
    """Return the answer about sources without unreadable values; sources that have none are the same objects."""
    return with_headers(answer, _sound)


def _sound(source: Dataset) -> Dataset:
    sound = without_unreadable(source)
    if _are_directions(sound.get("PatientOrientation")):
        return sound
    sound = with_own_elements(sound)
    del sound["PatientOrientation"]
    return sound


def _are_directions(value: object) -> bool:
    """Whether these are the directions of rows and columns, or empty as in type 2C (PS3.3 C.7.6.1.1.1)."""
    letters = value if isinstance(value, MultiValue) else [value]
    return not value or (len(letters) == 2 and all(_DIRECTION.fullmatch(str(one)) for one in letters))


# --- what may not be written is left out -----------------------------------------------------------------------------

#: Written beside what is copied: what a report says of the request and the body part.
_WRITTEN_TOO = ("BodyPartExamined", "RequestAttributesSequence")
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
#: What items must hold to mean anything (type 1 in PS3.3).
NEEDED_IN_ITEMS = {
    "OtherPatientIDsSequence": ("PatientID", "TypeOfPatientID"),
    "ReferencedStudySequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "ReferencedPatientSequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "CodingSchemeIdentificationSequence": ("CodingSchemeDesignator",),
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_LINES = re.compile(r"[\t\n\f\r]")
_MANY_LINES = frozenset({"LT", "ST", "UT"})
_DATE = re.compile(r"\d{8}")
_MOST_COMPONENTS, _MOST_GROUPS = 5, 3


def writable(source: Dataset) -> Dataset:
    """Return a header in which all that is copied is as PS3.5 6.2 and PS3.3 let it be written.

    A value that is not is left out and never improved: cut to its length an identifier would be another one. Only the
    VR of a value that is right under the VR of the dictionary is set right. The source is not changed.

    A PatientID that is only too long stays as it is: without it a PACS would file the result under another patient than
    the images, or under none.
    """
    header = with_own_elements(source)
    for keyword in (*COPIED, *_WRITTEN_TOO):
        if keyword in header:
            valid = _valid(header[keyword]) or _long_patient_id(header[keyword])
            if valid is None:
                del header[keyword]
            else:
                header[keyword] = valid
    return header


def _valid(element: DataElement) -> DataElement | None:
    if element.keyword == "SpecificCharacterSet":
        return element if _are_known_sets(element.value) else None
    vr = dictionary_VR(element.tag)
    if vr == "SQ":
        return _valid_sequence(element)
    try:
        if not is_as_due(element, vr, dictionary_VM(element.tag)):
            return None
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        if not all(one in (None, "") or _is_valid(vr, str(one)) for one in values):
            return None
        return element if vr == element.VR else DataElement(element.tag, vr, element.value)
    except READ_ERRORS:
        return None


def _long_patient_id(element: DataElement) -> DataElement | None:
    is_text = element.keyword == "PatientID" and element.VR == "LO" and isinstance(element.value, str)
    return element if is_text and not (_CONTROL.search(element.value) or _LINES.search(element.value)) else None


def _valid_sequence(element: DataElement) -> DataElement | None:
    """Return the sequence with its whole items only; `None` when none is left."""
    items = [item for item in element.value if _is_valid_item(element.keyword, item)]
    if not items:
        return None
    return element if len(items) == len(element.value) else DataElement(element.tag, "SQ", items)


def _is_valid_item(keyword: str, item: Dataset) -> bool:
    stated = [child for child in item if not child.tag.is_private]
    whole = all((valid := _valid(child)) is not None and valid is child for child in stated if child.keyword)
    needed = NEEDED_IN_ITEMS.get(keyword, ())
    return bool(stated) and whole and all(item.get(one) for one in needed) and _is_no_broken_code(keyword, item)


def _is_no_broken_code(keyword: str, item: Dataset) -> bool:
    """Whether an item is no code, or one with value, scheme and meaning (PS3.3 8.8)."""
    has_value = any(item.get(one) for one in _CODE_VALUES)
    if not has_value:
        return not keyword.endswith("CodeSequence")
    return bool(item.get("CodeMeaning")) and bool(item.get("CodingSchemeDesignator") or item.get("URNCodeValue"))


def _is_valid(vr: str, text: str) -> bool:
    """Whether text may stand in a data set under this VR (PS3.5 6.2)."""
    if _CONTROL.search(text) or (vr not in _MANY_LINES and _LINES.search(text)):
        return False
    if vr == "UI":
        return is_valid_uid(text)  # leading zeros stay: without its UID a result would belong to no study
    if vr == "DA":
        return _DATE.fullmatch(text) is not None and _is_day(text)
    is_range = vr in {"TM", "DT"} and "-" in text[:-5]  # which only queries have
    if is_range or (vr == "PN" and not _are_name_groups(text)):
        return False
    try:
        validate_value(vr, text, pydicom_settings.RAISE)
    except (ValueError, TypeError):
        return vr in NUMBER_VRS - {"DS", "IS"}
    return True


def _are_name_groups(text: str) -> bool:
    groups = text.split("=")
    return len(groups) <= _MOST_GROUPS and all(group.count("^") < _MOST_COMPONENTS for group in groups)


def _is_day(text: str) -> bool:
    try:
        return bool(date(int(text[:4]), int(text[4:6]), int(text[6:])))
    except ValueError:
        return False


def _are_known_sets(value: object) -> bool:
    names = value if isinstance(value, MultiValue) else [value]
    return all(not name or str(name) in python_encoding for name in names)
