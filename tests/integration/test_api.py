"""What the admin API answers, called in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.api.parts import ApiParts
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.outputs.artifact_kinds import KEY_OBJECTS, REPORTS, SECONDARY_CAPTURE
from dicom_node.deliver.connections.signing_keys import write_new_key
from dicom_node.index.damage import DamagedKind, DamagedObject, note_damaged
from dicom_node.index.database import Database
from dicom_node.index.outbox.destinations import note_query_refusal, note_refusal, remember, suspend
from dicom_node.index.views import study as study_views
from dicom_node.roles.settings import SiteSettings
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.rows import NOW, key_of
from tests.support.results.seeded import ANALYSING, CHEST_CT, CHEST_XR, HOSTILE, RECEIVING, SCRIPT


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def parts(tmp_path: Path, woken: list[str]) -> Iterator[ApiParts]:
    database = seeded_database(tmp_path)
    yield parts_over(database, tmp_path, wake=lambda: woken.append("woken"))
    database.close()


@pytest.fixture
def client(parts: ApiParts) -> Client:
    return client_of(parts)


def assert_problem(response, status: int, *words: str) -> None:  # type: ignore[no-untyped-def]
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["instance"] == f"urn:uuid:{response.headers['x-request-id']}"
    for word in words:
        assert word in body["detail"]


def test_the_list_pages_by_cursor(client: Client) -> None:
    first = client.get("/api/studies", params={"limit": 4}).json()
    second = client.get("/api/studies", params={"limit": 4, "before": first["older"]}).json()
    assert first["studies"][0]["study_instance_uid"] == RECEIVING
    assert second["studies"][-1]["study_instance_uid"] == HOSTILE
    assert second["older"] is None
    again = client.get("/api/studies", params={"limit": 4, "after": second["newer"]}).json()
    assert again["studies"] == first["studies"]


def test_times_are_told_with_their_zone(client: Client) -> None:
    [line] = client.get("/api/studies", params={"query": RECEIVING}).json()["studies"]
    assert line["first_received_at"] == "2026-03-14T09:29:35Z"


def test_one_study_tells_why_this_series(client: Client) -> None:
    study = client.get(f"/api/studies/{CHEST_CT}").json()
    assert study["jobs"][0]["decision"]["chosen"] == f"{CHEST_CT}.1"
    assert study["study"]["deliveries"] == {"pending": 0, "sent": 0, "committed": 3, "parked": 1, "discarded": 0}


def test_the_timeline_begins_with_the_association(client: Client) -> None:
    entries = client.get(f"/api/studies/{CHEST_CT}/timeline").json()
    assert entries[0]["kind"] == "association"


def test_images_in_more_than_one_version_are_listed_with_their_senders(client: Client) -> None:
    page = client.get(f"/api/studies/{CHEST_CT}/versions").json()
    assert page["total"] == 1
    [image] = page["instances"]
    assert sorted(one["in_use"] for one in image["versions"]) == [False, True]
    assert {(one["calling_ae_title"], one["source_host"]) for one in image["versions"]} == {("CT1", "10.1.2.20")}
    rest = client.get(f"/api/studies/{CHEST_CT}/versions", params={"after": image["sop_instance_uid"]}).json()
    assert rest == {"total": 1, "instances": []}
    assert client.get(f"/api/studies/{CHEST_CT}/versions", params={"after": "no uid"}).status_code == 422


def test_results_carry_findings_with_units(client: Client) -> None:
    [listed] = client.get(f"/api/studies/{CHEST_CT}/results").json()
    alone = client.get(f"/api/results/{key_of('chest-ct')}").json()
    assert alone == listed
    volume = alone["summary"]["findings"][0]["measurements"][0]
    assert (volume["value"], volume["unit"]["value"]) == (2412.0, "ml")


def test_dicom_and_fhir_objects_are_downloaded_as_they_are_sent(client: Client) -> None:
    dicom = client.get("/api/artifacts/2.25.103")
    fhir = client.get("/api/artifacts/2.25.104")
    assert dicom.headers["content-type"] == "application/dicom"
    assert dicom.headers["content-disposition"] == 'attachment; filename="2.25.103.dcm"'
    assert dicom.content.endswith(b"DICM")
    assert fhir.headers["content-type"] == "application/fhir+json"
    assert fhir.json()["resourceType"] == "Bundle"


def test_a_damaged_object_is_not_handed_out(client: Client, parts: ApiParts) -> None:
    path = parts.open_object("2.25.103")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert_problem(client.get("/api/artifacts/2.25.103"), 404, "damaged")
    assert client.get("/api/artifacts/2.25.104").status_code == 200


def test_a_damaged_picture_is_not_handed_out(client: Client, parts: ApiParts) -> None:
    with parts.database.read() as connection:
        path = parts.open_object(study_views.artifact(connection, "2.25.201").preview_key)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert_problem(client.get("/api/artifacts/2.25.201/preview.png"), 404, "damaged")


@pytest.mark.parametrize("what", ["retry", "discard"])
def test_a_number_that_no_database_has_is_refused_and_breaks_nothing(client: Client, what: str) -> None:
    answer = client.post(f"/api/v1/deliveries/{10**23}/{what}", json={"reason": "x"})
    assert_problem(answer, 422, "less than or equal")


@pytest.mark.parametrize("reason", ["a\x00b", "\x7f", "", "x" * 501])
def test_a_reason_that_nobody_can_read_is_refused_as_such(client: Client, reason: str) -> None:
    assert client.post(f"/api/studies/{CHEST_CT}/withdraw", json={"reason": reason}).status_code == 422


@pytest.mark.parametrize("blank", [" ", "\t", "\r\n", "\u00a0", "\u0085", "\u2003"])
def test_a_reason_of_white_space_is_none_and_the_description_says_so(client: Client, blank: str) -> None:
    schemas = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    pattern = re.compile(schemas["StatedReason"]["properties"]["reason"]["pattern"])
    path = f"/api/v1/studies/{CHEST_CT}/withdraw"
    assert (client.post(path, json={"reason": blank}).status_code, pattern.search(blank)) == (422, None)
    said = f"{blank}of another\tpatient{blank}"
    assert client.post(path, json={"reason": said}).status_code == 200
    assert pattern.search(said)
    timeline = client.get(f"/api/v1/studies/{CHEST_CT}/timeline").json()
    assert [one["text"] for one in timeline if one["text"].startswith("The result was withdrawn")][-1:] == [
        "The result was withdrawn: of another\tpatient"
    ]


@pytest.mark.parametrize("around", ["\n", " " * 500])
def test_what_the_description_forbids_is_refused_also_at_the_ends_of_a_text(client: Client, around: str) -> None:
    """White space at the ends is cut off, and counts before it is."""
    study = f"/api/v1/studies/{CHEST_CT}"
    assert client.post(f"{study}/rerun", json={"indication": f"Cough{around}"}).status_code == 422
    assert client.post(f"{study}/rerun", json={"indication": " Cough "}).status_code == 200
    assert client.get("/api/v1/worklist", params={"station": f"{around}CT1"}).status_code == 422
    assert client.get("/api/v1/worklist", params={"patient_id": f"{around}P"}).status_code == 422


@pytest.mark.parametrize("until", ["0.5", "1773480000", "-1"])
def test_a_number_is_no_time(client: Client, until: str) -> None:
    assert_problem(client.get("/api/v1/audit", params={"until": until}), 422, "RFC 3339")


def test_a_cursor_of_the_form_that_is_described_is_taken_whatever_it_points_at(client: Client) -> None:
    assert client.get("/api/v1/studies", params={"after": f"0_{'0' * 80}"}).status_code == 200
    assert_problem(client.get("/api/v1/studies", params={"after": "0_1..2"}), 422, "not a cursor")
    assert client.get("/api/v1/worklist", params={"cursor": f"0_0_{'0' * 80}"}).status_code == 200
    assert_problem(client.get("/api/v1/worklist", params={"cursor": "0_0_1..2"}), 422, "not a cursor")


@pytest.mark.parametrize(
    ("change", "why"), [({"disabled": 0}, "valid boolean"), ({"roles": ["admin", "admin"]}, "named twice")]
)
def test_a_change_of_somebody_is_what_the_description_says(client: Client, change: dict[str, object], why: str) -> None:
    assert_problem(client.request("PATCH", "/api/v1/users/nobody", json=change), 422, why)


def test_damage_is_counted_in_the_status_and_does_not_take_the_node_out_of_service(
    client: Client, parts: ApiParts
) -> None:
    found = [DamagedObject(object_key=kind, kind=kind) for kind in (DamagedKind.IMAGE, DamagedKind.RECORD)]
    with parts.database.write() as connection:
        note_damaged(connection, found, datetime.now(UTC))
    assert client.get("/api/status").json()["damaged"] == {"images": 1, "results": 0, "records": 1}
    assert client.stranger().get("/readyz").json() == {"status": "ready", "damaged_objects": 2, "clock_fault": ""}


def test_only_pictures_have_a_preview(client: Client) -> None:
    picture = client.get("/api/artifacts/2.25.201/preview.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert_problem(client.get("/api/artifacts/2.25.202/preview.png"), 404, "not a picture")


def test_an_object_whose_file_is_gone_is_a_problem_that_says_so(client: Client, tmp_path: Path) -> None:
    (tmp_path / "2.25.103").unlink()
    assert_problem(client.get("/api/artifacts/2.25.103"), 404, "file is gone")


def test_status_models_and_routes_describe_the_node(client: Client) -> None:
    status = client.get("/api/status").json()
    assert status["damaged"] == {"images": 0, "results": 0, "records": 0}
    assert status["counts"]["studies"]["REPORTED"] == 2
    assert status["oldest_pending_s"] > 0
    models = client.get("/api/models").json()
    assert models["cxr-pneumonia"]["version"] == "1.2.0"
    assert models["ct-lung-density"]["standing"] == "LIVE"
    assert (models["cxr-pneumonia"]["standing"], models["cxr-pneumonia"]["why"]) == (
        "MODEL_NOT_ACCEPTED", "nobody has accepted it.")  # fmt: skip
    assert [route["name"] for route in client.get("/api/routes").json()] == ["chest-ct", "chest-radiograph"]


def test_destinations_tell_what_they_get_and_take(tmp_path: Path) -> None:
    database = seeded_database(tmp_path)
    sections = [
        {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "pacs.local", "preset": "weasis"},
        {"name": "ehr", "kind": "fhir", "url": "https://ehr.local/fhir"},
    ]
    parts = parts_over(database, tmp_path)
    parts = replace(parts, settings=SiteSettings.model_validate({"node": parts.settings.node, "destination": sections}))
    peer, server = ("pacs", "PACS@pacs.local:104"), ("ehr", "https://ehr.local/fhir")
    accepted = {SECONDARY_CAPTURE: ["1.2.840.10008.1.2"], REPORTS["comprehensive"]: ["1.2.840.10008.1.2"]}
    try:
        unheard, ehr = client_of(parts).get("/api/destinations").json()
        with database.write() as connection:
            remember(connection, peer, "OLDPACS_1", accepted, NOW)
            note_refusal(connection, peer, KEY_OBJECTS, datetime.now(UTC))
            note_query_refusal(connection, peer, NOW)
            remember(connection, server, "", {"server": [], "DiagnosticReport": ["create"]}, datetime.now(UTC))
            note_refusal(connection, server, "POST _search", datetime.now(UTC))
            suspend(connection, "pacs", "It answered HTTP 401.", NOW)
        heard, learned = client_of(parts).get("/api/destinations").json()
        status = client_of(parts).get("/api/status").json()
    finally:
        database.close()
    assert {name: one["reason"] for name, one in status["suspended"].items()} == {"pacs": "It answered HTTP 401."}
    assert unheard["takes"] is None
    assert (unheard["is_asked"], ehr["is_asked"]) == (True, False)
    assert unheard["gets"] == ["SC", "SEG binary", "GSPS", "KOS", "PDF", "SR comprehensive3d"]
    assert (ehr["gets"], ehr["preset"]) == (["FHIR"], "")
    assert (ehr["learned"], learned["learned"][0]) == ([], "reports go one by one")
    assert learned["learned"][-1] == "found not to do: POST _search"
    assert (learned["gets"], learned["left_out"], learned["problem"]) == (["FHIR"], [], "")
    assert heard["gets"] == ["SC", "SR comprehensive"]
    assert (heard["takes"], heard["refused"]) == (["SC", "SR comprehensive"], ["KOS"])
    assert "takes no GSPS" in heard["left_out"]
    assert (unheard["query_refused_at"], bool(heard["query_refused_at"])) == (None, True)
    assert heard["implementation"] == "OLDPACS_1"
    assert [unheard[key] for key in ("state", "reason", "since")] == ["ACTIVE", "", None]
    assert (heard["state"], heard["reason"], bool(heard["since"])) == ("SUSPENDED", "It answered HTTP 401.", True)


def test_everything_for_a_destination_is_sent_again_and_its_suspension_ends(tmp_path: Path) -> None:
    database = seeded_database(tmp_path)
    section = {"name": "pacs", "kind": "folder", "path": "out"}
    parts = parts_over(database, tmp_path)
    parts = replace(
        parts, settings=SiteSettings.model_validate({"node": parts.settings.node, "destination": [section]})
    )
    try:
        client = client_of(parts)
        with database.write() as connection:
            suspend(connection, "pacs", "It answered HTTP 401.", NOW)
        waiting = [
            one["id"]
            for state in ("PARKED", "PENDING")
            for one in client.get("/api/deliveries", params={"state": state}).json()
            if one["destination"] == "pacs"
        ]
        assert waiting
        assert sorted(client.post("/api/destinations/pacs/retry").json()["ids"]) == sorted(waiting)
        assert client.post("/api/destinations/nobody/retry").status_code == 404
        (pacs,) = client.get("/api/destinations").json()
    finally:
        database.close()
    assert pacs["state"] == "ACTIVE"


def test_a_parked_delivery_is_retried_and_the_node_woken(client: Client, woken: list[str]) -> None:
    [parked] = client.get("/api/deliveries", params={"state": "PARKED"}).json()
    answer = client.post(f"/api/deliveries/{parked['id']}/retry")
    assert answer.json() == {"ids": [parked["id"]]}
    assert client.get("/api/deliveries", params={"state": "PARKED"}).json() == []
    assert woken == ["woken"]
    told = client.get(f"/api/studies/{parked['study_instance_uid']}/timeline").json()[-1]
    assert (told["kind"], told["actor"]) == ("operator", "api-token")


def test_a_committed_delivery_is_a_conflict(client: Client, woken: list[str]) -> None:
    committed = client.get("/api/deliveries", params={"state": "COMMITTED"}).json()[0]
    assert_problem(client.post(f"/api/deliveries/{committed['id']}/retry"), 409, "COMMITTED")
    assert woken == []


def test_a_study_is_retried_and_run_again(client: Client) -> None:
    assert len(client.post(f"/api/studies/{CHEST_XR}/retry").json()["ids"]) == 1
    assert len(client.post(f"/api/studies/{CHEST_XR}/rerun").json()["ids"]) == 1
    assert client.get(f"/api/studies/{CHEST_XR}").json()["study"]["state"] == "ANALYSING"
    assert_problem(client.post(f"/api/studies/{ANALYSING}/rerun"), 409, "not finished")
    assert_problem(client.post(f"/api/studies/{CHEST_XR}/rerun", params={"route": "brain"}), 404, "brain")


@pytest.mark.parametrize(
    "path",
    [
        "/api/studies/..%2f..%2fetc",
        "/api/studies/1.2..3",
        "/api/artifacts/1." + "2" * 64,
        "/api/results/XYZ",
        "/api/studies?before=1",
        "/api/studies?limit=0",
        "/api/studies?colour=red",
        "/api/deliveries?state=LOST",
    ],
)
def test_what_makes_no_sense_is_a_problem(client: Client, path: str) -> None:
    response = client.get(path)
    assert_problem(response, 404 if "%2f" in path else 422)


@pytest.mark.parametrize(
    "path",
    [
        "/api/studies/1.2.3",
        "/api/studies/1.2.3/versions",
        "/api/studies/1.2.3/timeline",
        "/api/artifacts/1.2.3",
        "/nix",
    ],
)
def test_what_does_not_exist_is_a_problem(client: Client, path: str) -> None:
    assert_problem(client.get(path), 404)


def test_a_wrong_method_is_a_problem(client: Client) -> None:
    assert_problem(client.request("DELETE", "/api/studies"), 405)


def test_an_error_of_our_own_is_logged_once_and_shows_nothing(
    parts: ApiParts, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("secret detail")

    client = client_of(replace(parts, models=broken))  # type: ignore[arg-type]
    response = client.get("/api/models")
    assert_problem(response, 500, "log has the details")
    assert "secret" not in response.text
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.__dict__["request_id"] == response.headers["x-request-id"]
    assert record.__dict__["route"] == "/api/v1/models"


def test_a_database_that_does_not_answer_is_503(parts: ApiParts, tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path / 'missing' / 'node.sqlite'}")
    client = client_of(replace(parts, database=nowhere))
    assert_problem(client.get("/api/studies"), 503, "database")
    assert_problem(client.stranger().get("/readyz"), 503, "database")
    assert client.stranger().get("/healthz").status_code == 200


def test_readiness_needs_receiver_and_disk(parts: ApiParts, tmp_path: Path) -> None:
    well = {"status": "ready", "damaged_objects": 0, "clock_fault": ""}
    assert client_of(parts).stranger().get("/readyz").json() == well
    deaf = client_of(replace(parts, receiver_ready=lambda: False))
    assert_problem(deaf.stranger().get("/readyz"), 503, "receiver")
    full = Settings(node=NodeSettings(data_dir=tmp_path, min_free_mb=10**9))
    assert_problem(client_of(replace(parts, settings=full)).stranger().get("/readyz"), 503, "min_free_mb")


def test_the_status_says_what_keeps_the_node_from_taking_studies(parts: ApiParts, tmp_path: Path) -> None:
    assert client_of(parts).get("/api/status").json()["not_ready"] == []
    full = Settings(node=NodeSettings(data_dir=tmp_path, min_free_mb=10**9))
    (reason,) = client_of(replace(parts, settings=full)).get("/api/status").json()["not_ready"]
    assert "images are refused" in reason


def test_what_peers_cannot_send_here_is_told(client: Client) -> None:
    (told,) = client.get("/api/status").json()["refused_contexts"]
    assert (told["calling_ae_title"], told["sop_class_uid"], told["count"]) == ("SPECT1", "1.3.12.2.1107.5.9.1", 3)


def test_the_public_keys_of_destinations_are_shown_to_anybody_and_follow_their_files(
    parts: ApiParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert client_of(parts).stranger().get("/.well-known/jwks.json").json() == {"keys": []}
    first, second = (write_new_key(tmp_path / name, "ec") for name in ("a.key", "b.key"))
    ehr = {"name": "ehr", "kind": "fhir", "url": "https://ehr.local", "client_id": "ainode",
           "private_key": tmp_path / "a.key", "next_private_key": tmp_path / "b.key"}  # fmt: skip
    stranger = client_of(replace(parts, settings=SiteSettings.model_validate({"destination": [ehr]}))).stranger()

    answer = stranger.get("/.well-known/jwks.json")
    assert answer.json()["keys"] == [first.public_jwk(), second.public_jwk()]
    assert not {"d", "p", "q", "k"} & {member for key in answer.json()["keys"] for member in key}
    assert answer.headers["cache-control"] == "public, max-age=600"

    (tmp_path / "b.key").chmod(0o644)
    for _ in range(3):
        assert stranger.get("/.well-known/jwks.json").json()["keys"] == [first.public_jwk()]
    assert [one.message for one in caplog.records].count("signing key not shown") == 1


def test_texts_of_peers_stay_json(client: Client) -> None:
    response = client.get(f"/api/studies/{HOSTILE}")
    assert response.json()["study"]["description"] == SCRIPT
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_every_answer_forbids_framing_sniffing_and_foreign_scripts(client: Client) -> None:
    for path in ("/", "/page/app.js", "/api/status", "/nix"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
    assert client.get("/api/status").headers["cache-control"] == "no-store"


def test_the_openapi_document_describes_every_address(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    operations = [(path, verb, told) for path, verbs in document["paths"].items() for verb, told in verbs.items()]
    assert len(operations) >= 18
    for path, verb, told in operations:
        assert told["tags"], (path, verb)
        assert told["summary"], (path, verb)
        assert told["description"], (path, verb)
        guarded = path.startswith(("/api", "/dicom-web", "/metrics")) and not path.startswith("/api/v1/problems/")
        assert bool(told.get("security")) is guarded, (path, verb)
        assert ("401" in told["responses"]) is (guarded or path == "/login"), (path, verb)
    timeline = document["paths"]["/api/v1/studies/{uid}/timeline"]["get"]["responses"]["200"]["content"]
    assert timeline["application/json"]["schema"]["items"]["$ref"].endswith("/TimelineEntry")


def test_the_type_of_a_problem_leads_to_what_it_means(client: Client) -> None:
    refused = client.stranger().get("/api/v1/studies").json()
    assert refused["type"] == "/api/v1/problems/not-signed-in"
    told = client.stranger().get(refused["type"]).json()
    assert (told["title"], told["status"]) == (refused["title"], 401)
    assert told["remedy"]
    assert client.get("/api/v1/studies/1.2.3").json()["type"] == "about:blank"
    assert client.get("/api/v1/studies", params={"limit": 0}).json()["type"] == "/api/v1/problems/invalid-request"
    assert_problem(client.get("/api/v1/problems/none-such"), 404)


def test_every_address_of_the_api_is_under_its_version_and_answers_without_it_too(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    ours = [path for path in document["paths"] if path.startswith("/api")]
    assert ours
    assert [path for path in ours if not path.startswith("/api/v1/")] == []
    assert client.get("/api/openapi.json").json() == document
    assert client.get("/api/v1/studies").json() == client.get("/api/studies").json()
    assert_problem(client.get("/api"), 404)
    assert_problem(client.get("/api/v2/studies"), 404)


@pytest.mark.parametrize("path", ["/api/v1/studies", "/api/studies"])
def test_a_method_that_an_address_lacks_is_a_problem_that_names_those_it_has(client: Client, path: str) -> None:
    for method in ("OPTIONS", "PUT"):
        answer = client.request(method, path)
        assert_problem(answer, 405, "does not take that method")
        assert answer.headers["allow"] == "GET, HEAD, POST"
    assert client.request("HEAD", path.replace("studies", "login")).status_code == 404
    assert client.request("HEAD", "/login").status_code == 405
