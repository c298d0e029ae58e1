"""What a reviewed result says in FHIR and in HL7 v2, and that nothing else can say it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.context import ReplacedResult, ReportContext
from dicom_node.core.assessment.review import Review, ReviewedFinding, Reviewer, ReviewReason
from dicom_node.core.entities import ReviewState
from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.resources.document import document_entry
from dicom_node.fhir.builders.validation import check_bundle, check_resource
from dicom_node.fhir.builders.verification import is_sealed
from dicom_node.fhir.hl7.grammar import read, value
from dicom_node.fhir.hl7.message import WithdrawnMessages, build_message, withdrawal_message
from dicom_node.fhir.hl7.own import checked
from dicom_node.fhir.hl7.receiver import Receiver, for_receiver
from dicom_node.fhir.json_types import Json
from tests.support.results.fhir_examples import CONTEXT, FINDINGS, OPTIONS, STARTED_AT, analysis, written_objects
from tests.support.results.hl7_grammar import complaints
from tests.support.results.reviewed_examples import DECIDED_AT, READER, SECOND, measured

UID = "2.25.7"
PNEUMONIA, EFFUSION, EMPHYSEMA, LEFT_LUNG = FINDINGS
AIAST = "AIAST"


def review(**changes: Any) -> Review:
    """Return a review that lets the first finding stand, removes the second, and changes the third."""
    values: dict[str, Any] = {
        "of_job_key": CONTEXT.job_key, "state": ReviewState.MODIFIED, "reviewer": READER, "decided_at": DECIDED_AT,
        "findings": (
            ReviewedFinding(finding=PNEUMONIA, said_by_model=PNEUMONIA),
            ReviewedFinding(finding=EFFUSION, said_by_model=EFFUSION, removed=True, text="Skin fold."),
            ReviewedFinding(finding=measured(EMPHYSEMA), said_by_model=EMPHYSEMA),
            ReviewedFinding(finding=replace(PNEUMONIA, key="reader-1", label="Second focus"), said_by_model=None),
        ),
        "reasons": (ReviewReason.FALSE_POSITIVE,), "text": "Compared with 2025.",
    }  # fmt: skip
    return Review(**(values | changes))


def accepted() -> Review:
    return review(
        state=ReviewState.ACCEPTED, reasons=(), text="", second_reader=SECOND,
        findings=tuple(ReviewedFinding(finding=one, said_by_model=one) for one in FINDINGS),
    )  # fmt: skip


def context(told: Review, **changes: Any) -> ReportContext:
    return replace(
        CONTEXT, job_key="c" * 64, review=told, replaced=(ReplacedResult(job_key=CONTEXT.job_key),), **changes
    )


def bundle(told: Review, **changes: Any) -> dict[str, Json]:
    """Return the resources of a reviewed bundle: by type, the Observations by the text of their code."""
    made = build_bundle(analysis(), context(told, **changes), written_objects(), OPTIONS)
    entries: Any = made["entry"]
    resources = [one["resource"] for one in entries]
    named = {one["code"]["text"]: one for one in resources if one["resourceType"] == "Observation"}
    return {one["resourceType"]: one for one in resources} | named


def marked(resource: Json) -> bool:
    return AIAST in [one["code"] for one in resource.get("meta", {}).get("security", ())]


def test_a_reviewed_report_is_final_and_names_its_interpreter() -> None:
    report = bundle(review())["DiagnosticReport"]
    assert report["status"] == "final"
    (interpreter,) = report["resultsInterpreter"]
    contained = {f"#{one['id']}": one for one in report["contained"]}
    role = contained[interpreter["reference"]]
    assert role["organization"]["display"] == "Radiology, Hospital"
    person = contained[role["practitioner"]["reference"]]
    assert (person["name"][0]["family"], person["name"][0]["given"]) == ("Weiß", ["Anna"])
    assert person["identifier"] == [{"value": "LANR-4711"}]
    assert report["issued"] == "2026-03-14T12:30:05.000+00:00"
    assert report["conclusion"].startswith("AI result, reviewed and verified by Dr. Anna Weiß on 2026-03-14.")
    assert "Review: Something was reported that is not there." in report["conclusion"]
    assert "not reviewed" not in str(report)
    assert not marked(report)


def test_two_readers_are_two_interpreters_and_what_both_let_stand_is_the_word_of_the_model() -> None:
    found = bundle(accepted())
    assert [one["display"] for one in found["DiagnosticReport"]["resultsInterpreter"]] == [
        "Dr. Anna Weiß",
        "Bernd Koch",
    ]
    assert marked(found["DiagnosticReport"])
    verifiers = [one["who"]["display"] for one in found["Provenance"]["agent"]
                 if one["type"]["coding"][0]["code"] == "verifier"]  # fmt: skip
    assert verifiers == ["Dr. Anna Weiß", "Bernd Koch"]


def test_each_observation_is_final_and_the_label_of_the_model_stays_where_its_word_does() -> None:
    found = bundle(review())
    stands, removed, changed = found["Pneumonia"], found["Pleural effusion"], found["Emphysema"]
    assert {one["status"] for one in (stands, removed, changed, found["Second focus"])} == {"final"}
    assert marked(stands)
    assert "device" in stands
    for one in (removed, changed, found["Second focus"]):
        assert not marked(one)
        assert "device" not in one
        assert one["performer"][0]["display"] == "Dr. Anna Weiß"
    assert removed["valueCodeableConcept"]["coding"][0]["display"] == "Absent"
    notes = [one["text"] for one in removed["note"]]
    assert "Skin fold." in notes
    assert any(one.startswith("The model had said: Pleural effusion") for one in notes)


def test_a_report_that_replaces_a_verified_one_is_amended() -> None:
    told = replace(context(review()), replaced=(ReplacedResult(job_key="b" * 64, verified=True),))
    made: Any = build_bundle(analysis(), told, (), OPTIONS)
    (report,) = [one["resource"] for one in made["entry"] if one["resource"]["resourceType"] == "DiagnosticReport"]
    assert report["status"] == "amended"
    assert is_sealed(report)


def test_the_document_that_stands_for_a_reviewed_report_is_final_too() -> None:
    document = document_entry(build_bundle(analysis(), context(review()), (), OPTIONS))["resource"]
    assert document["docStatus"] == "final"
    assert is_sealed(document)
    check_resource(document | {"docStatus": "preliminary"})


@pytest.mark.parametrize(
    "touched",
    [{"status": "amended"}, {"status": "corrected"}, {"conclusion": "Something else."}, {"identifier": []}],
)
def test_the_seal_is_broken_by_whoever_changes_the_report(touched: Json) -> None:
    report = bundle(review())["DiagnosticReport"]
    assert is_sealed(report)
    assert not is_sealed(copy.deepcopy(report) | touched)


def test_what_nobody_reviewed_cannot_be_final() -> None:
    made: Any = build_bundle(analysis(), CONTEXT, (), OPTIONS)
    assert {one["resource"].get("status") for one in made["entry"]} & {"final", "amended", "corrected"} == set()
    for entry in made["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            entry["resource"]["status"] = "final"
    with pytest.raises(ReportInvalid, match=r"Observation\.status"):
        check_bundle(made)


# --- HL7 v2 ----------------------------------------------------------------------------------------------------------


def message(told: Review, **changes: Any) -> str:
    return build_message(analysis(), context(told, **changes), (), OPTIONS, UID)


CORRECTION = replace(context(review()), replaced=(ReplacedResult(job_key="b" * 64, verified=True),))
MESSAGES = {
    "F": message(review()),
    "F by two": message(accepted()),
    "F by nobody known": message(review(reviewer=Reviewer(account="x" * 40, name=""))),
    "C": build_message(analysis(), CORRECTION, (), OPTIONS, UID),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_reviewed_result_is_final_in_every_segment_and_names_its_interpreter(name: str, tmp_path: Path) -> None:
    sent = MESSAGES[name]
    found = read(sent)
    assert complaints(sent, tmp_path) == []
    assert checked(sent.encode(), UID) == sent
    assert {str(value(one, 11)) for one in found.segments("OBX")} == {str(value(found.segment("OBR"), 25))} == {name[0]}
    assert "reviewed and verified by" in value(found.segments("OBX")[0], 5)
    assert "NOT VERIFIED" not in sent


def test_interpreters_and_observers_are_named_as_hl7_names_people() -> None:
    request = read(MESSAGES["F by two"]).segment("OBR")
    assert value(request, 32).split("^")[0] == "LANR-4711&Weiß&Anna&&&Dr."
    assert value(request, 33).split("^")[0] == "&Koch&Bernd"
    by_finding = {str(value(one, 4)): one for one in read(MESSAGES["F"]).segments("OBX")}
    assert value(by_finding["effusion"], 16) == "LANR-4711^Weiß^Anna^^^Dr."
    assert value(by_finding["effusion"], 18) == ""
    assert value(by_finding["pneumonia"], 16) == ""
    assert value(by_finding["pneumonia"], 18) != ""


@pytest.mark.parametrize("replacement", ["P", "C"])
def test_what_is_final_is_final_for_every_receiver(replacement: Any) -> None:
    for name in ("F", "C"):
        found = read(for_receiver(MESSAGES[name], Receiver(replacement=replacement)))
        assert value(found.segment("OBR"), 25) == name


def test_what_was_final_is_taken_back_by_a_correction() -> None:
    told = WithdrawnMessages(messages=[MESSAGES["F"]], reason="Wrong patient", at=STARTED_AT)
    sent = withdrawal_message(told, UID)
    assert checked(sent.encode(), UID) == sent
    for receiver in (Receiver(), Receiver(withdrawal="W")):
        found = read(for_receiver(sent, receiver))
        assert value(found.segment("OBR"), 25) == "C"
        assert value(found.segments("OBX")[1], 11) == ("C" if receiver.withdrawal == "P" else "W")


@pytest.mark.parametrize(
    ("old", "new"),
    [("||RAD|P", "||RAD|F"), ("|ai-notice^", "|ai-reviewed^"), ("||RAD|P", "||RAD|P|||||||&Weiss&Anna")],
)
def test_an_unreviewed_message_that_is_made_to_look_reviewed_is_not_sent(old: str, new: str) -> None:
    forged = build_message(analysis(), CONTEXT, (), OPTIONS, UID).replace(old, new, 1)
    with pytest.raises(ReportInvalid):
        checked(forged.encode(), UID)
