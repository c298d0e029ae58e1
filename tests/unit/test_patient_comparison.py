"""Two parties speak of one study: the same patient written otherwise, one with something corrected, or another one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.core.entities import PatientNumber, StatedPatient
from dicom_node.headers.patient import compare, restate, said_in

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


# --- what a registration says instead ------------------------------------------------------------------------------

AT = datetime(2026, 11, 20, 10, 10, tzinfo=UTC)


def header(**values: str) -> Dataset:
    found = Dataset()
    for keyword, value in {**OURS, "SpecificCharacterSet": "ISO_IR 100", **values}.items():
        setattr(found, keyword, value)
    return found


def restated(images: Dataset, *, number: str = "4711", is_moved: bool = False, **said: str) -> dict[str, str]:
    """Return what a header says afterwards, and before, of what was changed."""
    restate(images, StatedPatient(number=PatientNumber(number), is_moved=is_moved, **said), "AINODE", AT)
    kept = images.get("OriginalAttributesSequence") or ()
    before = {one.keyword: str(one.value) for item in kept for one in item.ModifiedAttributesSequence[0]}
    return {one: f"{before[one]} > {images[one].value}" for one in before}


def test_a_moved_patient_has_the_number_and_all_that_was_stated_with_it_whoever_the_images_named() -> None:
    unknown = header(PatientName="UNKNOWN^TRAUMA", PatientBirthDate="")
    told = restated(unknown, number="NEW", is_moved=True, name="Doe^Jane", birth_date="19700131", sex="F")
    assert told == {
        "PatientID": "4711 > NEW", "PatientName": "UNKNOWN^TRAUMA > Doe^Jane", "PatientBirthDate": " > 19700131",
    }  # fmt: skip
    (item,) = unknown.OriginalAttributesSequence
    assert (item.ModifyingSystem, item.AttributeModificationDateTime) == ("AINODE", "20261120101000+0000")


def test_of_the_same_patient_only_what_means_something_else_is_changed() -> None:
    assert restated(header(), name="doe^jane", birth_date="19700131", sex="F") == {}
    assert restated(header(), name="Doe^Jane", birth_date="19700113") == {"PatientBirthDate": "19700131 > 19700113"}
    assert restated(header(), name="Roe^Jane", birth_date="19700131") == {"PatientName": "DOE^JANE > Roe^Jane"}
    assert restated(header(PatientSex=""), birth_date="19700131", sex="M") == {}


@pytest.mark.parametrize("stated", [{"name": "Roe^Jane"}, {"name": "Roe^Richard", "birth_date": "19800101"}])
def test_images_of_another_patient_than_the_number_says_are_left_as_they_are(stated: dict[str, str]) -> None:
    assert restated(header(PatientBirthDate="19700131"), **stated) == {}


def test_a_name_is_written_only_where_the_character_set_of_the_images_has_its_letters() -> None:
    said = {"name": "Żółć^Jan", "birth_date": "19700131"}
    assert "PatientName" not in restated(header(), number="NEW", is_moved=True, **said)
    images = header(SpecificCharacterSet="ISO_IR 192")
    assert restated(images, number="NEW", is_moved=True, **said)["PatientName"] == "DOE^JANE > Żółć^Jan"
