"""Results as HL7 v2.5.1 messages: valid by another's grammar, and saying what they must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReplacedResult
from dicom_node.core.codes import LEFT, LUNG, MEAN, MILLILITER, PURPOSE_OF_ANALYSIS, VOLUME
from dicom_node.core.entities import Code, Finding, Measurement, OrderContext, OrderNumber, Presence, Purpose, Withheld
from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.hl7.grammar import coded, escape, number, read, unescape, value
from dicom_node.fhir.hl7.message import WithdrawnMessages, build_message, last_message, withdrawal_message
from dicom_node.fhir.hl7.own import checked
from dicom_node.fhir.hl7.patient import patient_segment
from dicom_node.fhir.hl7.receiver import Receiver, for_receiver, subject_of, trial_message
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.fhir.options import FhirOptions
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    MODEL,
    OPTIONS,
    STARTED_AT,
    STUDY_UID,
    analysis,
    not_analysed,
    radiograph,
)
from tests.support.results.hl7_grammar import complaints

UID, WITHDRAWAL_UID = "2.25.1", "2.25.2"
REPLACING = {"replaced": (ReplacedResult(job_key="b" * 64),)}
HARD = radiograph(PatientName="山田^太郎=|&^~\\", PatientBirthDate="19700102", PatientSex="O", AccessionNumber="A|C^1")


def told(answer: Analysis | NotAnalysed | None = None, **context: Any) -> str:
    return build_message(answer or analysis(), replace(CONTEXT, **context), (), OPTIONS, UID)


def rows(message: str, name: str = "OBX") -> list[hl7.Segment]:
    return list(read(message).segments(name))


def one_of(message: str, code: str, sub_id: str = "") -> hl7.Segment:
    (found,) = [
        row for row in rows(message) if value(row, 3).split("^")[0] == code and sub_id in {"", str(value(row, 4))}
    ]
    return found


WITHHELD = Finding(
    key="a-key-longer-than-twenty-letters", label="Left lung & more", code=LUNG, site=LUNG, laterality=LEFT,
    measurements=(Measurement(VOLUME, float("nan"), MILLILITER), Measurement(VOLUME, 1e-7, MILLILITER, MEAN)),
    withheld=(Withheld(VOLUME, "IMPLAUSIBLE", "The volume is larger than a chest."),),
)  # fmt: skip
ORDER = OrderContext(
    accession_number="ACC1", placer=OrderNumber(value="P|4711", authority="1.2.3.4"),
    filler=OrderNumber(value="F1", authority="RIS"), procedure=Code("CXR2", "99RIS", "Thorax p.a. & seitlich"),
    reason="Dyspnoe^seit gestern", priority="urgent", requested_at="2026-11-20T08:30+01:00",
)  # fmt: skip
MESSAGES = {
    "findings": told(),
    "ordered": told(order=ORDER),
    "ordered at length": told(
        order=replace(ORDER, placer=OrderNumber(value="9" * 64, authority="A" * 20), reason="x" * 512, priority="stat")
    ),
    "stated": told(order=ORDER, purpose=Purpose.FOLLOW_UP),
    "replacing": told(**REPLACING),
    "not analysed": told(not_analysed()),
    "incomplete": told(study_partial=True),
    "withheld": told(analysis(findings=(WITHHELD,))),
    "hard characters": told(analysis(sources=(HARD,))),
    "bare header": told(analysis(sources=(radiograph(StudyDate=None, AcquisitionDate=None, AccessionNumber=None),))),
    "last word": last_message(STUDY_UID, MODEL, CONTEXT, ("UNREADABLE", "Nothing can be read."), UID),
    "withdrawal": withdrawal_message(
        WithdrawnMessages(messages=[told()], reason="Wrong | patient", at=STARTED_AT), UID
    ),
}


@pytest.mark.parametrize("message", [one for key, one in MESSAGES.items() if key != "last word"])
def test_the_grammar_of_another_finds_nothing_wrong(message: str, tmp_path: Path) -> None:
    assert complaints(message, tmp_path) == []


def test_the_grammar_does_find_a_missing_patient_and_a_wrong_status(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="PID"):
        complaints(MESSAGES["last word"], tmp_path)
    assert complaints(MESSAGES["findings"].replace("||RAD|P\r", "||RAD|Q\r"), tmp_path)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_every_message_is_preliminary_and_first_says_that_nobody_verified_it(message: str) -> None:
    assert checked(message.encode(), UID) == message
    observed = rows(message)
    assert "NOT VERIFIED" in value(observed[0], 5)
    assert {str(value(row, 11)) for row in observed} == {"P"}
    assert value(rows(message, "OBR")[0], 25) == "P"
    assert [str(value(row, 1)) for row in observed] == [str(place + 1) for place in range(len(observed))]
    named = [(value(row, 3), value(row, 4)) for row in observed]
    assert len(set(named)) == len(named)


def test_the_header_is_the_same_each_time_and_another_for_another_object() -> None:
    message = told()
    msh = rows(message, "MSH")[0]
    assert message == told()
    assert [str(msh[n]) for n in (9, 11, 12, 18)] == ["ORU^R01^ORU_R01", "P", "2.5.1", "UNICODE UTF-8"]
    assert len(msh[10][0]) == 20
    other = build_message(analysis(), CONTEXT, (), OPTIONS, "2.25.3")
    assert rows(other, "MSH")[0][10] != msh[10]


def test_a_finding_is_its_code_with_presence_side_score_threshold_and_device() -> None:
    message = told()
    presence = one_of(message, "233604007")
    assert value(presence, 5) == "52101004^Present^SCT"
    assert value(presence, 18) == MODEL.device_uid
    assert value(one_of(message, "272741003", "pneumonia"), 5) == "7771000^Left^SCT"
    score = one_of(message, "SCORE", "pneumonia")
    assert (str(value(score, 2)), str(value(score, 5)), str(value(score, 6))) == ("NM", "83.5", "%^Percent^UCUM")
    assert value(one_of(message, "THRESHOLD", "pneumonia"), 5) == "50.0"
    assert value(one_of(message, VOLUME.value), 5) == "2150.0"
    assert value(one_of(message, "113014"), 5) == f"^{STUDY_UID}^ISO"


def test_a_number_that_is_withheld_or_none_is_said_in_words() -> None:
    message = MESSAGES["withheld"]
    said = [str(value(row, 5)) for row in rows(message) if "Volume" in value(row, 3)]
    assert said == [
        "not measurable", "0.0000001", "not reported: The volume is larger than a chest. (IMPLAUSIBLE)"
    ]  # fmt: skip
    assert {len(value(row, 4)) for row in rows(message)} == {0, 20}


def test_a_study_that_was_not_analysed_says_why_and_nothing_else() -> None:
    message = MESSAGES["not analysed"]
    assert value(one_of(message, "59776-5"), 5) == (
        "Not analysed: The patient is under 18 years old. (PATIENT_TOO_YOUNG)"
    )
    assert "says nothing about the presence or absence" in message
    assert not [row for row in rows(message) if value(row, 2) in {"CWE", "NM"}]


def test_a_result_is_known_by_one_number_until_it_is_withdrawn() -> None:
    first, again = told(), told(job_key="c" * 64, **REPLACING)
    after = told(withdrawn_before=1)
    numbers = [str(value(rows(one, "OBR")[0], 3)) for one in (first, again, after)]
    assert numbers[0] == numbers[1] != numbers[2]
    assert "ai-replaces" in again
    assert "ai-replaces" not in first


# --- the order -------------------------------------------------------------------------------------------------------


def test_a_result_names_the_order_that_the_node_was_told_of() -> None:
    request, order = rows(MESSAGES["ordered"], "OBR")[0], rows(MESSAGES["ordered"], "ORC")[0]
    assert value(request, 2) == value(order, 2) == r"P\F\4711^^1.2.3.4^ISO"
    assert value(request, 4).startswith(r"CXR2^Thorax p.a. \T\ seitlich^99RIS^")
    assert (str(value(request, 18)), str(value(request, 27))) == ("ACC1", "^^^^^U")
    assert value(request, 31) == r"^Dyspnoe\S\seit gestern"
    assert value(request, 3) == value(rows(told(), "OBR")[0], 3), "the result is known by the same number"
    named = told(order=replace(ORDER, placer=OrderNumber(value="P1", authority="HIS")))
    assert value(rows(named, "OBR")[0], 2) == "P1^HIS"


def test_what_an_analysis_is_for_is_said_with_its_code_where_somebody_has_said_it() -> None:
    code = coded(PURPOSE_OF_ANALYSIS)
    (stated,) = [row for row in rows(MESSAGES["stated"]) if value(row, 3) == code]
    assert (str(value(stated, 2)), str(value(stated, 5))) == ("CWE", "follow-up^follow-up^99AINODE")
    assert code not in MESSAGES["ordered"]


@pytest.mark.parametrize("accession", [None, "ACC1"])
def test_fhir_and_hl7_name_the_same_order(accession: str | None) -> None:
    """An order that was found by its Study Instance UID has the accession number that the images may lack."""
    answer, context = analysis(sources=(radiograph(AccessionNumber=accession),)), replace(CONTEXT, order=ORDER)
    bundle = build_bundle(answer, context, (), OPTIONS)
    (report,) = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport"]
    named = {one["identifier"]["type"]["coding"][0]["code"]: one["identifier"] for one in report["basedOn"]}
    request = rows(build_message(answer, context, (), OPTIONS, UID), "OBR")[0]
    number, _, authority = unescape(value(request, 2)).split("^")[:3]
    assert (named["PLAC"]["value"], named["PLAC"]["system"]) == (number, f"urn:oid:{authority}")
    assert named["ACSN"]["value"] == unescape(value(request, 18)) == "ACC1"


def test_an_order_that_says_little_takes_nothing_from_what_the_images_say() -> None:
    header = radiograph(PlacerOrderNumberImagingServiceRequest="P-IMAGE")
    little = OrderContext(accession_number="ACC1", procedure=Code("", "", "Thorax"))
    plain, ordered = (
        build_message(analysis(sources=(header,)), replace(CONTEXT, order=one), (), OPTIONS, UID)
        for one in (None, little)
    )
    assert value(rows(plain, "OBR")[0], 2) == "P-IMAGE"
    assert ordered == plain


def test_a_withdrawal_is_of_the_same_order(tmp_path: Path) -> None:
    message = withdrawal_message(
        WithdrawnMessages(messages=[MESSAGES["ordered"]], reason="Wrong", at=STARTED_AT), WITHDRAWAL_UID
    )
    assert checked(message.encode(), WITHDRAWAL_UID) == message
    assert complaints(message, tmp_path) == []
    before = rows(MESSAGES["ordered"], "OBR")[0]
    assert [value(rows(message, "OBR")[0], n) for n in (2, 3, 4, 18)] == [value(before, n) for n in (2, 3, 4, 18)]


# --- the patient -----------------------------------------------------------------------------------------------------


def pid(header: Dataset, **options: Any) -> list[str]:
    return patient_segment(header, FhirOptions(**options)).split("|")


def test_each_writing_of_a_name_has_its_code_and_the_suffix_stands_before_the_prefix() -> None:
    header = radiograph(PatientName="Yamada^Tarou^^Dr^Jr=山田^太郎=やまだ^たろう")
    assert pid(header)[5] == "Yamada^Tarou^^Jr^Dr^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"
    assert pid(radiograph(PatientName=None))[5] == "^^^^^^U"


@pytest.mark.parametrize(
    ("issuer", "options", "told_as"),
    [
        (None, {"patient_system": "urn:oid:1.2.3"}, "PID-4711^^^&1.2.3&ISO^MR"),
        ("HOSP", {"issuers": {"HOSP": "https://hosp.example/id"}}, "PID-4711^^^HOSP&https://hosp.example/id&URI^MR"),
        ("OTHER", {"issuers": {"HOSP": "urn:oid:1.2.3"}, "patient_system": "urn:oid:1.2.9"}, "PID-4711^^^OTHER^MR"),
        (None, {}, "PID-4711^^^^MR"),
    ],
)
def test_the_number_of_a_patient_names_who_assigned_it_as_in_fhir(
    issuer: str | None, options: dict[str, Any], told_as: str
) -> None:
    assert pid(radiograph(IssuerOfPatientID=issuer), **options)[3] == told_as


# --- characters ------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_read_back_and_separates_nothing(text: str) -> None:
    escaped = escape(text)
    assert not set(escaped) & set("|^&~\x0b\x1c\r\n\x00")
    assert unescape(escaped) == text.replace("\r\n", "\r").replace("\n", "\r")


def test_what_hl7_reads_as_deletion_is_never_said() -> None:
    """Two quotation marks alone delete what a receiver has (2.5.3); a gateway may have copied them into the images."""
    header = radiograph(PatientName='""^Jane', PatientID='""')
    assert '""' not in str(patient_segment(header, OPTIONS))
    assert unescape(escape('""')) == '""'


def test_a_number_that_no_receiver_can_hold_is_said_in_words() -> None:
    measurements = tuple(Measurement(VOLUME, one, MILLILITER) for one in (1.5, 1e300, -1e-300))
    message = told(analysis(findings=(replace(WITHHELD, measurements=measurements, withheld=()),)))
    said = [(str(value(row, 2)), str(value(row, 5))) for row in rows(message) if "Volume" in value(row, 3)]
    assert said == [("NM", "1.5"), ("TX", "1e+300 ml"), ("TX", "-1e-300 ml")]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_a_model_that_answers_in_numbers_of_numpy_is_told_in_both_wires(kind: type[np.floating[Any]]) -> None:
    finding = replace(
        FINDINGS[0],
        probability=kind(0.75),
        threshold=kind(0.5),
        measurements=(Measurement(VOLUME, kind(2.5), MILLILITER),),
    )
    message = told(analysis(findings=(finding,)))
    numbers = [str(value(one_of(message, code), 5)) for code in ("SCORE", "THRESHOLD", VOLUME.value)]
    assert numbers == ["75.0", "50.0", "2.5"]
    own = replace(finding, measurements=(Measurement(VOLUME, 2.5, MILLILITER),), probability=0.75, threshold=0.5)
    bundles = [build_bundle(analysis(findings=(one,)), CONTEXT, (), OPTIONS) for one in (finding, own)]
    assert to_json_bytes(bundles[0]) == to_json_bytes(bundles[1])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_has_no_exponent_and_is_read_back(amount: float) -> None:
    assert float(number(amount)) == amount
    assert not set(number(amount)) & set("eE")


# --- what a receiver wants otherwise --------------------------------------------------------------------------------


def test_addresses_and_the_place_of_the_accession_number_are_the_receivers() -> None:
    wants = Receiver(applications=("AI|1", "RIS"), facilities=("", "HOSP"), accession="OBR-3", assigning_authority="H")
    sent = for_receiver(told(), wants, "https://viewer.example/?a=1&s=2")
    msh = rows(sent, "MSH")[0]
    assert [str(msh[n]) for n in (3, 5, 6)] == [r"AI\F\1", "RIS", "HOSP"]
    assert (value(rows(sent, "OBR")[0], 3), value(rows(sent, "ORC")[0], 3)) == ("ACC1", "ACC1")
    assert value(rows(sent, "PID")[0], 3) == "PID-4711^^^H&1.2.3.99&ISO^MR"
    link = rows(sent)[-1]
    assert (value(link, 2), value(link, 5)) == ("RP", r"https://viewer.example/?a=1\T\s=2^^TEXT^HTML")


def test_a_message_that_a_receiver_wants_as_it_is_stays_as_it_is() -> None:
    for message in MESSAGES.values():
        assert for_receiver(message, Receiver()) == message


def test_only_what_replaces_is_marked_as_corrected() -> None:
    wants = Receiver(replacement="C")
    assert {str(value(row, 11)) for row in rows(for_receiver(told(), wants))} == {"P"}
    sent = for_receiver(told(**REPLACING), wants)
    assert {str(value(row, 11)) for row in rows(sent)} == {"C"}
    assert value(rows(sent, "OBR")[0], 25) == "C"


@pytest.mark.parametrize(("letter", "of_order"), [("P", "P"), ("W", "C"), ("D", "C"), ("X", "X")])
def test_a_withdrawal_has_the_letter_that_the_receiver_takes(letter: Any, of_order: str, tmp_path: Path) -> None:
    sent = for_receiver(MESSAGES["withdrawal"], Receiver(withdrawal=letter), "https://viewer.example")
    assert value(rows(sent, "OBR")[0], 25) == of_order
    assert [str(value(row, 11)) for row in rows(sent)[1:]] == [letter] * (len(rows(sent)) - 1)
    assert value(rows(sent)[0], 11) == "P"
    assert complaints(sent, tmp_path) == []


def test_a_withdrawal_names_every_observation_of_every_message_and_says_nothing_of_them() -> None:
    sent = [told(analysis(findings=FINDINGS[:1])), told(analysis(findings=FINDINGS[1:]))]
    message = withdrawal_message(
        WithdrawnMessages(messages=sent, reason="Wrong patient", at=STARTED_AT), WITHDRAWAL_UID
    )
    named = {(value(row, 3), value(row, 4)) for row in rows(message)}
    assert {(value(row, 3), value(row, 4)) for one in sent for row in rows(one)} < named
    said = {str(value(row, 5)) for row in rows(message)[1:]}
    assert said == {"WITHDRAWN", f"^{STUDY_UID}^ISO"}
    assert "Reason: Wrong patient" in value(rows(message)[0], 5)
    for name, number_of in (("PID", 3), ("OBR", 3), ("OBR", 18)):
        assert value(rows(message, name)[0], number_of) == value(rows(sent[0], name)[0], number_of)


def test_whom_a_message_is_about_is_read_back_unescaped() -> None:
    subject = subject_of(MESSAGES["hard characters"])
    assert (subject.patient_id, subject.has_authority) == ("PID-4711", True)
    assert (subject.study_instance_uid, subject.accession_number) == (STUDY_UID, "A|C^1")
    assert subject_of(MESSAGES["last word"]).patient_id == ""


def test_the_test_message_is_for_training_and_about_nobody(tmp_path: Path) -> None:
    message = trial_message("AINODE", Receiver(applications=("", "RIS")), STARTED_AT)
    msh = rows(message, "MSH")[0]
    assert (str(msh[11]), str(msh[5])) == ("T", "RIS")
    assert complaints(message, tmp_path) == []


# --- what a hostile worker might write -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("||RAD|P\r", "||RAD|F\r"),
        ("||||||P|", "||||||F|"),
        ("ORU^R01^ORU_R01", "ADT^A40^ADT_A39"),
        ("ORC|RE|", "ORC|CA|"),
        ("\rOBR|", "\rZZZ|1\rOBR|"),
        ("\rORC|", "\rPID|1||2^^^^MR\rORC|"),
        ("ai-notice", "a-finding"),
        ("|P|2.5.1|", "|D|2.5.1|"),
        ("OBX|1|TX|", "OBX|1|RP|"),
        ("ACC1", "ACC1\x1c\r\x0bMSH"),
        ("|RAD|P\r", "|RAD|P|||||||Doctor\r"),
        ("MSH|^~\\&|", "MSH|^~\\&#|"),
        ("MSH|", "FHS|"),
    ],
)
def test_what_no_builder_makes_is_refused(before: str, after: str) -> None:
    message = told()
    assert before in message
    with pytest.raises(ReportInvalid):
        checked(message.replace(before, after).encode(), UID)


def test_the_message_of_another_object_and_what_is_no_text_are_refused() -> None:
    for data, uid in ((told().encode(), "2.25.9"), (b"\xff\xfe", UID), (b"", UID), (b"MSH", UID)):
        with pytest.raises(ReportInvalid):
            checked(data, uid)


def test_present_is_never_said_of_what_was_not_determined() -> None:
    undetermined = replace(FINDINGS[0], presence=Presence.UNDETERMINED)
    assert "52101004" not in told(analysis(findings=(undetermined,)))
