"""What identifies a patient, wherever it stands: the one place that knows.

Of DICOM it is Table E.1-1 of PS3.15, kept beside this module as it is printed: edition 2024e, and the attributes that
editions up to 2025c added, those by the basic profile alone. De-identification acts by it; log lines withhold fields by
it; the tests mark studies, messages and answers by it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

EDITION = "PS3.15 2024e"
_TABLE = "ps3_15_table_e_1_1.csv"


class ProfileOption(StrEnum):
    """A column of the table beside the basic profile; the value is its heading in the file and in the settings."""

    SAFE_PRIVATE = "safe_private"
    UIDS = "uids"
    DEVICE_IDENTITY = "device_identity"
    INSTITUTION_IDENTITY = "institution_identity"
    PATIENT_CHARACTERISTICS = "patient_characteristics"
    FULL_DATES = "full_dates"
    MODIFIED_DATES = "modified_dates"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    CLEAN_STRUCTURED_CONTENT = "clean_structured_content"
    CLEAN_GRAPHICS = "clean_graphics"


@dataclass(frozen=True, slots=True)
class ConfidentialAttribute:
    """A row of the table: action codes (E.1-1a) of the basic profile, and of the options that say something else."""

    #: Eight digits in hexadecimal, X for any; ``private``: all of odd groups.
    tag: str
    name: str
    basic: str
    options: Mapping[ProfileOption, str]


@cache
def confidential_attributes() -> Mapping[str, ConfidentialAttribute]:
    """Return Table E.1-1 by tag."""
    with (files(__package__) / _TABLE).open(encoding="utf-8") as table:
        return {row["tag"]: _attribute(row) for row in csv.DictReader(table)}


def _attribute(row: Mapping[str, str]) -> ConfidentialAttribute:
    options = {option: row[option] for option in ProfileOption if row[option]}
    return ConfidentialAttribute(row["tag"], row["name"], row["basic"], options)


@cache
def confidential_attribute(tag: int) -> ConfidentialAttribute | None:
    """Return the row that an attribute falls under, `None` where the table does not name it."""
    table, written = confidential_attributes(), f"{tag:08X}"
    if tag >> 16 & 1:
        return table["private"]
    group = f"{written[:2]}XX"  # curves and overlays are repeated in every even group
    return table.get(written) or table.get(f"{group}{written[4:]}") or table.get(f"{group}XXXX")


#: Fields of HL7 v2 messages that tell who the patient is, or which order it is: by segment, the numbers of HL7 v2.5.1.
HL7_FIELDS: Mapping[str, tuple[int, ...]] = {
    "PID": (2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 18, 19, 20, 21, 23, 26, 27, 28),
    "PD1": (4, 8),
    "NK1": (2, 4, 5, 6, 12, 13, 16, 30, 31, 32, 33, 37),
    "MRG": (1, 2, 3, 4, 5, 6, 7),
    "PV1": (3, 5, 7, 8, 9, 17, 19, 50, 52),
    "GT1": (2, 3, 4, 5, 6, 7, 8, 12),
    "IN1": (2, 11, 16, 18, 19, 36, 49),
    "ORC": (2, 3, 4, 8, 10, 11, 12, 14, 19),
    "OBR": (2, 3, 10, 13, 16, 17, 18, 19, 20, 21, 28, 31, 32),
    "NTE": (3,),
}  # fmt: skip

#: Elements of FHIR resources (R4) that do: by resource, the elements at its top.
FHIR_ELEMENTS: Mapping[str, tuple[str, ...]] = {
    "Patient": ("identifier", "name", "telecom", "gender", "birthDate", "deceasedDateTime", "address", "contact",
                "photo", "text", "generalPractitioner"),
    "ServiceRequest": ("identifier", "requisition", "requester", "reasonCode", "note", "patientInstruction", "text"),
    "ImagingStudy": ("identifier", "referrer", "interpreter", "note", "description", "text"),
    "Encounter": ("identifier", "text"),
    "Practitioner": ("identifier", "name", "telecom", "address", "birthDate", "photo", "text"),
}  # fmt: skip

#: Names under which the node itself keeps such values: columns, keys of its JSON, fields of its dataclasses.
NODE_FIELDS = frozenset({
    "patient", "patient_id", "patient_name", "patient_birth_date", "birth_date", "patient_sex", "sex",
    "issuer_of_patient_id", "issuer", "prior_id", "authority", "prior_authority", "accession_number", "accession",
    "order_number", "placer_order_number", "filler_order_number", "study_description", "series_description",
    "referring_physician_name", "attributes", "header", "dataset", "indication", "file_name", "filename",
})  # fmt: skip
