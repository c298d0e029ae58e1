"""A later result beside an earlier one in a real FHIR R4 server: what is listed, what is said of the earlier."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import update

from dicom_node.analysis.context import ReplacedResult, ReportLine
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.errors import DeliveryDeferred
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.facts import former_identifier
from dicom_node.fhir.builders.retraction import Retraction, retraction_bundle, with_studies_standing
from dicom_node.fhir.client.client import Delivered, FhirClient
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.index.database import claim_store_id
from dicom_node.index.decided import actions
from dicom_node.index.lineage import LINE
from dicom_node.index.tables import artifacts, results
from tests.integration.step_by_step_node import Site, site
from tests.peers.fhir_server import FhirServer
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    MODEL,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    STUDY_UID,
    analysis,
    radiograph,
    written_objects,
)
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

EHR = {"name": "ehr", "kind": "fhir", "patient": "logical"}
LATE_IMAGE = radiograph(SOPInstanceUID=f"{STUDY_UID}.1.2", InstanceNumber="2")
EARLIER_OBJECTS = tuple(str(one.dataset.SOPInstanceUID) for one in written_objects())
REPLACED = (ReplacedResult(job_key=CONTEXT.job_key, object_uids=EARLIER_OBJECTS),)
NOW = datetime(2026, 11, 29, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATER = replace(CONTEXT, job_key="b" * 64, started_at=CONTEXT.started_at + HOUR, replaced=REPLACED)
OTHER_MODEL = replace(CONTEXT, job_key="c" * 64, started_at=CONTEXT.started_at + HOUR, route_name="other")


def later_objects(place: str) -> tuple[WrittenObject, ...]:
    """Return objects like those of the first run under UIDs of their own; the report goes on in its series."""
    made = []
    for one in written_objects():
        dataset = Dataset()
        dataset.update(one.dataset)
        dataset.SOPInstanceUID = f"{one.dataset.SOPInstanceUID}.{place}"
        made.append(replace(one, dataset=dataset))
    return tuple(made)


FIRST = build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS)
AFTER_LATE_IMAGE = build_bundle(
    analysis(sources=(radiograph(), LATE_IMAGE), findings=FINDINGS[:1]), LATER, later_objects("2"), OPTIONS
)
SECOND_MODEL = build_bundle(
    replace(analysis(), model=replace(MODEL, name="another-model", device_uid="2.25.99")),
    OTHER_MODEL,
    later_objects("3"),
    OPTIONS,
)


def send(server: FhirServer, bundle: dict[str, object]) -> Delivered:
    with FhirClient(server.url) as client:
        return client.send(json.loads(to_json_bytes(bundle)))


@pytest.fixture(params=[True, False], ids=["transaction", "one by one"])
def server(request: pytest.FixtureRequest, fhir_server: FhirServer) -> FhirServer:
    """A server that knows the patient, with transactions and without."""
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    fhir_server.set(transactions=request.param)
    return fhir_server


def titles(study: dict[str, Any]) -> dict[str, str]:
    """Return the titles of all instances by their UID."""
    return {one["uid"]: one.get("title", "") for series in study["series"] for one in series.get("instance", ())}


# --- the ImagingStudy ---


def test_after_a_late_image_the_study_lists_everything_and_marks_what_is_replaced(server: FhirServer) -> None:
    send(server, FIRST)
    assert send(server, AFTER_LATE_IMAGE).remark == ""

    (study,) = server.all("ImagingStudy")
    assert titles(study) == {
        f"{STUDY_UID}.1.1": "",
        f"{STUDY_UID}.1.2": "",
        **{uid: f"Replaced by a later result: {told}" for uid, told in _told(written_objects()).items()},
        **_told(later_objects("2")),
    }
    assert len(study["series"]) == 3
    assert {one["value"] for one in study["identifier"]} > {CONTEXT.job_key, LATER.job_key}


def _told(written: tuple[WrittenObject, ...]) -> dict[str, str]:
    return {str(one.dataset.SOPInstanceUID): one.description for one in written}


def test_a_second_model_adds_its_objects_and_marks_none(server: FhirServer) -> None:
    send(server, FIRST)
    send(server, SECOND_MODEL)

    (study,) = server.all("ImagingStudy")
    assert titles(study) == {f"{STUDY_UID}.1.1": "", **_told(written_objects()), **_told(later_objects("3"))}


def test_a_report_sent_again_writes_the_study_no_second_time(server: FhirServer) -> None:
    send(server, FIRST)
    send(server, AFTER_LATE_IMAGE)
    before = server.all("ImagingStudy")
    send(server, AFTER_LATE_IMAGE)

    assert server.all("ImagingStudy") == before


def test_the_hospitals_own_study_is_referred_to_and_never_written(server: FhirServer) -> None:
    number = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}
    (patient,) = server.all("Patient")
    theirs = {"resourceType": "ImagingStudy", "identifier": [number], "status": "available",
              "subject": {"reference": f"Patient/{patient['id']}"}, "numberOfSeries": 12}  # fmt: skip
    server.add(theirs)
    before = server.all("ImagingStudy")
    for bundle in (FIRST, AFTER_LATE_IMAGE, SECOND_MODEL):
        send(server, bundle)

    assert server.all("ImagingStudy") == before
    for report in server.all("DiagnosticReport"):
        assert report["imagingStudy"][0]["reference"] == f"ImagingStudy/{before[0]['id']}"


def test_what_others_entered_into_the_nodes_study_stays(server: FhirServer) -> None:
    send(server, FIRST)
    (study,) = server.all("ImagingStudy")
    dose = {"uid": "1.2.3.4", "modality": study["modality"][0], "description": "Dose report"}
    study["series"][0]["instance"][0]["title"] = "PA, erect"
    server.replace({**study, "series": [*study["series"], dose], "numberOfSeries": 9, "note": [{"text": "Seen."}]})
    send(server, AFTER_LATE_IMAGE)

    (study,) = server.all("ImagingStudy")
    assert dose in study["series"]
    assert (study["numberOfSeries"], study["note"]) == (9, [{"text": "Seen."}])
    assert titles(study)[f"{STUDY_UID}.1.1"] == "PA, erect"
    assert f"{STUDY_UID}.1.2" in titles(study)


def test_a_study_that_the_node_may_not_update_does_not_cost_the_report(server: FhirServer) -> None:
    send(server, FIRST)
    server.set(refuse=[{"method": "PUT", "path": "^/ImagingStudy/", "status": 403}])
    delivered = send(server, AFTER_LATE_IMAGE)

    assert "does not let the node complete the list of objects" in delivered.remark
    (report,) = server.all("DiagnosticReport")
    assert LATER.job_key in {one["value"] for one in report["identifier"]}


# --- what was replaced ---


def test_the_provenance_names_the_version_of_the_report_that_was_replaced(server: FhirServer) -> None:
    send(server, FIRST)
    (former,) = server.all("DiagnosticReport")
    send(server, AFTER_LATE_IMAGE)

    (report,) = server.all("DiagnosticReport")
    by_activity = {one["activity"]["coding"][0]["code"]: one for one in server.all("Provenance")}
    assert sorted(by_activity) == ["CREATE", "UPDATE"]
    revised = [one["what"] for one in by_activity["UPDATE"]["entity"] if one["role"] == "revision"]
    (version,) = (one for one in revised if "reference" in one)
    assert version["reference"] == f"DiagnosticReport/{former['id']}/_history/{former['meta']['versionId']}"
    assert version["identifier"]["value"] == CONTEXT.job_key
    was = server.http.get(f"{server.url}/{version['reference']}").json()
    assert was["result"] == former["result"]
    assert by_activity["UPDATE"]["target"][0]["reference"] == f"DiagnosticReport/{report['id']}"
    assert by_activity["UPDATE"]["reason"][-1]["text"].startswith("A later analysis")
    named = {one["identifier"]["value"] for one in revised if "reference" not in one}
    assert named == {f"urn:oid:{uid}" for uid in EARLIER_OBJECTS}


def test_a_provenance_that_a_failure_held_back_names_the_former_version_when_it_follows(
    fhir_server: FhirServer,
) -> None:
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    fhir_server.set(transactions=False)
    send(fhir_server, FIRST)
    (former,) = fhir_server.all("DiagnosticReport")
    fhir_server.set(refuse=[{"method": "POST", "path": "^/Provenance$", "status": 403}])
    send(fhir_server, AFTER_LATE_IMAGE)
    fhir_server.set(refuse=[])
    send(fhir_server, AFTER_LATE_IMAGE)

    (revision,) = (one for one in fhir_server.all("Provenance") if one["activity"]["coding"][0]["code"] == "UPDATE")
    references = {one["what"].get("reference") for one in revision["entity"]}
    assert f"DiagnosticReport/{former['id']}/_history/{former['meta']['versionId']}" in references


def test_what_an_interrupted_attempt_left_standing_of_the_earlier_run_is_taken_back_by_the_next(
    fhir_server: FhirServer,
) -> None:
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    fhir_server.set(transactions=False)
    send(fhir_server, FIRST)
    fhir_server.set(refuse=[{"method": "PUT", "path": "^/Observation/", "status": 503}])
    with pytest.raises(DeliveryDeferred):
        send(fhir_server, AFTER_LATE_IMAGE)
    assert LATER.job_key in json.dumps(fhir_server.all("DiagnosticReport")), "the report went before"
    fhir_server.set(refuse=[])
    send(fhir_server, AFTER_LATE_IMAGE)

    (report,) = fhir_server.all("DiagnosticReport")
    current = {f"Observation/{one['id']}" for one in fhir_server.all("Observation") if one["status"] == "preliminary"}
    assert current == {one["reference"] for one in report["result"]}


def test_a_second_model_replaces_nothing(server: FhirServer) -> None:
    send(server, FIRST)
    send(server, SECOND_MODEL)

    assert {one["activity"]["coding"][0]["code"] for one in server.all("Provenance")} == {"CREATE"}


def test_a_late_image_at_a_node_is_told_to_the_ehr_as_a_replacement(fhir_server: FhirServer, tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    with site(tmp_path / "node", [EHR | {"url": fhir_server.url}]) as one:
        one.run(images[:-1])
        one.run(images[-1:])
        made: dict[str, set[str]] = {}
        for row in one.rows(artifacts):
            made.setdefault(row.job_key, set()).update([row.uid] if row.media_type == "application/dicom" else [])
        earlier, later = (made[row.job_key] for row in sorted(one.rows(results), key=lambda row: row.sequence))

    (study,) = fhir_server.all("ImagingStudy")
    replaced = {uid for uid, title in titles(study).items() if title.startswith("Replaced by a later result")}
    assert replaced == earlier
    assert later | {str(image.SOPInstanceUID) for image in images} == set(titles(study)) - earlier


# --- which report it is ---


def of_node(folder: Path, server: FhirServer, name: str = "") -> AbstractContextManager[Site]:
    """Return a node that reports to this EHR; `name` is that of its store."""
    return site(folder / (name or "node"), [EHR | {"url": server.url}])


def named(one: Site, name: str) -> Site:
    with one.database.write() as connection:
        claim_store_id(connection, name)
    return one


def current(server: FhirServer) -> list[dict[str, Any]]:
    return [one for one in server.all("DiagnosticReport") if one["status"] != "entered-in-error"]


def test_two_nodes_with_one_ae_title_route_and_model_have_a_report_each(
    fhir_server: FhirServer, tmp_path: Path
) -> None:
    images = small_chest_ct()[0]
    with of_node(tmp_path, fhir_server, "a") as a, of_node(tmp_path, fhir_server, "b") as b:
        for one in (named(a, "a"), named(b, "b")):
            one.run(images[:-1])
        for one in (a, b):
            one.run(images[-1:])
        first, second = current(fhir_server)
        assert not {one["reference"] for one in first["result"]} & {one["reference"] for one in second["result"]}
        (study,) = fhir_server.all("ImagingStudy")
        assert sum(not title.startswith("Replaced") for title in titles(study).values()) > len(images) + 2

        with a.database.write() as connection:
            actions.withdraw_study(connection, str(images[0].StudyInstanceUID), ("Wrong.", None), SOMEBODY, NOW)
        a.deliver()

    (left,) = current(fhir_server)
    assert {one["status"] for one in _referred(fhir_server, left)} == {"preliminary"}
    assert [one["status"] for one in fhir_server.all("ImagingStudy")] == ["available"]


def _referred(server: FhirServer, report: dict[str, Any]) -> list[dict[str, Any]]:
    places = {one["reference"] for one in report["result"]}
    return [one for one in server.all("Observation") if f"Observation/{one['id']}" in places]


def test_a_renamed_route_goes_on_in_the_report_it_has(fhir_server: FhirServer, tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    with of_node(tmp_path, fhir_server) as one:
        one.run(images[:-2])
        one.configure([EHR | {"url": fhir_server.url}], route_name="thorax")
        one.run(images[-2:-1])
        one.configure([EHR | {"url": fhir_server.url}], route_name="thorax-ct")
        one.run(images[-1:])
        assert [row.standing for row in _in_order(one)] == ["SUPERSEDED", "SUPERSEDED", "CURRENT"]
        assert [row.sequence for row in _in_order(one)] == [1, 2, 3]

        (report,) = fhir_server.all("DiagnosticReport")
        assert _in_order(one)[-1].job_key in {number["value"] for number in report["identifier"]}
        with one.database.write() as connection:
            actions.withdraw_study(connection, _study(images), ("Wrong.", "thorax-ct"), SOMEBODY, NOW)
        one.deliver()
        assert {row.standing for row in _in_order(one)} == {"WITHDRAWN"}

    assert current(fhir_server) == []
    assert {one["status"] for one in fhir_server.all("ImagingStudy")} == {"entered-in-error"}


def _study(images: list[Dataset]) -> str:
    return str(images[0].StudyInstanceUID)


def _in_order(one: Site) -> list[Any]:
    return sorted(one.rows(results), key=lambda row: row.created_at)


@pytest.mark.parametrize("is_of_another_node", [False, True])
def test_the_report_of_a_former_version_is_updated_by_the_node_that_made_it(
    fhir_server: FhirServer, tmp_path: Path, *, is_of_another_node: bool
) -> None:
    images = small_chest_ct()[0]
    with of_node(tmp_path, fhir_server) as one:
        one.run(images[:-1])
        (report,) = fhir_server.all("DiagnosticReport")
        as_made_by_0_2_0(one, fhir_server, report, _study(images))
        if is_of_another_node:
            (report,) = fhir_server.all("DiagnosticReport")
            numbers = [*report["identifier"][:-1], {**report["identifier"][-1], "value": "f" * 64}]
            fhir_server.replace({**report, "identifier": numbers})
        one.run(images[-1:])
        newest = _in_order(one)[-1].job_key

    reports = {one["identifier"][-1]["value"] if is_of_another_node else "": one for one in current(fhir_server)}
    if is_of_another_node:
        assert set(reports) == {"f" * 64, newest}
        return
    (updated,) = reports.values()
    assert updated["id"] == report["id"]
    assert [number.get("use") for number in updated["identifier"]].count("old") == 1
    assert newest in {number["value"] for number in updated["identifier"]}


def as_made_by_0_2_0(one: Site, server: FhirServer, report: dict[str, Any], study: str) -> None:
    """Give the report the identifier of former versions, which knew no lines."""
    (row,) = one.rows(results)
    number = former_identifier(study, ReportLine(model=row.model, route=row.route))
    server.replace({**report, "identifier": [{"use": "official", **number}, *report["identifier"][1:]]})
    with one.database.write() as connection:
        kept = {key: value for key, value in row.summary.items() if key != LINE}
        connection.execute(update(results).values(summary=kept))


# --- what is withdrawn ---


def retraction(bundle: dict[str, object], job_key: str) -> dict[str, object]:
    told = Retraction(
        study_instance_uid=STUDY_UID, node=CONTEXT.node_uid, job_keys=[job_key],
        line=ReportLine(model=MODEL.name, route=CONTEXT.route_name),
        bundles=[json.loads(to_json_bytes(bundle))], reason="Wrong protocol.", at=datetime(2026, 11, 21, tzinfo=UTC),
    )  # fmt: skip
    return retraction_bundle(told)


def test_a_study_stays_in_use_until_the_last_result_in_it_is_withdrawn(server: FhirServer) -> None:
    send(server, FIRST)
    send(server, SECOND_MODEL)

    send(server, with_studies_standing(retraction(FIRST, CONTEXT.job_key)))
    (study,) = server.all("ImagingStudy")
    assert study["status"] == "available"
    assert titles(study) == {
        f"{STUDY_UID}.1.1": "",
        **{uid: f"Withdrawn: {told}" for uid, told in _told(written_objects()).items()},
        **_told(later_objects("3")),
    }

    send(server, retraction(SECOND_MODEL, OTHER_MODEL.job_key))
    (study,) = server.all("ImagingStudy")
    assert study["status"] == "entered-in-error"


def test_a_withdrawal_of_everything_ends_the_study_whichever_comes_first(server: FhirServer) -> None:
    send(server, FIRST)
    send(server, SECOND_MODEL)

    send(server, retraction(SECOND_MODEL, OTHER_MODEL.job_key))
    assert server.all("ImagingStudy")[0]["status"] == "available", "the first model's result stands: another node's?"
    send(server, retraction(FIRST, CONTEXT.job_key))
    assert server.all("ImagingStudy")[0]["status"] == "entered-in-error"
