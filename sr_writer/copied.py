"""What is copied from the source into every object: all that says something about the patient and the study.

These attributes belong to patient and study, not to an image (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3), so that
all objects of a study have to agree in them.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from dicom_node.analysis.answer import Analysis, NotAnalysed

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

#: Attributes that are calculated with or copied as numbers, and how many values each has; 0: any number of them.
_NUMBERS = {
    "RescaleSlope": 1, "RescaleIntercept": 1, "SliceThickness": 1, "SpacingBetweenSlices": 1,
    "PixelPaddingValue": 1, "PixelPaddingRangeLimit": 1, "PixelSpacing": 2, "ImagerPixelSpacing": 2,
    "NominalScannedPixelSpacing": 2, "PixelAspectRatio": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6,
    "WindowCenter": 0, "WindowWidth": 0, "LossyImageCompressionRatio": 0,
    **{one: 1 for one in COPIED if dictionary_VR(tag_for_keyword(one) or 0) in {"DS", "IS", "FD", "US"}},
}  # fmt: skip
#: One is nothing without the other.
_PAIRS = ({"WindowCenter", "WindowWidth"}, {"RescaleSlope", "RescaleIntercept"})
_SEQUENCES = (
    *(keyword for keyword in COPIED if dictionary_VR(tag_for_keyword(keyword) or 0) == "SQ"),
    *("RequestAttributesSequence", "VOILUTSequence", "ModalityLUTSequence"),
)
#: Keywords by tag: a series has hundreds of headers, and looking a tag up is ten times as quick as a keyword.
_LOOKED_AT = {
    Tag(keyword): keyword for keyword in dict.fromkeys((*_NUMBERS, *_SEQUENCES, *COPIED, "PatientOrientation"))
}
_DIRECTION = re.compile(r"[LRAPHF]{1,3}")
#: What reading a malformed value raises in pydicom; it says nothing about which.
_READ_ERRORS = (ValueError, TypeError, OSError, ArithmeticError, AttributeError, LookupError, NotImplementedError)


def with_sound_headers(answer: Analysis | NotAnalysed) -> Analysis | NotAnalysed:
    """Return the answer about sources without unreadable values; sources that have none are the same objects."""
    sources = tuple(_sound(source) for source in answer.sources)
    if all(new is old for new, old in zip(sources, answer.sources, strict=True)):
        return answer
    return replace(answer, sources=sources)


def _sound(source: Dataset) -> Dataset:
    unreadable = set(_unreadable(source))
    for pair in _PAIRS:
        if pair & unreadable:
            unreadable |= pair
    return _without(source, unreadable) if unreadable else source


def _unreadable(source: Dataset) -> Iterator[str]:
    said = [keyword for tag, keyword in _LOOKED_AT.items() if tag in source.keys()]  # noqa: SIM118 - by tag, not parsed
    for keyword in said:
        if keyword in _NUMBERS:
            sound = _are_numbers(source, keyword, _NUMBERS[keyword])
        elif keyword == "PatientOrientation":
            sound = _are_directions(source[keyword].value)
        else:
            sound = (_is_sequence if keyword in _SEQUENCES else _is_readable)(source, keyword)
        if not sound:
            yield keyword


def _without(source: Dataset, keywords: set[str]) -> Dataset:
    sound = copy.copy(source)
    # A copy has all that reading left in the dataset (encodings, decoded pixels), but shares its table of elements.
    sound._dict = dict(source.items())
    for keyword in keywords:
        sound.pop(keyword, None)
    return sound


def _are_numbers(source: Dataset, keyword: str, count: int) -> bool:
    try:
        value = source[keyword].value
        values: Sequence[object] = value if isinstance(value, MultiValue) else [value]
        return count in {0, len(values)} and all(math.isfinite(float(str(one))) for one in values)
    except _READ_ERRORS:
        return False


def _are_directions(value: object) -> bool:
    """Whether these are the directions of rows and columns, or empty as in type 2C (PS3.3 C.7.6.1.1.1)."""
    letters = value if isinstance(value, MultiValue) else [value]
    return not value or (len(letters) == 2 and all(_DIRECTION.fullmatch(str(one)) for one in letters))


def _is_sequence(source: Dataset, keyword: str) -> bool:
    try:
        element = source[keyword]
        return element.VR == "SQ" and all(isinstance(child.keyword, str) for item in element.value for child in item)
    except _READ_ERRORS:
        return False


def _is_readable(source: Dataset, keyword: str) -> bool:
    try:
        return source[keyword].tag is not None
    except _READ_ERRORS:
        return False
