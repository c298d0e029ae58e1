"""What a PACS is known to write anew in an object that it keeps: whose it is, which study it belongs to by name and
number, and where it is kept. Keywords of top-level attributes; what a result says is in none of them. Pure.
"""

from __future__ import annotations

from dicom_node.core.received.versions import Difference, PixelVerdict

_PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "EthnicGroup", "PatientComments", "QualityControlSubject", "ReferencedPatientSequence",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts",
    "Allergies", "SmokingStatus", "PregnancyStatus", "LastMenstrualDate", "PatientState", "Occupation",
    "AdditionalPatientHistory", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID",
    "IssuerOfServiceEpisodeIDSequence", "ServiceEpisodeDescription", "ReasonForVisit", "ReasonForVisitCodeSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientSexNeutered",
)  # fmt: skip
_STUDY = (
    "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence", "StudyID", "StudyDescription", "RequestingService",
    "RequestingServiceCodeSequence", "ProcedureCodeSequence", "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence", "ReferencedStudySequence",
    "ReasonForPerformedProcedureCodeSequence", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName",
)  # fmt: skip
_KEEPING = (
    "RetrieveURL", "RetrieveURI", "RetrieveLocationUID", "OriginalAttributesSequence",
    "ContributingEquipmentSequence", "TimezoneOffsetFromUTC", "StationAETitle",
)  # fmt: skip
REWRITTEN = frozenset((*_PATIENT, *_STUDY, *_KEEPING))


def altered(difference: Difference) -> tuple[str, ...]:
    """Return the keywords in which an object says something else than what only a PACS has written anew.

    Private attributes are a PACS's own; no result of the node has one.
    """
    return tuple(one for one in difference.keywords if one not in REWRITTEN and not one.startswith("("))


def says_the_same(difference: Difference) -> bool:
    """Tell whether an object says and shows what it did, whatever a PACS has written anew."""
    return not altered(difference) and difference.pixels is PixelVerdict.EQUAL
