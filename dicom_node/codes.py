"""Every coded concept the node itself writes, once, shared by SR, SEG and FHIR.

Meanings are at most 64 characters (PS3.3 8.8). Models bring the codes of their findings in `model_card.toml`.
Sources: DCM = DICOM PS3.16 Annex D, SCT = SNOMED CT, LN = LOINC, UCUM = units, 99AINODE = this project.
"""

from __future__ import annotations

from dicom_node.model import Code, Presence

#: Scheme of this project's own codes (PS3.3 8.2: private designators begin with 99).
PRIVATE_SCHEME = "99AINODE"
PRIVATE_SCHEME_NAME = "DICOM AI Node codes"

# --- units (UCUM) ---
PERCENT = Code("%", "UCUM", "Percent")
MILLILITER = Code("ml", "UCUM", "Milliliter")
MILLIMETER = Code("mm", "UCUM", "Millimeter")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNITS = Code("1", "UCUM", "no units")

# --- presence of a finding (CID 240) ---
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
PRESENCE_CODES = {Presence.PRESENT: PRESENT, Presence.ABSENT: ABSENT, Presence.UNDETERMINED: UNDETERMINED}

# --- structure of a report ---
CERTAINTY_OF_FINDING = Code("111012", "DCM", "Certainty of Finding")
PRESENCE_OF_PROPERTY = Code("121052", "DCM", "Presence of property")
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
DIAGNOSTIC_IMAGING_STUDY = Code("18748-4", "LN", "Diagnostic imaging study")

# --- anatomy ---
LUNG = Code("39607008", "SCT", "Lung")
LEFT_LUNG = Code("44029006", "SCT", "Left lung")
RIGHT_LUNG = Code("3341006", "SCT", "Right lung")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")

# --- measurements ---
VOLUME = Code("118565006", "SCT", "Volume")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
DIAMETER = Code("81827009", "SCT", "Diameter")
ATTENUATION_COEFFICIENT = Code("112031", "DCM", "Attenuation Coefficient")
# No code for these was found in DCM, SCT, LN or IBSI, so they are private.
LOW_ATTENUATION_AREA_950 = Code("LAA950", PRIVATE_SCHEME, "Lung volume below -950 HU, fraction")
LUNG_DENSITY_PERCENTILE_15 = Code("PERC15", PRIVATE_SCHEME, "15th percentile of lung attenuation")

#: FHIR code system address for each public coding scheme; private ones get an OID (`uids.coding_scheme_uid`).
FHIR_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
}
