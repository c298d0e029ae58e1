"""Reports delivered to a real FHIR R4 server, and what comes of everything that can go wrong there."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydicom.dataset import Dataset

from dicom_node.core.entities import Presence
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.connections.web import authentication
from dicom_node.deliver.kinds.fhir import FhirDestination, FhirPreset
from dicom_node.fhir.adaptation import adapted, with_link
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.resources.document import document_entry
from dicom_node.fhir.client.client import FhirClient, Fit
from dicom_node.fhir.json_types import to_json_bytes
from tests.peers.fhir_server import PEER, FhirServer, node_environment
from tests.support.needs import tool
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    not_analysed,
    radiograph,
    written_objects,
)

KINDS = ("Device", "DocumentReference", "Endpoint", "ImagingStudy", "DiagnosticReport", "Provenance")
LOGICAL = Fit(patient="logical")
LATER = replace(CONTEXT, job_key="b" * 64, started_at=CONTEXT.started_at + timedelta(hours=1))


def bundle(answer: Any = None, context: Any = CONTEXT) -> dict[str, object]:
    return build_bundle(answer or analysis(), context, written_objects(), OPTIONS)


def send(server: FhirServer, one: dict[str, object], **options: Any) -> tuple[str, ...]:
    with FhirClient(server.url, timeout_s=options.pop("timeout_s", 60.0), **options) as client:
        return client.send(one).locations


def login(**settings: Any) -> httpx.Auth | None:
    return authentication(FhirDestination(name="ehr", kind="fhir", url="https://ehr.example", **settings))


@pytest.fixture
def server(fhir_server: FhirServer) -> FhirServer:
    """A server that knows the patient."""
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    return fhir_server


@pytest.fixture(params=[True, False], ids=["transaction", "one by one"])
def either_server(request: pytest.FixtureRequest, server: FhirServer) -> FhirServer:
    """A server with transactions, and one without."""
    server.set(transactions=request.param)
    return server


# --- what arrives ---


def test_the_server_takes_the_report_and_says_where_everything_lies(either_server: FhirServer) -> None:
    locations = send(either_server, bundle())

    kinds = [re.sub(r".*?([A-Z]\w+)/[^/]+$", r"\1", location) for location in locations]
    before, after = ["Device", "Endpoint", "ImagingStudy"], ["DocumentReference", "DiagnosticReport", "Provenance"]
    assert kinds == [*before, *["Observation"] * 4, *after]


def test_a_bundle_sent_twice_leaves_one_of_each(either_server: FhirServer) -> None:
    assert send(either_server, bundle()) == send(either_server, bundle())

    assert {kind: len(either_server.all(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert len(either_server.all("Observation")) == len(FINDINGS)


def test_the_report_refers_to_the_patient_of_the_server_and_to_stored_resources(either_server: FhirServer) -> None:
    send(either_server, bundle())

    (patient,) = either_server.all("Patient")
    (report,) = either_server.all("DiagnosticReport")
    stored = {f"Observation/{one['id']}" for one in either_server.all("Observation")}
    assert report["subject"]["reference"] == f"Patient/{patient['id']}"
    assert {one["reference"] for one in report["result"]} == stored
    assert "urn:uuid:" not in json.dumps(
        either_server.all("ImagingStudy") + either_server.all("Provenance")[0]["target"]
    )


def test_a_declined_study_arrives_as_not_analysed(server: FhirServer) -> None:
    send(server, bundle(not_analysed()))

    (observation,) = server.all("Observation")
    assert "valueCodeableConcept" not in observation
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"


def test_a_logical_reference_needs_no_look_up(fhir_server: FhirServer) -> None:
    send(fhir_server, bundle(), fit=LOGICAL)

    (report,) = fhir_server.all("DiagnosticReport")
    assert report["subject"]["identifier"] == {"system": PATIENT_SYSTEM, "value": PATIENT_ID}


def test_what_is_sent_is_declared_as_r4(server: FhirServer) -> None:
    send(server, bundle())

    types = {one["contentType"] for one in server.log() if one["url"] == "/fhir/R4"}
    assert types == {"application/fhir+json; fhirVersion=4.0"}


def test_a_server_that_hides_its_capabilities_is_sent_a_transaction(server: FhirServer) -> None:
    server.set(metadataStatus=403)

    assert len(send(server, bundle())) == len(KINDS) + len(FINDINGS)


def test_a_server_of_another_fhir_version_is_refused(server: FhirServer) -> None:
    server.set(fhirVersion="5.0.0")

    with pytest.raises(DeliveryRefused, match=r"FHIR 5\.0\.0"):
        send(server, bundle())


# --- a second run ---


def test_a_later_run_updates_the_report_and_takes_back_what_it_no_longer_says(either_server: FhirServer) -> None:
    send(either_server, bundle())
    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    (report,) = either_server.all("DiagnosticReport")
    states = [one["status"] for one in either_server.all("Observation")]
    assert len(report["result"]) == 1
    assert sorted(states) == ["entered-in-error"] * len(FINDINGS) + ["preliminary"]
    assert len(either_server.all("Provenance")) == 2


def test_a_delayed_earlier_run_does_not_replace_a_later_one(server: FhirServer) -> None:
    send(server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    with FhirClient(server.url) as client:
        delivered = client.send(bundle())

    assert delivered.superseded
    assert len(server.all("Observation")) == 1


def test_a_report_that_a_physician_has_finalised_is_not_overwritten(server: FhirServer) -> None:
    send(server, bundle())
    (report,) = server.all("DiagnosticReport")
    server.replace({**report, "status": "final"})

    with pytest.raises(DeliveryRefused, match="status final"):
        send(server, bundle(analysis(), LATER))

    assert server.all("DiagnosticReport")[0]["status"] == "final"


# --- a physician decides while the node writes ---


@pytest.mark.parametrize("answer", [analysis(), analysis(findings=FINDINGS[:1])], ids=["sent again", "later run"])
@pytest.mark.parametrize("ignores_if_match", [False, True])
def test_a_report_finalised_between_look_and_write_stays_final(
    either_server: FhirServer, answer: Any, *, ignores_if_match: bool
) -> None:
    send(either_server, bundle())
    context = CONTEXT if len(answer.findings) == len(FINDINGS) else LATER
    either_server.set(finaliseBeforeWrite=True, ignoreIfMatch=ignores_if_match)

    with pytest.raises(DeliveryRefused, match=r"status final|put the person's version back"):
        send(either_server, bundle(answer, context))

    (report,) = either_server.all("DiagnosticReport")
    assert report["status"] == "final"
    assert len(report["result"]) == len(FINDINGS)


def test_a_report_sent_again_does_not_replace_one_that_is_final(either_server: FhirServer) -> None:
    send(either_server, bundle())
    (report,) = either_server.all("DiagnosticReport")
    either_server.replace({**report, "status": "final"})

    with pytest.raises(DeliveryRefused, match="status final"):
        send(either_server, bundle())

    assert either_server.all("DiagnosticReport")[0]["status"] == "final"


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "cancelled"])
def test_an_observation_that_a_physician_decided_about_is_left_alone(either_server: FhirServer, status: str) -> None:
    send(either_server, bundle())
    decided = either_server.all("Observation")[0]
    either_server.replace({**decided, "status": status})

    send(either_server, bundle())
    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    assert {one["id"]: one["status"] for one in either_server.all("Observation")}[decided["id"]] == status


@pytest.mark.parametrize("ignores_if_match", [False, True])
def test_a_report_that_a_physician_has_reopened_is_updated(
    either_server: FhirServer, *, ignores_if_match: bool
) -> None:
    send(either_server, bundle())
    (report,) = either_server.all("DiagnosticReport")
    either_server.replace({**report, "status": "final"})
    either_server.replace({**report, "status": "preliminary"})
    either_server.set(ignoreIfMatch=ignores_if_match)

    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    (report,) = either_server.all("DiagnosticReport")
    assert (report["status"], len(report["result"])) == ("preliminary", 1)


def test_a_server_that_takes_no_list_in_a_search_is_asked_one_by_one(either_server: FhirServer) -> None:
    either_server.set(refuse=[{"method": "GET", "path": "^/Observation$", "query": ",", "status": 400}])

    assert send(either_server, bundle()) == send(either_server, bundle())


def test_an_update_names_the_version_that_was_looked_at(server: FhirServer) -> None:
    server.set(transactions=False)
    send(server, bundle())
    send(server, bundle())

    updates = [one for one in server.log() if one["method"] == "PUT"]
    assert len(updates) == 1 + len(FINDINGS)
    assert all(re.fullmatch(r'W/"[^"]+"', one["ifMatch"]) for one in updates)


# --- how a server wants its versions spelt ---

WEAK, STRONG, BARE = 'W/"VERSION"', '"VERSION"', "VERSION"


@pytest.mark.parametrize(
    ("spelling", "status", "sends"),
    [
        (WEAK, 412, True), (WEAK, 412, False), (STRONG, 412, True), (STRONG, 412, False), (STRONG, 400, False),
        (STRONG, 409, False), (BARE, 412, True),
    ],
)  # fmt: skip
def test_the_version_is_named_as_the_server_spells_it(
    either_server: FhirServer, spelling: str, status: int, *, sends: bool
) -> None:
    send(either_server, bundle())
    either_server.set(etag=spelling, sendsEtag=sends, wrongEtagStatus=status)
    send(either_server, bundle())
    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    (report,) = either_server.all("DiagnosticReport")
    assert LATER.job_key in {one["value"] for one in report["identifier"]}
    assert len(report["result"]) == 1


def test_a_spelling_that_cannot_be_found_is_told_as_what_it_is(either_server: FhirServer) -> None:
    send(either_server, bundle())
    either_server.set(etag="version:VERSION", sendsEtag=False)

    with pytest.raises(DeliveryRefused, match="which ETag it wants and whether a proxy between changes the header"):
        send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    assert CONTEXT.job_key in json.dumps(either_server.all("DiagnosticReport"))


def test_a_tag_that_is_no_version_is_given_back_as_it_came(server: FhirServer) -> None:
    server.set(transactions=False)
    send(server, bundle())
    server.set(etag='"tag-of-VERSION"', hidesVersions=True)
    send(server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    updates = {one["url"]: one["ifMatch"] for one in server.log() if one["method"] == "PUT"}
    (of_report,) = (tag for url, tag in updates.items() if "DiagnosticReport" in url)
    assert of_report.startswith('"tag-of-')
    assert LATER.job_key in json.dumps(server.all("DiagnosticReport"))


def test_a_server_without_versions_gets_one_report_and_no_final_one_is_replaced(either_server: FhirServer) -> None:
    either_server.set(hidesVersions=True)
    send(either_server, bundle())
    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))
    (report,) = either_server.all("DiagnosticReport")
    assert LATER.job_key in {one["value"] for one in report["identifier"]}

    either_server.replace({**report, "status": "final"})
    with pytest.raises(DeliveryRefused, match="status final"):
        send(either_server, bundle())


# --- what stands beside the report must not cost it ---


@pytest.mark.parametrize("kind", ["ImagingStudy", "Device", "Endpoint"])
def test_a_duplicate_beside_the_report_does_not_hold_it_back(either_server: FhirServer, kind: str) -> None:
    send(either_server, bundle())
    (there,) = either_server.all(kind)
    either_server.add({key: value for key, value in there.items() if key not in {"id", "meta"}})

    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    assert len(either_server.all(kind)) == 2
    assert either_server.all("DiagnosticReport")[0]["identifier"][-1]["value"] == LATER.job_key


@pytest.mark.parametrize("kind", ["ImagingStudy", "Device", "Endpoint", "Provenance"])
@pytest.mark.parametrize("status", [400, 403])
def test_what_the_server_lets_nobody_look_for_is_referred_to_by_identifier(
    either_server: FhirServer, kind: str, status: int
) -> None:
    either_server.set(refuse=[{"method": "GET", "path": f"^/{kind}$", "status": status}])

    send(either_server, bundle())
    send(either_server, bundle())

    either_server.set(refuse=[])
    (report,) = either_server.all("DiagnosticReport")
    assert len(either_server.all(kind)) == (1 if kind == "Provenance" else 0)
    if kind == "ImagingStudy":
        assert report["imagingStudy"][0]["identifier"]["system"] == "urn:dicom:uid"
        assert "reference" not in report["imagingStudy"][0]


def test_a_server_that_takes_no_provenance_gets_the_report_all_the_same(server: FhirServer) -> None:
    server.set(transactions=False, refuse=[{"method": "POST", "path": "^/(Provenance|Device)$", "status": 403}])

    send(server, bundle())

    assert len(server.all("DiagnosticReport")) == 1
    assert {one["device"]["identifier"]["system"] for one in server.all("Observation")} == {"urn:dicom:uid"}


def test_an_imaging_study_of_another_patient_is_not_referred_to(server: FhirServer) -> None:
    send(server, bundle())
    (study,) = server.all("ImagingStudy")
    other = server.add_patient(PATIENT_SYSTEM, "another")
    server.replace({**study, "subject": {"reference": f"Patient/{other}"}})

    send(server, bundle(analysis(), LATER))

    assert "reference" not in server.all("DiagnosticReport")[0]["imagingStudy"][0]


# --- servers that offer less than they say ---


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_that_refuses_the_transaction_it_claims_is_sent_one_by_one(server: FhirServer, status: int) -> None:
    server.set(refuse=[{"method": "POST", "path": "^/$", "status": status}])

    send(server, bundle())

    assert {kind: len(server.all(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 1)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 415, 422, 501])
def test_a_server_without_search_by_post_is_searched_by_get(server: FhirServer, status: int) -> None:
    server.set(refuse=[{"method": "POST", "path": "^/Patient/_search$", "status": status}])

    assert send(server, bundle())


def test_success_without_a_body_counts_only_when_the_report_is_there(either_server: FhirServer) -> None:
    either_server.set(emptyAnswers=True)

    send(either_server, bundle())
    send(either_server, bundle(analysis(findings=FINDINGS[:1]), LATER))

    assert {kind: len(either_server.all(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 1) | {"Provenance": 2}


# --- the patient ---


def test_an_unknown_patient_is_refused_without_being_named(fhir_server: FhirServer) -> None:
    with pytest.raises(DeliveryRefused, match=re.escape(PATIENT_SYSTEM)) as refused:
        send(fhir_server, bundle())

    assert PATIENT_ID not in str(refused.value)
    assert fhir_server.all("DiagnosticReport") == []


def test_two_patients_with_one_number_are_refused(server: FhirServer) -> None:
    server.add_patient(PATIENT_SYSTEM, PATIENT_ID)

    with pytest.raises(DeliveryRefused, match="2 Patients"):
        send(server, bundle())


def test_the_same_number_of_another_issuer_is_another_patient(fhir_server: FhirServer) -> None:
    fhir_server.add_patient("urn:oid:9.9.9", PATIENT_ID)

    with pytest.raises(DeliveryRefused, match="no Patient"):
        send(fhir_server, bundle())


def test_a_merged_record_does_not_count(server: FhirServer) -> None:
    other = server.all("Patient")[0]["id"]
    link = [{"other": {"reference": f"Patient/{other}"}, "type": "replaced-by"}]
    identifier = [{"system": PATIENT_SYSTEM, "value": PATIENT_ID}]
    server.add({"resourceType": "Patient", "identifier": identifier, "link": link})

    send(server, bundle())

    assert server.all("DiagnosticReport")[0]["subject"]["reference"] == f"Patient/{other}"


@pytest.mark.parametrize(
    ("source", "words"), [(radiograph(PatientID=None), "no PatientID"), (radiograph(PatientID=""), "no PatientID")]
)
def test_images_without_patient_id_are_refused(server: FhirServer, source: Dataset, words: str) -> None:
    with pytest.raises(DeliveryRefused, match=words):
        send(server, bundle(analysis(sources=(source,))))


def test_a_number_without_system_is_refused(server: FhirServer) -> None:
    without = build_bundle(analysis(), CONTEXT, written_objects(), replace(OPTIONS, patient_system=""))

    with pytest.raises(DeliveryRefused, match=r"fhir\.patient_system"):
        send(server, without)


def test_a_patient_of_an_unlisted_issuer_is_refused_although_the_site_has_the_number(server: FhirServer) -> None:
    source = analysis(sources=(radiograph(IssuerOfPatientID="HOSP_C"),))
    options = replace(OPTIONS, issuers={"HOSP_B": "urn:oid:1.5.5"})

    with pytest.raises(DeliveryRefused, match=r"to fhir\.issuers"):
        send(server, build_bundle(source, CONTEXT, written_objects(), options))


def test_nothing_that_is_logged_names_the_patient(server: FhirServer, caplog: pytest.LogCaptureFixture) -> None:
    for talkative in (None, "httpx", "httpcore"):  # also where the node has made them silent in this process
        caplog.set_level(logging.DEBUG, logger=talkative)

    send(server, bundle())

    assert "DiagnosticReport" in caplog.text
    assert PATIENT_ID not in caplog.text
    assert "Jane" not in caplog.text


# --- failures ---


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_deferred(server: FhirServer, status: int) -> None:
    server.set(fail={"status": status, "count": 1})

    with pytest.raises(DeliveryDeferred):
        send(server, bundle())


def test_the_wait_that_the_server_asks_for_is_honoured(server: FhirServer) -> None:
    server.set(fail={"status": 503, "count": 1, "retryAfter": 7})

    with pytest.raises(DeliveryDeferred) as deferred:
        send(server, bundle())

    assert deferred.value.retry_after_s == 7


@pytest.mark.parametrize("status", [400, 404, 410, 412, 422])
def test_a_lasting_failure_is_refused_with_the_code_that_the_server_gave(server: FhirServer, status: int) -> None:
    server.set(fail={"status": status, "count": 9, "text": "no room for DOE, JANE"})

    with pytest.raises(
        DeliveryRefused, match=rf"answered {status} to a search for the Patient \(processing\)"
    ) as refused:
        send(server, bundle())

    assert "DOE" not in str(refused.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_door_is_told_apart_from_a_report_that_is_not_taken(server: FhirServer, status: int) -> None:
    server.set(fail={"status": status, "count": 99})

    with pytest.raises(CredentialsRefused, match=str(status)):
        send(server, bundle())


def test_a_server_that_rejects_one_entry_keeps_none(server: FhirServer) -> None:
    broken = json.loads(to_json_bytes(bundle()))
    broken["entry"][-2]["resource"]["status"] = "draft"

    with pytest.raises(DeliveryRefused, match="400"):
        send(server, broken)

    assert server.all("Device") == []


@pytest.mark.parametrize("ignores", [False, True])
def test_a_failure_half_way_is_made_good_by_sending_again(server: FhirServer, *, ignores: bool) -> None:
    server.set(transactions=False, ignoreIfNoneExist=ignores)
    broken = json.loads(to_json_bytes(bundle()))
    broken["entry"][-2]["resource"]["status"] = "draft"
    with pytest.raises(DeliveryRefused):
        send(server, broken)

    send(server, bundle())

    assert {kind: len(server.all(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert len(server.all("Observation")) == len(FINDINGS)


def test_a_silent_server_is_deferred(server: FhirServer) -> None:
    server.set(delayMs=60_000)

    with pytest.raises(DeliveryDeferred, match="did not finish within the time"):
        send(server, bundle(), timeout_s=0.3)


def test_a_closed_port_is_deferred() -> None:
    with FhirClient("http://127.0.0.1:9/fhir") as client, pytest.raises(DeliveryDeferred, match="cannot be reached"):
        client.send(bundle())


def test_a_redirect_is_not_followed(server: FhirServer) -> None:
    server.set(redirect="http://localhost:9/elsewhere")

    with pytest.raises(DeliveryRefused, match="Redirects are not followed"):
        send(server, bundle())


def test_the_token_opens_the_server_and_a_wrong_one_does_not(
    start_fhir_server: Callable[..., FhirServer],
) -> None:
    guarded = start_fhir_server("s3cret")

    with pytest.raises(CredentialsRefused, match="401") as refused:
        send(guarded, bundle(), auth=login(token="wrong-token"), fit=LOGICAL)
    send(guarded, bundle(), auth=login(token="s3cret"), fit=LOGICAL)

    assert "wrong-token" not in str(refused.value)


def test_user_and_password_are_sent_as_basic_authentication(server: FhirServer) -> None:
    send(server, bundle(), auth=login(username="node", password="pass"))

    assert {one["authorization"] for one in server.log() if "_search" in one["url"]} == {"Basic bm9kZTpwYXNz"}


# --- independent validators ---

ANSWERS = {
    "findings": analysis(),
    "not-analysed": not_analysed(),
    "no-findings": analysis(findings=()),
    "bare-header": analysis(sources=(radiograph(StudyDate=None, AcquisitionDate=None, AccessionNumber=None),)),
    "undetermined": analysis(findings=(replace(FINDINGS[0], presence=Presence.UNDETERMINED, laterality=None),)),
}


def judged(*bundles: Path) -> list[dict[str, str]]:
    """Return the errors that Medplum and npm fhir find in these bundles."""
    command = [tool("node", "nodejs"), str(PEER / "validate.cjs"), *map(str, bundles)]
    done = subprocess.run(command, env=node_environment(), check=True, capture_output=True, text=True)
    errors: list[dict[str, str]] = json.loads(done.stdout)
    return errors


def test_two_independent_validators_find_no_error(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.json" for name in ANSWERS]
    for path, answer in zip(paths, ANSWERS.values(), strict=True):
        path.write_bytes(to_json_bytes(bundle(answer)))
    for preset, (name, answer) in product(get_args(FhirPreset), ANSWERS.items()):
        paths.append(tmp_path / f"{name}-{preset}.json")
        paths[-1].write_bytes(to_json_bytes(_as_sent(preset, json.loads(to_json_bytes(bundle(answer))))))

    assert judged(*paths) == []


def _as_sent(preset: str, stored: dict[str, Any]) -> dict[str, Any]:
    there = FhirDestination(name="ehr", kind="fhir", url="https://ehr.example", preset=preset)
    wanted = with_link(adapted(stored, there.fhir_profile), "https://viewer.example/1.2.3")
    return {**wanted, "entry": [document_entry(wanted)]} if there.fhir_profile.as_document else wanted


def test_the_validators_do_find_a_wrong_code(tmp_path: Path) -> None:
    broken = json.loads(to_json_bytes(bundle()))
    broken["entry"][-2]["resource"]["status"] = "draft"
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(broken), encoding="utf-8")

    assert {one["resource"] for one in judged(path)} == {"Bundle", "DiagnosticReport"}
