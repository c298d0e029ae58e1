"""What a FHIR report says and refers to, without a server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from dicom_node.analysis.context import Predecessor, ReplacedResult, ReportLine
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.codes import (
    ATTENUATION_COEFFICIENT,
    HOUNSFIELD_UNIT,
    LEFT,
    MAXIMUM,
    MEAN,
    RIGHT,
    SHARE_OF_NORMALS,
)
from dicom_node.core.entities import ArtifactKind, Code, Measurement, OrderContext, OrderNumber, Presence
from dicom_node.core.errors import ReportInvalid
from dicom_node.core.uids import tracking_uid
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.facts import former_identifier, report_identifier
from dicom_node.fhir.builders.validation import check_resource
from dicom_node.fhir.json_types import to_json_bytes
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    JOB_KEY,
    MODEL,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    SR_UID,
    STUDY_UID,
    analysis,
    not_analysed,
    radiograph,
    written_objects,
)

Json = dict[str, Any]


def bundle_of(answer: Any = None, *, context: Any = CONTEXT, options: Any = OPTIONS) -> Json:
    return build_bundle(answer or analysis(), context, written_objects(), options)


def resources(bundle: Json, kind: str) -> list[Json]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def report_of(bundle: Json) -> Json:
    (report,) = resources(bundle, "DiagnosticReport")
    return report


def observation_of(finding: Any) -> Json:
    (observation,) = resources(bundle_of(analysis(findings=(finding,))), "Observation")
    return observation


def strings(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


# --- the transaction ---


def test_equal_inputs_give_equal_bytes() -> None:
    assert to_json_bytes(bundle_of()) == to_json_bytes(bundle_of())


def test_no_entry_refers_to_a_later_one() -> None:
    known: set[str] = set()
    for entry in bundle_of()["entry"]:
        used = set(re.findall(r'"(urn:uuid:[^"]+)"', json.dumps(references(entry["resource"]))))
        assert used <= known
        known.add(entry["fullUrl"])


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["reference"]] if isinstance(node.get("reference"), str) else []
        return own + [one for value in node.values() for one in references(value)]
    return [one for value in node for one in references(value)] if isinstance(node, list) else []


def test_shared_resources_are_created_only_if_absent_and_own_ones_updated() -> None:
    requests = {entry["resource"]["resourceType"]: entry["request"] for entry in bundle_of()["entry"]}

    assert {kind for kind, request in requests.items() if "ifNoneExist" in request} == {
        "Device",
        "DocumentReference",
        "Endpoint",
        "ImagingStudy",
        "Provenance",
    }
    assert requests["ImagingStudy"]["ifNoneExist"] == f"identifier=urn:dicom:uid|urn:oid:{STUDY_UID}"
    assert requests["Observation"]["method"] == requests["DiagnosticReport"]["method"] == "PUT"


def test_without_dicomweb_address_there_is_no_endpoint() -> None:
    bundle = bundle_of(options=replace(OPTIONS, dicomweb_url=""))

    assert resources(bundle, "Endpoint") == []
    assert "endpoint" not in resources(bundle, "ImagingStudy")[0]


def test_an_answer_without_images_is_refused() -> None:
    with pytest.raises(ReportInvalid, match="no source image"):
        bundle_of(replace(not_analysed(), sources=()))


def test_two_findings_under_one_key_are_refused() -> None:
    with pytest.raises(ReportInvalid, match="pneumonia"):
        bundle_of(analysis(findings=(FINDINGS[0], FINDINGS[0])))


# --- the report ---


def test_the_report_is_preliminary_and_says_so_first() -> None:
    report = report_of(bundle_of())

    assert report["status"] == "preliminary"
    assert report["conclusion"].startswith("AI preliminary, not reviewed")


def test_the_report_is_known_by_study_node_model_and_route_whatever_the_run() -> None:
    bundle = bundle_of(context=replace(CONTEXT, job_key="b" * 64))

    line = ReportLine(model=MODEL.name, route=CONTEXT.route_name)
    official = report_identifier(STUDY_UID, CONTEXT.node_uid, line)
    request = bundle["entry"][-2]["request"]
    assert request["url"] == f"DiagnosticReport?identifier={official['system']}|{official['value']}"
    assert request == bundle_of()["entry"][-2]["request"]


def test_a_renamed_route_and_another_ae_title_do_not_change_what_the_report_is_known_by() -> None:
    began = replace(CONTEXT, node_id="the-store")
    line = ReportLine(model=MODEL.name, route=CONTEXT.route_name)
    renamed = replace(began, route_name="chest-x-ray", node_uid="2.25.5", ae_title="AINEW", line=line)

    assert bundle_of(context=renamed)["entry"][-2]["request"] == bundle_of(context=began)["entry"][-2]["request"]
    other = replace(began, node_id="another-store")
    assert bundle_of(context=other)["entry"][-2]["request"] != bundle_of(context=began)["entry"][-2]["request"]


def test_what_former_versions_called_the_report_is_looked_for_only_when_there_was_one() -> None:
    former = former_identifier(STUDY_UID, ReportLine(model=MODEL.name, route=CONTEXT.route_name))
    later = replace(CONTEXT, replaced=(ReplacedResult(job_key="e" * 64),))

    assert former["value"] not in str(bundle_of())
    (named,) = (one for one in bundle_of(context=later)["entry"] if former["value"] in str(one))
    assert named["resource"]["resourceType"] == "Provenance"


def test_the_report_names_its_structured_report_and_its_job() -> None:
    values = [one["value"] for one in report_of(bundle_of())["identifier"]]

    assert f"urn:oid:{SR_UID}" in values
    assert JOB_KEY in values


def test_the_conclusion_names_the_site_once() -> None:
    lines = report_of(bundle_of())["conclusion"].splitlines()

    assert lines[1] == "Pneumonia (Left Lung): Present; score 83.5 % (not calibrated)."
    assert lines[-1] == "Left lung: Volume 2150.0 ml; Mean -843.2 Hounsfield unit."


def test_only_present_findings_are_conclusion_codes() -> None:
    codes = [one["text"] for one in report_of(bundle_of())["conclusionCode"]]

    assert codes == ["Pneumonia"]


def test_the_accession_number_points_to_the_order() -> None:
    (order,) = report_of(bundle_of())["basedOn"]

    assert order["type"] == "ServiceRequest"
    assert order["identifier"]["value"] == "ACC1"
    assert order["identifier"]["system"] == "urn:oid:1.2.3.77"


def test_an_order_is_named_by_both_numbers_and_says_what_was_asked_for_and_why() -> None:
    order = OrderContext(
        placer=OrderNumber(value="P-1", authority="1.2.3"), procedure=Code("CTCH", "L", "CT chest"), priority="stat",
        reason="Cough <b>", requested_at="2026-11-20T08:30+01:00",
    )  # fmt: skip
    bundle = bundle_of(context=replace(CONTEXT, order=order))
    numbers = [one["identifier"] for one in report_of(bundle)["basedOn"]]
    assert [one["type"]["coding"][0]["code"] for one in numbers] == ["ACSN", "PLAC"]
    assert (numbers[1]["system"], numbers[1]["value"]) == ("urn:oid:1.2.3", "P-1")
    told = report_of(bundle)["text"]["div"]
    assert "CT chest (CTCH)" in told
    assert "Cough &lt;b&gt;" in told
    assert "stat" in told
    namespace = replace(order, placer=OrderNumber(value="P-1", authority="HIS"))
    (_, by_name) = report_of(bundle_of(context=replace(CONTEXT, order=namespace)))["basedOn"]
    assert "system" not in by_name["identifier"]


def test_the_issuer_in_the_image_outranks_the_configured_accession_system() -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.9.8", "ISO"
    source = radiograph(IssuerOfAccessionNumberSequence=[issuer])

    (order,) = report_of(bundle_of(analysis(sources=(source,))))["basedOn"]

    assert order["identifier"]["system"] == "urn:oid:1.9.8"


def test_the_organisation_performs_when_it_is_known() -> None:
    without = bundle_of(options=replace(OPTIONS, organization=""))

    assert report_of(bundle_of())["performer"] == [{"type": "Organization", "display": "Example Hospital"}]
    assert "performer" not in report_of(without)


@pytest.mark.parametrize(
    ("answer", "context"),
    [(replace(analysis(), partial=True), CONTEXT), (analysis(), replace(CONTEXT, study_partial=True))],
    ids=["analysis", "study"],
)
def test_an_incomplete_answer_is_a_partial_report(answer: Any, context: Any) -> None:
    report = report_of(bundle_of(answer, context=context))

    assert report["status"] == "partial"
    assert "findings may be missing" in report["conclusion"]


def test_the_narrative_says_of_when_by_what_with_which_limits_and_instead_of_what() -> None:
    earlier = Predecessor(
        sop_class_uid="1.2.3", sop_instance_uid="1.2.4", series_instance_uid="1.2.5", instance_number=3
    )
    context = replace(CONTEXT, predecessor=earlier)
    report = report_of(bundle_of(context=context))

    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    for text in (report["text"]["div"], page):
        assert "cxr-pneumonia 1.2.0, DICOM AI Node Project" in text
        assert "Not for children." in text
        assert "2026-11-20 10:10:00 +01:00" in text
        assert "2026-11-20 10:12:10 +01:00" in text
        assert "UTC" not in text
        assert "An earlier result of this study and route, structured report 3" in text
        assert f'<a href="https://pacs.example/dicom-web/studies/{STUDY_UID}">' in text
        assert "T09:12:10" not in text
    assert "Replaces" not in report_of(bundle_of())["text"]["div"]


def test_the_narrative_begins_with_what_is_present_and_how_sure_that_is() -> None:
    report = report_of(bundle_of())

    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    for text in (report["text"]["div"], page):
        read = [re.sub(r"<[^>]+>", "", part) for part in re.findall(r"<p>.*?</p>", text)]
        assert read[:5] == [
            "AI preliminary, not reviewed by a physician.",
            "Present: Pneumonia (Left Lung), score 83.5 % (not calibrated).",
            "Undetermined: Emphysema (Lung).",
            "Absent: Pleural effusion (Lung).",
            "Scores are not calibrated: they are no probability of disease.",
        ]


def test_measurements_alone_are_summed_up_as_no_judgement() -> None:
    text = report_of(bundle_of(analysis(findings=FINDINGS[3:])))["text"]["div"]

    assert "Measurements only: nothing was judged to be present or absent." in text
    assert "calibrated" not in text


def test_a_study_that_was_not_analysed_is_summed_up_by_the_reason_alone() -> None:
    text = report_of(bundle_of(not_analysed()))["text"]["div"]

    assert text.index("<strong>Not analysed: The patient is under 18") < text.index("<table>")
    assert "Present" not in text


def test_every_result_bears_the_label_of_what_an_ai_asserts() -> None:
    label = ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST")
    for answer in (analysis(), not_analysed()):
        bundle = bundle_of(answer)
        labelled = [*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")]
        assert {(one["meta"]["security"][0]["system"], one["meta"]["security"][0]["code"]) for one in labelled} == {
            label
        }
        (provenance,) = resources(bundle, "Provenance")
        assert [(c["system"], c["code"]) for one in provenance["reason"] for c in one["coding"]] == [label]


def test_the_model_card_is_a_document_that_the_provenance_names() -> None:
    bundle = bundle_of()
    (entry,) = (one for one in bundle["entry"] if one["resource"]["resourceType"] == "DocumentReference")

    card = base64.b64decode(entry["resource"]["content"][0]["attachment"]["data"]).decode()
    for text in (
        "# cxr-pneumonia 1.2.0",
        "Decision support for adults.",
        "Not for children.",
        MODEL.digest,
        MODEL.device_uid,
    ):
        assert text in card
    (provenance,) = resources(bundle, "Provenance")
    (derived,) = (one["what"]["reference"] for one in provenance["entity"] if one["role"] == "derivation")
    assert derived == entry["fullUrl"]
    assert PATIENT_ID not in json.dumps(entry)


def test_another_text_of_a_card_is_another_document() -> None:
    def search(limits: str) -> str:
        bundle = bundle_of(replace(analysis(), model=replace(MODEL, limits=limits)))
        (entry,) = (one for one in bundle["entry"] if one["resource"]["resourceType"] == "DocumentReference")
        return str(entry["request"]["ifNoneExist"])

    assert search("Not for children.") == search("Not for children.") != search("For adults only.")


def test_the_page_to_print_goes_along_as_pdf_with_its_address_in_the_archive() -> None:
    pdf = radiograph(
        SOPClassUID=EncapsulatedPDFStorage, SOPInstanceUID=f"{STUDY_UID}.7.1", SeriesInstanceUID=f"{STUDY_UID}.7",
        EncapsulatedDocument=b"%PDF-1.4 page\0", EncapsulatedDocumentLength=13,
    )  # fmt: skip
    written = WrittenObject(kind=ArtifactKind.ENCAPSULATED_PDF, dataset=pdf, order=1, description="Report to print")

    page, form = report_of(build_bundle(analysis(), CONTEXT, (written,), OPTIONS))["presentedForm"]

    assert page["contentType"] == "text/html"
    assert (form["contentType"], base64.b64decode(form["data"])) == ("application/pdf", b"%PDF-1.4 page")
    assert form["size"] == 13
    assert form["url"] == (
        f"https://pacs.example/dicom-web/studies/{STUDY_UID}/series/{STUDY_UID}.7/instances/{STUDY_UID}.7.1/rendered"
    )


def test_research_marks_every_text_for_people() -> None:
    bundle = bundle_of(context=replace(CONTEXT, intended_use="research"))

    report = report_of(bundle)
    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    notes = [one["note"][0]["text"] for one in resources(bundle, "Observation")]
    assert all("RESEARCH ONLY" in text for text in (report["conclusion"], report["text"]["div"], page, *notes))


def test_the_presented_form_carries_its_size_and_hash() -> None:
    (form,) = report_of(bundle_of())["presentedForm"]

    data = base64.b64decode(form["data"])
    assert form["size"] == len(data)
    assert base64.b64decode(form["hash"]) == hashlib.sha1(data).digest()
    assert SR_UID in data.decode()


# --- observations ---


def test_each_observation_is_known_by_its_tracking_uid() -> None:
    identifiers = [one["identifier"][0]["value"] for one in resources(bundle_of(), "Observation")]

    assert identifiers == [f"urn:oid:{tracking_uid(JOB_KEY, finding.key)}" for finding in FINDINGS]


def test_presence_and_score_are_coded() -> None:
    present = observation_of(FINDINGS[0])

    assert present["valueCodeableConcept"]["coding"][0]["code"] == "52101004"
    score = present["component"][0]
    assert score["code"]["coding"][0]["code"] == "SCORE"
    assert (score["valueQuantity"]["value"], score["valueQuantity"]["code"]) == (83.5, "%")


def test_only_a_calibrated_model_says_how_certain_a_finding_is() -> None:
    calibrated = bundle_of(replace(analysis(findings=(FINDINGS[0],)), model=replace(MODEL, calibrated=True)))

    (observation,) = resources(calibrated, "Observation")
    assert observation["component"][0]["code"]["coding"][0]["code"] == "111012"
    assert "certainty 83.5 %" in report_of(calibrated)["conclusion"]


def test_a_rank_among_other_images_is_neither_a_certainty_nor_a_conclusion() -> None:
    ranked = replace(FINDINGS[0], score=SHARE_OF_NORMALS, explanation_key="heatmap:x")
    bundle = bundle_of(replace(analysis(findings=(ranked,)), model=replace(MODEL, calibrated=True)))

    (observation,) = resources(bundle, "Observation")
    assert observation["component"][0]["code"]["coding"][0]["display"] == "Share of normal images with a lower score"
    told = " ".join(note["text"] for note in observation["note"])
    assert "no probability" in told
    assert "influenced the score, not where disease is" in told
    assert "certainty" not in json.dumps(bundle).lower()
    assert "conclusionCode" not in report_of(bundle)


def test_the_threshold_is_a_component_of_its_own_and_no_range_of_what_is_normal() -> None:
    present = observation_of(FINDINGS[0])

    threshold = present["component"][1]
    assert threshold["code"]["coding"][0]["display"] == "Decision threshold of the model for Present"
    assert threshold["valueQuantity"]["value"] == 50.0
    assert "referenceRange" not in json.dumps(present)


def test_every_measured_thing_has_a_code_of_its_own() -> None:
    lungs = [replace(FINDINGS[3], key=key, label=key) for key in ("both-lungs", "left-lung", "right-lung")]
    found = resources(bundle_of(analysis(findings=tuple(lungs))), "Observation")

    own = [(one["code"]["coding"][1]["system"], one["code"]["coding"][1]["code"]) for one in found]
    assert len(set(own)) == len({system for system, _ in own}) * 3 == 3
    assert {one["code"]["coding"][0]["display"] for one in found} == {"Lung"}
    of_another = bundle_of(replace(analysis(findings=(lungs[0],)), model=replace(MODEL, name="another")))
    assert resources(of_another, "Observation")[0]["code"]["coding"][1]["system"] != own[0][0]


@pytest.mark.parametrize(("side", "code"), [(LEFT, "44029006"), (RIGHT, "3341006"), (None, "39607008")])
def test_the_site_carries_its_side_where_there_is_a_code_for_both(side: Code | None, code: str) -> None:
    observation = observation_of(replace(FINDINGS[3], laterality=side))

    assert [one["code"] for one in observation["bodySite"]["coding"]] == [code]


def test_how_one_number_came_from_many_is_coded() -> None:
    numbers = tuple(Measurement(ATTENUATION_COEFFICIENT, 1.0, HOUNSFIELD_UNIT, how) for how in (MEAN, MAXIMUM, None))
    mean, maximum, bare, _side = observation_of(replace(FINDINGS[3], measurements=numbers))["component"]

    assert [one["code"] for one in mean["code"]["coding"]] == ["112031", "373098007-112031"]
    assert mean["code"]["coding"][1]["display"] == "Mean Attenuation Coefficient"
    assert mean["code"]["coding"] != maximum["code"]["coding"]
    assert len(bare["code"]["coding"]) == 1


def test_the_side_is_a_component_and_part_of_the_site_text() -> None:
    observation = observation_of(FINDINGS[0])

    assert observation["bodySite"]["text"] == "Left Lung"
    assert observation["component"][-1]["valueCodeableConcept"]["coding"][0]["code"] == "7771000"


def test_measurements_keep_value_and_ucum_unit() -> None:
    volume, mean, _side = observation_of(FINDINGS[3])["component"]

    assert volume["valueQuantity"] == {
        "value": 2150.0,
        "unit": "ml",
        "system": "http://unitsofmeasure.org",
        "code": "ml",
    }
    assert mean["valueQuantity"]["code"] == "[hnsf'U]"


def test_a_measured_zero_is_not_lost() -> None:
    nothing = replace(
        FINDINGS[3], measurements=(Measurement(Code("1", "99X", "Nothing"), 0.0, Code("ml", "UCUM", "ml")),)
    )

    assert observation_of(nothing)["component"][0]["valueQuantity"]["value"] == 0.0


def test_a_certainty_of_zero_is_not_lost() -> None:
    observation = observation_of(replace(FINDINGS[1], probability=0.0))

    assert observation["component"][0]["valueQuantity"]["value"] == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_hold_becomes_a_reason(value: float) -> None:
    broken = replace(FINDINGS[3], measurements=(replace(FINDINGS[3].measurements[0], value=value),))

    component = observation_of(broken)["component"][0]

    assert "valueQuantity" not in component
    assert component["dataAbsentReason"]["coding"][0]["code"] == "not-a-number"


def test_an_undetermined_finding_has_a_reason_and_no_value() -> None:
    observation = observation_of(FINDINGS[2])

    assert "valueCodeableConcept" not in observation
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_a_declined_study_is_no_negative_finding() -> None:
    bundle = bundle_of(not_analysed())
    (observation,) = resources(bundle, "Observation")

    text = json.dumps(bundle)
    assert "272519000" not in text
    assert "52101004" not in text
    assert observation["dataAbsentReason"]["text"] == (
        "Not analysed: The patient is under 18 years old. (PATIENT_TOO_YOUNG)"
    )
    assert "conclusionCode" not in report_of(bundle)
    assert "Not analysed: The patient is under 18" in report_of(bundle)["conclusion"]


# --- provenance ---


def test_provenance_names_model_weights_node_and_images() -> None:
    (provenance,) = resources(bundle_of(), "Provenance")

    said = strings(provenance)
    assert MODEL.digest in said
    assert any(text.startswith("dicom-ai-node ") for text in said)
    assert len(provenance["target"]) == 1 + len(FINDINGS)


# --- text of the source ---


def test_markup_in_the_source_is_text_in_the_report() -> None:
    name = "<script>alert(1)</script>^A&B"
    report = report_of(bundle_of(analysis(sources=(radiograph(PatientName=name, AccessionNumber="<b>1"),))))

    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; A&amp;B" in page
    assert report["subject"]["display"] == "<script>alert(1)</script> A&B"


def test_a_model_card_cannot_break_the_narrative() -> None:
    finding = replace(FINDINGS[0], label="</div><img src=x onerror=alert(1)>")

    report = report_of(bundle_of(analysis(findings=(finding,))))

    assert "<img" not in report["text"]["div"]
    assert report["text"]["div"].count("</div>") == 1


def test_control_characters_and_line_breaks_do_not_pass() -> None:
    source = radiograph(StudyDescription="Chest\r\nPA\x00\x1b[31m", AccessionNumber="A\r\nC")

    bundle = bundle_of(analysis(sources=(source,)))

    (study,) = resources(bundle, "ImagingStudy")
    assert study["description"] == "Chest PA [31m"
    assert study["identifier"][1]["value"] == "A C"
    assert not any(character in text for text in strings(bundle) for character in "\r\x00\x1b")


def test_direction_overrides_are_dropped_and_joiners_kept() -> None:
    source = radiograph(StudyDescription="\u202eabc \u0645\u06cc\u200c\u062e")

    (study,) = resources(bundle_of(analysis(sources=(source,))), "ImagingStudy")

    assert study["description"] == "abc \u0645\u06cc\u200c\u062e"


@pytest.mark.parametrize(
    ("character_set", "name", "shown"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou / 山田 太郎 / やまだ たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "Hong Gildong / 洪 吉洞 / 홍 길동"),
        (["ISO_IR 127"], "قباني^لنزار", "قباني لنزار"),
        (["ISO_IR 144"], "Люкceмбypг", "Люкceмбypг"),
        (["GB18030"], "Wang^XiaoDong=王^小东", "Wang XiaoDong / 王 小东"),
        (["ISO_IR 192"], "Müller^Jürgen", "Müller Jürgen"),
    ],
)
def test_names_in_other_scripts_survive(character_set: list[str], name: str, shown: str) -> None:
    source = through_a_file(radiograph(SpecificCharacterSet=character_set, PatientName=name))

    bundle = bundle_of(analysis(sources=(source,)))

    assert shown.encode() in to_json_bytes(bundle)
    assert report_of(bundle)["subject"]["display"] == shown


def test_a_chinese_name_loses_its_escape_sequences_and_nothing_else() -> None:
    # The example of PS3.5 K.2, which pydicom decodes but for the sequences.
    name = b"\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
    received = radiograph(SpecificCharacterSet=["", "ISO 2022 IR 58"], PatientName=f"Zhang^XiaoDong={'Q' * len(name)}")
    source = through_a_file(received, b"Q" * len(name), name)

    assert report_of(bundle_of(analysis(sources=(source,))))["subject"]["display"] == "Zhang XiaoDong / 张 小东"


def through_a_file(dataset: Dataset, old: bytes = b"", new: bytes = b"") -> Dataset:
    """Write and read, so that text is bytes in its own character set as it comes from a modality; alter it between."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue().replace(old, new) if old else buffer.getvalue()))


@pytest.mark.filterwarnings("ignore:.* VR of IS:UserWarning", "ignore:Invalid value for VR IS:UserWarning")
def test_an_instance_number_that_is_none_is_left_out() -> None:
    received = radiograph(InstanceNumber="1234", SeriesNumber="99999999999")
    source = through_a_file(received, b"1234", b"1.5 ")

    (study,) = resources(bundle_of(analysis(sources=(source,))), "ImagingStudy")

    assert "number" not in study["series"][0]
    assert "number" not in study["series"][0]["instance"][0]


def test_a_name_longer_than_the_standard_allows_is_told_whole_and_without_a_word_in_the_log() -> None:
    """pydicom warns of more than 64 characters (PS3.5 6.2), and a warning fails here."""
    bundle = bundle_of(analysis(sources=(radiograph(PatientName="A" * 65),)))
    assert "A" * 65 in json.dumps(report_of(bundle)["subject"])


@settings(deadline=None, max_examples=60)
@given(text=st.text(), key=st.sampled_from(["PatientName", "StudyDescription", "AccessionNumber", "PatientID"]))
def test_any_text_of_the_source_makes_a_valid_bundle_and_well_formed_narrative(text: str, key: str) -> None:
    finding = replace(FINDINGS[0], label=text)
    bundle = bundle_of(analysis(sources=(radiograph(**{key: text}),), findings=(finding,)))

    narrative = report_of(json.loads(to_json_bytes(bundle)))["text"]["div"]
    assert ElementTree.fromstring(narrative).tag == "{http://www.w3.org/1999/xhtml}div"


def test_notes_of_the_model_are_part_of_the_report() -> None:
    answer = replace(analysis(), notes=("Series 3 was left out:\r\nlocalizer.",))

    assert "Note: Series 3 was left out: localizer." in report_of(bundle_of(answer))["conclusion"]


# --- who the patient is ---


def test_the_issuer_decides_the_identifier_system() -> None:
    options = replace(OPTIONS, issuers={"HOSP_B": "urn:oid:1.5.5"})
    source = radiograph(IssuerOfPatientID="HOSP_B")

    subject = report_of(bundle_of(analysis(sources=(source,)), options=options))["subject"]

    assert subject["identifier"] == {"system": "urn:oid:1.5.5", "value": PATIENT_ID}


def test_an_issuer_with_an_oid_needs_no_configuration() -> None:
    qualifiers = Dataset()
    qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = "1.7.7", "ISO"
    source = radiograph(IssuerOfPatientIDQualifiersSequence=[qualifiers])

    subject = report_of(bundle_of(analysis(sources=(source,))))["subject"]

    assert subject["identifier"]["system"] == "urn:oid:1.7.7"


def test_without_issuer_the_configured_system_holds() -> None:
    options = replace(OPTIONS, issuers={"HOSP_B": "urn:oid:1.5.5"})
    assert report_of(bundle_of(options=options))["subject"]["identifier"]["system"] == PATIENT_SYSTEM


def test_a_number_of_an_unlisted_issuer_is_not_taken_for_one_of_the_site() -> None:
    source = analysis(sources=(radiograph(IssuerOfPatientID="HOSP_C"),))
    options = replace(OPTIONS, issuers={"HOSP_B": "urn:oid:1.5.5"})
    assert report_of(bundle_of(source, options=options))["subject"]["identifier"] == {"value": PATIENT_ID}
    unlisted = replace(OPTIONS, issuers={})
    assert report_of(bundle_of(source, options=unlisted))["subject"]["identifier"]["system"] == PATIENT_SYSTEM


# --- the judge ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "final"}, "DiagnosticReport.status"),
        ({"status": "banana"}, "DiagnosticReport.status"),
        ({"colour": "blue"}, "colour"),
        ({"issued": "2026-11-20T10:00:00"}, "issued"),
        ({"code": None}, "code"),
    ],
)
def test_a_wrong_report_is_caught_before_it_leaves(change: Json, words: str) -> None:
    report = {key: value for key, value in {**report_of(bundle_of()), **change}.items() if value is not None}

    with pytest.raises(ReportInvalid, match=words):
        check_resource(report)


def test_the_judge_does_not_quote_what_it_judges() -> None:
    report = report_of(bundle_of()) | {"issued": "Doe Jane"}

    with pytest.raises(ReportInvalid) as caught:
        check_resource(report)

    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("presence", list(Presence))
def test_every_presence_makes_a_valid_bundle(presence: Presence) -> None:
    bundle = bundle_of(analysis(findings=(replace(FINDINGS[0], presence=presence),)))

    assert len(resources(bundle, "Observation")) == 1
