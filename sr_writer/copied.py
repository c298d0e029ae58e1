"""What is copied from the source into every object: all that says something about the patient and the study.

These attributes belong to patient and study, not to an image (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3), so that
all objects of a study have to agree in them.
"""

from __future__ import annotations

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
