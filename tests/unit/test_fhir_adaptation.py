"""A Bundle fitted to its receiver: what the settings and the receiver change of it, and that the stored one stays."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_node.core.entities import ArtifactKind
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.fhir.adaptation import DROPPABLE, adapted, names_for_viewer, with_link
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.resources.document import document_entry
from dicom_node.fhir.builders.validation import check_bundle, check_resource
from dicom_node.fhir.client.capabilities import ServerCapabilities, offered_by
from dicom_node.fhir.options import FhirProfile
from tests.support.results.fhir_examples import (
    CONTEXT,
    MODEL,
    OPTIONS,
    PATIENT_ID,
    STUDY_UID,
    analysis,
    not_analysed,
    radiograph,
    written_objects,
)

Json = dict[str, Any]
BUNDLE: Json = build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS)


def of_kind(bundle: Json, kind: str) -> list[Json]:
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


def report_of(bundle: Json) -> Json:
    (report,) = of_kind(bundle, "DiagnosticReport")
    return report


def codes(concept: Json) -> list[str]:
    return [one["code"] for one in concept["coding"]]


def ehr(**values: Any) -> FhirDestination:
    return FhirDestination(name="ehr", kind="fhir", url="https://ehr.example", **values)


def with_pdf(url: str = OPTIONS.dicomweb_url) -> Json:
    pdf = radiograph(EncapsulatedDocument=b"%PDF-1.4")
    written = replace(written_objects()[0], kind=ArtifactKind.ENCAPSULATED_PDF, dataset=pdf)
    return build_bundle(analysis(), CONTEXT, (written,), replace(OPTIONS, dicomweb_url=url))


# --- the settings ---


def test_without_a_word_in_the_settings_a_bundle_goes_as_it_was_stored() -> None:
    assert adapted(BUNDLE, ehr().fhir_profile) == BUNDLE


def test_the_categories_are_those_that_the_receiver_searches_by() -> None:
    both = report_of(adapted(BUNDLE, FhirProfile(categories=("loinc", "v2-0074"))))["category"]

    assert [codes(one) for one in both] == [["LP29684-5"], ["RAD"]]


def test_us_core_is_claimed_and_an_unknown_date_said_to_be_unknown() -> None:
    undated = build_bundle(
        analysis(sources=(radiograph(StudyDate=None, AcquisitionDate=None),)), CONTEXT, written_objects(), OPTIONS
    )
    profile = ehr(preset="us-core").fhir_profile

    report = report_of(adapted(undated, profile))
    assert report["meta"]["profile"] == [
        "http://hl7.org/fhir/us/core/StructureDefinition/us-core-diagnosticreport-note"
    ]
    assert report["meta"]["security"]
    assert report["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    check_resource(report)
    assert "_effectiveDateTime" not in report_of(adapted(BUNDLE, profile))


def test_a_procedure_of_the_site_has_its_own_loinc_code_and_the_report_its_title() -> None:
    table = {"CT head": "24725-4", "CHEST  pa": "36643-5 XR Chest PA"}
    report = report_of(adapted(BUNDLE, FhirProfile(procedures=table)))

    assert report["code"]["coding"] == [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest PA"}]
    assert report["code"]["text"] == f"AI preliminary analysis: {MODEL.name} {MODEL.version}"
    assert report_of(adapted(BUNDLE, FhirProfile(procedures={"CT head": "24725-4"}))) == report_of(BUNDLE)


@given(dropped=st.frozensets(st.sampled_from(DROPPABLE)), declined=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_is_dropped_no_reference_is_left_that_leads_nowhere(dropped: frozenset[str], declined: bool) -> None:
    bundle = build_bundle(not_analysed() if declined else analysis(), CONTEXT, written_objects(), OPTIONS)

    by_setting, by_server = (
        adapted(bundle, FhirProfile(drop=dropped)),
        adapted(bundle, FhirProfile(), lambda kind: kind not in dropped),
    )

    assert by_setting == by_server
    check_bundle(by_setting)
    assert {kind for kind in DROPPABLE if of_kind(bundle, kind) and not of_kind(by_setting, kind)} == dropped
    assert report_of(by_setting)["conclusion"] == report_of(bundle)["conclusion"]


def test_a_device_and_a_study_that_are_not_sent_are_still_named() -> None:
    bundle = adapted(BUNDLE, ehr(preset="lean").fhir_profile)

    assert report_of(bundle)["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{STUDY_UID}"
    assert of_kind(bundle, "Observation")[0]["device"]["identifier"]["value"] == f"urn:oid:{MODEL.device_uid}"


def test_the_pdf_goes_whole_or_by_its_address_or_not_at_all() -> None:
    def forms(pdf: str, bundle: Json) -> list[set[str]]:
        found = report_of(adapted(bundle, FhirProfile(pdf=pdf)))["presentedForm"]
        return [{"data", "url"} & set(one) for one in found]

    assert forms("attachment", with_pdf()) == [{"data"}, {"data"}]
    assert forms("link", with_pdf()) == [{"data"}, {"url"}]
    assert forms("none", with_pdf()) == [{"data"}]
    assert forms("link", with_pdf(url="")) == [{"data"}], "an address that nobody has cannot be sent"


def test_fitting_leaves_the_stored_bundle_as_it_is() -> None:
    stored = copy.deepcopy(BUNDLE)
    adapted(with_link(BUNDLE, "https://viewer.example/1"), ehr(preset="lean", profile={"us_core": True}).fhir_profile)

    assert stored == BUNDLE


@pytest.mark.parametrize(
    "values",
    [
        {"preset": "epic"},
        {"profile": {"procedures": {"CT": "chest"}}},
        {"profile": {"drop": ["DiagnosticReport"]}},
        {"profile": {"categories": []}},
        {"headers": {"Authorization": "Bearer 1"}},
        {"headers": {"X-Key": "a\r\nHost: elsewhere"}},
        {"headers": {"X Key": "a"}},
        {"headers": {"X-Key": ""}},
    ],
)
def test_settings_that_cannot_be_kept_are_refused(values: Json) -> None:
    with pytest.raises(ValidationError):
        ehr(**values)


def test_headers_are_sent_and_never_shown() -> None:
    there = ehr(headers={"Ocp-Apim-Subscription-Key": "the-key"})

    assert there.fhir_profile.headers == {"Ocp-Apim-Subscription-Key": "the-key"}
    assert "the-key" not in repr(there) + repr(there.fhir_profile) + there.model_dump_json()


# --- the link to the images ---


def test_the_link_to_the_images_stands_in_the_text_and_on_the_page_which_keeps_its_hash() -> None:
    report = report_of(with_link(BUNDLE, 'https://viewer.example/?a=1&b="2"'))

    link = '<a href="https://viewer.example/?a=1&amp;b=&quot;2&quot;">Open the images</a>'
    (form,) = report["presentedForm"]
    page = base64.b64decode(form["data"])
    assert link in report["text"]["div"]
    assert link in page.decode()
    assert (form["size"], form["hash"]) == (len(page), base64.b64encode(hashlib.sha1(page).digest()).decode())
    assert form["title"] == report_of(BUNDLE)["presentedForm"][0]["title"]
    check_resource(report)
    assert with_link(BUNDLE, "") == BUNDLE


def test_a_viewer_may_find_the_images_by_study_order_and_patient() -> None:
    assert names_for_viewer(BUNDLE) == {
        "study_instance_uid": STUDY_UID, "accession_number": "ACC1", "patient_id": PATIENT_ID,
    }  # fmt: skip
    assert set(names_for_viewer({"entry": []}).values()) == {""}


# --- the report as a document ---


def test_the_document_says_what_the_report_says_and_is_known_by_the_same_numbers() -> None:
    document, report = document_entry(with_pdf())["resource"], report_of(with_pdf())

    assert document["identifier"] == report["identifier"]
    assert (document["status"], document["docStatus"]) == ("current", "preliminary")
    assert [one["attachment"] for one in document["content"]] == report["presentedForm"]
    assert document["context"]["related"][0]["identifier"]["value"] == "ACC1"
    assert document["meta"]["security"][0]["code"] == "AIAST"
    assert "urn:uuid" not in json.dumps([document["context"], document["subject"]])
    check_resource(document)


# --- what a CapabilityStatement says ---


def capabilities(*resources: Json, transaction: bool = True, refused: tuple[str, ...] = ()) -> ServerCapabilities:
    interaction = [{"code": "transaction"}] if transaction else []
    rest = {"mode": "server", "interaction": interaction, **({"resource": [*resources]} if resources else {})}
    return ServerCapabilities(offered=offered_by({"rest": [rest]}), refused=frozenset(refused))


def listed(kind: str, *interactions: str, **flags: bool) -> Json:
    return {"type": kind, "interaction": [{"code": one} for one in interactions], **flags}


def test_what_a_statement_is_silent_on_is_tried() -> None:
    silent = capabilities()

    assert silent.takes_transactions
    assert silent.creates("Device")
    assert not silent.takes_documents_only
    assert ServerCapabilities().takes_transactions


def test_a_list_of_types_holds_for_those_that_it_leaves_out() -> None:
    short = capabilities(listed("DiagnosticReport", "create"), listed("Observation"), listed("Device", "read"))

    assert [kind for kind in ("DiagnosticReport", "Observation", "Device", "Provenance") if short.creates(kind)] == [
        "DiagnosticReport", "Observation",
    ]  # fmt: skip
    assert capabilities(listed("Patient", "read"), listed("DocumentReference", "create")).takes_documents_only


def test_a_list_without_any_type_for_a_report_is_not_believed() -> None:
    odd = capabilities(listed("Device", "create"))

    assert odd.creates("DiagnosticReport")
    assert odd.creates("Observation")
    assert not odd.takes_documents_only


def test_what_was_refused_counts_more_than_what_is_said() -> None:
    there = [listed(kind, "create", conditionalCreate=True) for kind in ("DiagnosticReport", "DocumentReference")]

    assert capabilities(*there).takes_transactions
    assert not capabilities(*there, refused=("transaction",)).takes_transactions
    assert not capabilities(*there, refused=("If-None-Exist",)).takes_transactions
    assert capabilities(*there, refused=("DiagnosticReport.create",)).takes_documents_only


def test_what_was_learned_of_a_server_is_told_in_words() -> None:
    there = capabilities(
        listed("DiagnosticReport", "create", updateCreate=True, conditionalCreate=False), refused=("POST _search",)
    )

    assert there.in_words() == [
        "reports go one by one",
        "it takes no Observation, Device, Endpoint, ImagingStudy, Provenance",
        "it creates nothing on a condition (If-None-Exist)",
        "the node may choose ids there (updateCreate)",
        "found not to do: POST _search",
    ]
    assert capabilities().in_words() == ["reports go in one transaction"]
