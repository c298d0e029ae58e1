"""Retrieval over the admin API and on the command line, against a real PACS."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.doctor.configured import check_sources
from dicom_node.retrieve.retrieval import FINISHED
from dicom_node.retrieve.retrievals import RetrievalMemory, Retrievals, open_retrievals
from dicom_node.roles.node import Node
from dicom_node.roles.settings import SiteSettings
from tests.peers.node import to_toml
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.process import free_port, wait_until
from tests.support.api_client import Client, client_of, parts_over
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

STUDY = str(small_chest_ct()[0][0].StudyInstanceUID)
SERIES = str(small_chest_ct()[0][0].SeriesInstanceUID)
IMAGES = 6


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("pacs")) as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for image in small_chest_ct()[0][:IMAGES]:
            orthanc.upload_dataset(image)
        yield orthanc


def configuration(folder: Path, pacs: Orthanc) -> dict[str, Any]:
    return {
        "node": {"data_dir": str(folder / "data"), "min_free_mb": 0},
        "source": [
            {"name": "pacs", "kind": "dimse", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port},
            {"name": "web", "kind": "dicomweb", "url": pacs.dicomweb_url},
            {"name": "away", "kind": "dimse", "ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()},
        ],
    }


def lasting_retrievals(node: Node) -> Retrievals:
    memory = RetrievalMemory(node.database, "test:retrieve")
    return open_retrievals(node.settings, node.sink_parts("test:retrieve"), memory)


@pytest.fixture
def retrievals(tmp_path: Path, pacs: Orthanc) -> Iterator[Retrievals]:
    node = Node(SiteSettings.model_validate(configuration(tmp_path, pacs)))
    opened = open_retrievals(
        node.settings, node.sink_parts("test:retrieve"), RetrievalMemory(node.database, "test:retrieve")
    )
    yield opened
    opened.stop()
    wait_until(lambda: all(one.state in FINISHED for one in opened.all()), 60, "the retrievals to end")
    node.database.close()


@pytest.fixture
def api(tmp_path: Path, pacs: Orthanc, retrievals: Retrievals) -> Client:
    node = Node(SiteSettings.model_validate(configuration(tmp_path, pacs)))
    parts = parts_over(node.database, tmp_path)
    return client_of(dataclasses.replace(parts, settings=node.settings, retrievals=retrievals))


def finished(api: Client, location: str) -> dict[str, Any]:
    """Follow a retrieval to its end."""

    def done() -> bool:
        return str(api.get(location).json()["state"]) in FINISHED

    wait_until(done, 60, "the retrieval to finish")
    return dict(api.get(location).json())


# --- over HTTP ---


@pytest.mark.parametrize("source", ["pacs", "web"])
def test_a_study_is_asked_for_and_followed_to_its_end(api: Client, source: str) -> None:
    asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": source})

    assert asked.status_code == 202
    assert asked.json()["state"] in {"QUEUED", "RUNNING"}
    done = finished(api, asked.headers["Location"])
    assert (done["state"], done["expected"], done["received"], done["failed"]) == ("DONE", IMAGES, IMAGES, 0)
    assert done["finished_at"] > done["asked_at"]
    assert [one["id"] for one in api.get("/api/retrievals").json()] == [done["id"]]
    assert api.get(f"/api/studies/{STUDY}").json()["study"]["instances"] == IMAGES


def test_a_series_is_asked_for_alone(api: Client) -> None:
    asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": "pacs", "series": [SERIES]})

    done = finished(api, asked.headers["Location"])

    assert (done["state"], done["received"], done["series_instance_uids"]) == ("DONE", IMAGES, [SERIES])


def test_a_study_the_pacs_does_not_have_ends_as_not_found(api: Client) -> None:
    asked = api.post("/api/studies/1.2.3.4/retrieve", json={"source": "pacs"})

    done = finished(api, asked.headers["Location"])

    assert (done["state"], done["received"]) == ("NOT_FOUND", 0)


def test_a_pacs_that_is_away_ends_the_retrieval_with_that_reason(api: Client) -> None:
    asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": "away"})

    done = finished(api, asked.headers["Location"])

    assert done["state"] == "FAILED"
    assert "cannot be reached" in done["reason"]


def test_asking_twice_while_it_waits_is_asking_once(retrievals: Retrievals, api: Client) -> None:
    answers = [api.post(f"/api/studies/1.2.{number}/retrieve", json={"source": "away"}) for number in range(8)]
    again = [api.post(f"/api/studies/1.2.{number}/retrieve", json={"source": "away"}) for number in range(8)]

    for first, second in zip(answers, again, strict=True):
        one = finished(api, first.headers["Location"])
        other = finished(api, second.headers["Location"])
        assert one["id"] == other["id"] or one["finished_at"] <= other["asked_at"]
    assert all(one.state == "FAILED" for one in retrievals.all())


def test_the_source_is_named_when_there_are_several(api: Client) -> None:
    unnamed = api.post(f"/api/studies/{STUDY}/retrieve")
    unknown = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": "nobody"})

    assert (unnamed.status_code, unknown.status_code) == (404, 404)
    assert "pacs, web, away" in unnamed.json()["detail"]
    assert [one["name"] for one in api.get("/api/sources").json()] == ["pacs", "web", "away"]


@pytest.mark.parametrize("body", [{"sauce": "pacs"}, {"source": 5}, {"series": ["../x"]}, {"series": ["1"] * 201}, []])
def test_a_request_that_makes_no_sense_is_refused(api: Client, body: object) -> None:
    assert api.post(f"/api/studies/{STUDY}/retrieve", json=body).status_code == 422


def test_only_a_uid_is_asked_for(api: Client) -> None:
    assert api.post("/api/studies/..%2Fx/retrieve").status_code in {404, 422}
    assert api.post("/api/studies/1.2.*/retrieve").status_code == 422


def test_a_retrieval_nobody_knows_says_that_they_are_forgotten_at_a_restart(api: Client) -> None:
    answer = api.get("/api/retrievals/00000000-0000-0000-0000-000000000000")

    assert answer.status_code == 404
    assert "until the node restarts" in answer.json()["detail"]


@pytest.mark.parametrize("source", ["pacs", "web"])
def test_a_search_finds_the_study_without_the_patient(api: Client, source: str) -> None:
    patient = str(small_chest_ct()[0][0].PatientID)

    answer = api.get(f"/api/sources/{source}/studies", params={"patient_id": patient})

    assert answer.status_code == 200
    (found,) = answer.json()
    assert (found["study_instance_uid"], found["instances"]) == (STUDY, IMAGES)
    assert patient not in answer.text


@pytest.mark.parametrize(
    "params",
    [{}, {"patient_id": "A*"}, {"patient_id": "A\\B"}, {"accession_number": "?"}, {"date": "2026-01-01"},
     {"date": "20260101-x"}, {"patient_id": "1", "limit": 101}, {"patient_id": "1\n2"}, {"name": "Doe"}],
)  # fmt: skip
def test_a_search_for_everything_or_for_many_patients_is_refused(api: Client, params: dict[str, Any]) -> None:
    assert api.get("/api/sources/pacs/studies", params=params).status_code == 422


def test_a_search_where_nobody_answers_says_who_is_away(api: Client) -> None:
    answer = api.get("/api/sources/away/studies", params={"patient_id": "SECRET-1"})

    assert answer.status_code == 502
    assert "AWAY@127.0.0.1" in answer.json()["detail"]
    assert "SECRET-1" not in answer.text


def test_a_stranger_may_neither_search_nor_fetch(api: Client) -> None:
    stranger = api.stranger()

    assert stranger.post(f"/api/studies/{STUDY}/retrieve", json={"source": "pacs"}).status_code == 401
    assert stranger.get("/api/retrievals").status_code == 401
    assert stranger.get("/api/sources").status_code == 401
    assert stranger.get("/api/sources/pacs/studies", params={"patient_id": "1"}).status_code == 401


def test_a_search_at_an_address_that_is_no_dicomweb_is_told_so(tmp_path: Path, pacs: Orthanc) -> None:
    wrong = {"name": "wrong", "kind": "dicomweb", "url": f"{pacs.http_url}/nowhere"}
    settings = SiteSettings.model_validate({**configuration(tmp_path, pacs), "source": [wrong]})
    node = Node(settings)
    parts = dataclasses.replace(
        parts_over(node.database, tmp_path),
        settings=settings,
        retrievals=open_retrievals(
            node.settings, node.sink_parts("test:retrieve"), RetrievalMemory(node.database, "test:retrieve")
        ),
    )

    answer = client_of(parts).get("/api/sources/wrong/studies", params={"patient_id": "1"})

    node.database.close()
    assert answer.status_code == 502
    assert "check url of this source" in answer.json()["detail"]


def test_the_doctor_tries_every_source(tmp_path: Path, pacs: Orthanc) -> None:
    checks = check_sources(SiteSettings.model_validate(configuration(tmp_path, pacs)))

    assert [(check.name, check.ok) for check in checks] == [
        ("source pacs", True), ("source web", True), ("source away", False)
    ]  # fmt: skip
    assert "cannot be reached" in checks[2].text


# --- on the command line ---


def run(folder: Path, pacs: Orthanc, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = folder / "node.toml"
    config.write_text(to_toml(configuration(folder, pacs)), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", "retrieve", *arguments, "--config", str(config)],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"},
    )  # fmt: skip


def test_the_command_fetches_and_says_so(tmp_path: Path, pacs: Orthanc) -> None:
    done = run(tmp_path, pacs, STUDY, "--from", "pacs")

    assert (done.returncode, done.stdout.strip()) == (0, f"DONE: {IMAGES} of {IMAGES} objects from pacs."), done.stderr
    again = run(tmp_path, pacs, STUDY, "--from", "web", "--series", SERIES, "--json")
    assert json.loads(again.stdout)["state"] == "DONE"


def test_the_command_fails_when_not_all_came_and_says_why(tmp_path: Path, pacs: Orthanc) -> None:
    unknown = run(tmp_path, pacs, "1.2.3.4", "--from", "pacs")
    away = run(tmp_path, pacs, STUDY, "--from", "away")

    assert (unknown.returncode, away.returncode) == (1, 1)
    assert unknown.stdout.startswith("NOT_FOUND: 0 of ? objects from pacs.")
    assert "cannot be reached" in away.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [((STUDY,), "Name the source"), ((STUDY, "--from", "x"), "Configured"), (("x",), "A UID has")],
)
def test_a_wrong_call_says_what_is_wrong(tmp_path: Path, pacs: Orthanc, arguments: tuple[str, ...], told: str) -> None:
    done = run(tmp_path, pacs, *arguments)

    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
