"""What the answers of a FHIR server mean, without a server."""

from __future__ import annotations

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.fhir.client.answers import outcome_text
from dicom_node.fhir.client.client import FhirClient
from dicom_node.fhir.client.reading import Etags
from dicom_node.fhir.client.searching import _escaped

ELEMENTS = frozenset({"DiagnosticReport", "Bundle", "status", "entry", "resource", "subject", "Patient", "name"})
NAMES = ["DOE, JANE", "Li, Na", "太郎 山田", "jane.doe", "Doe", "Иванова"]


def outcome(*issues: object) -> dict[str, object]:
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


def test_codes_and_paths_of_an_outcome_are_told() -> None:
    told = outcome(
        {"code": "invariant", "expression": ["DiagnosticReport.status", "Bundle.entry[3].resource"]},
        {"code": "required"},
    )

    assert outcome_text(told, ELEMENTS) == ("invariant at DiagnosticReport.status, Bundle.entry[3].resource; required")


@pytest.mark.parametrize("name", NAMES)
def test_no_spelling_of_a_name_passes_by_any_element_of_an_outcome(name: str) -> None:
    coding = {"coding": [{"code": name, "display": name}], "text": name}
    paths = [name, f"Patient.name.where(family='{name}')", f"Patient.{name}", f"Patient?name={name}"]
    told = outcome({"code": name, "details": coding, "diagnostics": name, "expression": paths, "location": [name]})

    assert outcome_text(told, ELEMENTS) == "an issue"


def test_many_issues_are_told_in_few_words() -> None:
    told = outcome(*[{"code": "required", "expression": ["DiagnosticReport.status"] * 900}] * 900)

    assert len(outcome_text(told, ELEMENTS)) < 600


@pytest.mark.parametrize(
    "body",
    [None, [], "text", {"resourceType": "Patient"}, {"resourceType": "OperationOutcome"}, outcome(None, 5, "x")]
    + [{"resourceType": "OperationOutcome", "issue": issue} for issue in (None, 5, {}, "x")],
)
def test_what_is_no_outcome_says_nothing(body: object) -> None:
    assert outcome_text(body, ELEMENTS) == ""


@pytest.mark.parametrize("issue", [{"code": None}, {"code": 5}, {"details": None}, {"expression": 5, "diagnostics": 7}])
def test_an_issue_out_of_shape_is_still_an_issue(issue: object) -> None:
    assert outcome_text(outcome(issue), ELEMENTS) == "an issue"


@pytest.mark.parametrize("address", ["", "ehr.example/fhir", "ftp://ehr.example", "https://user:pw@ehr.example/fhir"])
def test_an_address_that_cannot_be_one_is_refused_at_once(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        FhirClient(address)

    assert "pw" not in str(refused.value).replace("password", "")


def test_separators_in_a_patient_number_are_escaped_in_searches() -> None:
    assert _escaped("A|1,2$\\") == "A\\|1\\,2\\$\\\\"


@pytest.mark.parametrize("spelling", ['W/"{}"', '"{}"', "{}"])
def test_a_version_that_was_not_read_is_spelt_as_one_that_was(spelling: str) -> None:
    etags = Etags()
    etags.note({"resourceType": "Observation", "id": "o", "meta": {"versionId": "1"}}, spelling.format("1"))

    assert etags.condition("DiagnosticReport/r", "17") == spelling.format("17")
    assert etags.condition("DiagnosticReport/r", "") == ""


def test_a_tag_that_is_no_version_is_kept_for_its_resource_and_teaches_nothing() -> None:
    etags = Etags()
    etags.note({"resourceType": "Observation", "id": "o", "meta": {"versionId": "1"}}, 'W/"12-1f"')

    assert etags.condition("Observation/o", "1") == 'W/"12-1f"'
    assert etags.condition("Observation/o", "2") == 'W/"2"'
