"""Two parties speak of one study: the same patient written otherwise, one with something corrected, or another one."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.headers.patient import compare, said_in

OURS = {"PatientID": "4711", "PatientName": "DOE^JANE", "PatientBirthDate": "19700131", "PatientSex": "F"}
#: An archive that knows the patient by a number of its own.
OTHER_DOMAIN = {"IssuerOfPatientID": "THEIRS", "PatientID": "A-99"}


@pytest.mark.parametrize(
    "theirs",
    [
        {},
        {"PatientID": " 4711 "},
        {"PatientName": "Doe^Jane^^^"},
        {"PatientName": "DOE^JANE=山田^花子"},
        {"PatientName": "DOE^J\N{REPLACEMENT CHARACTER}NE"},
        {"PatientID": "", "PatientBirthDate": ""},
        {"IssuerOfPatientID": "HOSPITAL"},
        {"AccessionNumber": "A1"},
    ],
)
def test_the_same_patient_written_otherwise_or_told_less_of_is_no_difference(theirs: dict[str, str]) -> None:
    found = compare(OURS, OURS | theirs)

    assert not found.is_other_patient
    assert found.differing == ()


@pytest.mark.parametrize(
    ("ours", "theirs", "differing"),
    [
        ({}, {"PatientName": "ROE^JANE"}, ("PatientName",)),
        ({}, {"PatientBirthDate": "19700113"}, ("PatientBirthDate",)),
        ({}, {"PatientSex": "M"}, ("PatientSex",)),
        ({"AccessionNumber": "A1"}, {"AccessionNumber": "A2"}, ("AccessionNumber",)),
        ({"PatientID": ""}, {"PatientName": "ROE^JANE"}, ("PatientName",)),
        ({"IssuerOfPatientID": "OURS"}, OTHER_DOMAIN, ("IssuerOfPatientID",)),
        ({"PatientName": "DOE^JANE=山田^花子"}, {"PatientName": "DOE^JANE=山本^花子"}, ("PatientName",)),
    ],
)
def test_what_differs_beside_a_patient_who_is_the_same_is_named(
    ours: dict[str, str], theirs: dict[str, str], differing: tuple[str, ...]
) -> None:
    found = compare(OURS | ours, OURS | theirs)

    assert not found.is_other_patient
    assert found.differing == differing


@pytest.mark.parametrize(
    ("ours", "theirs", "differing"),
    [
        ({}, {"PatientID": "4712"}, ("PatientID",)),
        ({}, {"PatientID": "04711"}, ("PatientID",)),
        ({}, OTHER_DOMAIN, ("PatientID",)),
        ({}, {"PatientName": "ROE^R", "PatientBirthDate": "19550505"}, ("PatientName", "PatientBirthDate")),
        ({"PatientID": ""}, {"PatientName": "ROE^R", "PatientBirthDate": ""}, ("PatientName",)),
        (
            {"IssuerOfPatientID": "OURS"},
            OTHER_DOMAIN | {"PatientName": "ROE^R", "PatientBirthDate": ""},
            ("IssuerOfPatientID", "PatientName"),
        ),
    ],
)
def test_another_number_or_nothing_that_is_the_same_is_another_patient(
    ours: dict[str, str], theirs: dict[str, str], differing: tuple[str, ...]
) -> None:
    found = compare(OURS | ours, OURS | theirs)

    assert found.is_other_patient
    assert found.differing == differing


def test_who_is_other_is_so_from_both_sides() -> None:
    there = OURS | OTHER_DOMAIN
    assert compare(OURS, there) == compare(there, OURS)


def test_a_header_says_what_can_be_read_of_it() -> None:
    header = Dataset()
    header.PatientID = "4711"
    header[Tag("PatientBirthDate")] = RawDataElement(Tag("PatientBirthDate"), "US", 3, b"abc", 0, False, True)

    said = said_in(header)

    assert said["PatientID"] == "4711"
    assert said["PatientBirthDate"] == said["PatientName"] == ""
