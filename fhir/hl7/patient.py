"""PID: whose result it is, as the images say it."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.fhir.builders.dicom_values import date_of, name_groups, one_line, source_text
from dicom_node.fhir.builders.identifiers import patient_reference
from dicom_node.fhir.hl7.grammar import Er7, component, field, repeated, segment, timestamp
from dicom_node.fhir.options import FhirOptions

#: The groups of a DICOM name in their order (PS3.5 6.2.1), by their code of table 0465.
_REPRESENTATIONS = ("A", "I", "P")
#: PatientSex (PS3.3 C.7.1.1) in table 0001, which has the same letters.
_SEXES = frozenset({"M", "F", "O"})
#: XPN of somebody whose name is not known: table 0200, unspecified.
_NO_NAME = field("", "", "", "", "", "", "U")


def patient_segment(header: Dataset, options: FhirOptions) -> Er7:
    """Return PID. Without PatientID its number is empty, and the sender will not send it."""
    sex = source_text(header, "PatientSex").upper()
    return segment("PID", {
        1: "1",
        3: _number(header, options),
        5: repeated(*_names(header)) or _NO_NAME,
        7: timestamp(date_of(header, "PatientBirthDate")),
        8: sex if sex in _SEXES else "",
    })  # fmt: skip


def _number(header: Dataset, options: FhirOptions) -> Er7:
    """Return PatientID with who assigned it: IssuerOfPatientID by name, and the identifier system that FHIR uses.

    An issuer that the site's list does not hold has a name only: such a number is another hospital's.
    """
    identifier = patient_reference(header, options).get("identifier", {})
    if not identifier:
        return Er7("")
    name = source_text(header, "IssuerOfPatientID")
    authority = component(name, *universal_id(identifier.get("system", "")))
    return field(identifier["value"], "", "", authority, "MR")


def universal_id(system: str) -> tuple[str, ...]:
    """Return an identifier system (a URI) as universal ID and its type (HD, table 0301).

    >>> universal_id("urn:oid:1.2.3")
    ('1.2.3', 'ISO')
    >>> universal_id("https://hospital.example/patients")
    ('https://hospital.example/patients', 'URI')
    """
    for prefix, kind in (("urn:oid:", "ISO"), ("urn:uuid:", "UUID")):
        if system.startswith(prefix):
            return system.removeprefix(prefix), kind
    return (system, "URI") if system else ()


def _names(header: Dataset) -> Iterator[Er7]:
    """Yield the name in each writing. DICOM has the prefix before the suffix, HL7 the suffix before the prefix."""
    for group, representation in zip(name_groups(header), _REPRESENTATIONS, strict=False):
        parts = [one_line(part) for part in group.split("^")]
        family, given, middle, prefix, suffix = (*parts, "", "", "", "", "")[:5]
        if any(parts):
            yield field(family, given, middle, suffix, prefix, "", "L", representation)
