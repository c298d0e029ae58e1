"""What the answers of a FHIR server mean, without a server."""

from __future__ import annotations

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.fhir.client.answers import outcome_text
from dicom_node.fhir.client.client import FhirClient
from dicom_node.fhir.client.searching import _escaped


def test_a_long_outcome_is_trimmed() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "x" * 9000}]}

    assert len(outcome_text(outcome, ())) < 600


def test_an_outcome_quotes_no_secret() -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"details": {"text": "Patient PID-1 unknown"}}]}

    assert outcome_text(outcome, ("PID-1",)) == "Patient *** unknown"


@pytest.mark.parametrize("body", [None, [], "text", {"resourceType": "Patient"}, {"resourceType": "OperationOutcome"}])
def test_what_is_no_outcome_says_nothing(body: object) -> None:
    assert outcome_text(body, ()) == ""


@pytest.mark.parametrize("address", ["", "ehr.example/fhir", "ftp://ehr.example", "https://user:pw@ehr.example/fhir"])
def test_an_address_that_cannot_be_one_is_refused_at_once(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        FhirClient(address)

    assert "pw" not in str(refused.value).replace("password", "")


def test_separators_in_a_patient_number_are_escaped_in_searches() -> None:
    assert _escaped("A|1,2$\\") == "A\\|1\\,2\\$\\\\"
