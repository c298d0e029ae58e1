"""What leaves by the API: results and lists in every form, a study as one archive, and all of it written down."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from pydicom import dcmread
from sqlalchemy import update

from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.export_places import ExportPlaces
from dicom_node.config.outgoing import DeidentificationSettings
from dicom_node.core.audit import AuditedEvent
from dicom_node.index.tables import artifacts, instances, results, studies
from tests.integration.step_by_step_node import Site, site
from tests.integration.test_deidentification import words_in
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.studies.marked import WORDS, mark

FOLLOWED = DeidentificationSettings(name="followed", options=("modified_dates", "clean_structured_content"))


@dataclass
class Trail:
    """Keeps what is written down."""

    events: list[AuditedEvent] = field(default_factory=list)
    fault = ""

    def record(self, event: AuditedEvent) -> None:
        self.events.append(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:
        del key
        self.events.append(event)


TRAIL = Trail()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node with one analysed study whose every image is marked."""
    with site(tmp_path_factory.mktemp("exports") / "node", []) as one:
        one.run([mark(image, "latin", "reads") for image in examples.ct_volume(slices=4, size=16)])
        yield one


@pytest.fixture(scope="module")
def client(node: Site) -> Client:
    parts = parts_over(node.database, node.folder)
    settings = parts.settings.model_copy(update={"deidentification": (FOLLOWED,)})
    return client_of(replace(parts, open_object=node.spool.path, audit=TRAIL, settings=settings))


def result_of(node: Site) -> str:
    return str(node.rows(results)[0].job_key)


def study_of(node: Site) -> str:
    return str(node.rows(studies)[0].study_instance_uid)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline=""), strict=True))


def text_of(document: bytes) -> str:
    return subprocess.run(["pdftotext", "-", "-"], input=document, capture_output=True, check=True).stdout.decode()


def unpacked(archive: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(archive)) as read:
        assert read.testzip() is None
        return {name: read.read(name) for name in read.namelist()}


def test_a_result_leaves_as_json_csv_and_dicom_by_the_addresses_of_before_versions_too(
    client: Client, node: Site
) -> None:
    key = result_of(node)
    told = client.get(f"/api/results/{key}.json")
    assert told.json() == client.get(f"/api/v1/results/{key}").json()
    assert told.headers["content-disposition"] == f'attachment; filename="result-{key[:12]}.json"'
    report = client.get(f"/api/results/{key}.dcm").content
    assert dcmread(BytesIO(report)).Modality == "SR"
    [kept] = [row for row in node.rows(artifacts) if row.kind == "SR"]
    assert hashlib.sha256(report).hexdigest() == kept.sha256
    answer = client.get(f"/api/results/{key}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    rows = table(answer.text)
    numbers = [one["value"] for one in told.json()["summary"]["findings"] for one in one["measurements"]]
    assert [float(row["value"]) for row in rows if row["value"]] == [one for one in numbers if one is not None]
    assert {row["unit_ucum"] for row in rows} >= {"ml", "[hnsf'U]"}
    assert {row["modality"] for row in rows} == {"CT"}
    assert client.get(f"/api/results/{'0' * 64}.csv").status_code == 404


def test_a_page_is_set_where_no_destination_wanted_one_and_is_the_same_every_time(client: Client, node: Site) -> None:
    address = f"/api/results/{result_of(node)}.pdf"
    first, second = client.get(address), client.get(address)
    assert first.headers["content-type"] == "application/pdf"
    assert first.content == second.content
    said = text_of(first.content)
    model = client.get(f"/api/results/{result_of(node)}").json()["summary"]["model"]
    assert f"AI report: {model['name']} {model['version']}" in said
    assert "Looked at: 4 images, CT" in said
    assert "NOT VERIFIED" in said
    assert not [word for word in WORDS.values() if word in said]


def test_the_page_of_a_result_that_does_not_hold_says_so_first(client: Client, node: Site) -> None:
    mine = results.c.job_key == result_of(node)
    with node.database.write() as connection:
        connection.execute(update(results).where(mine).values(standing="WITHDRAWN", standing_reason="Wrong patient."))
    said = text_of(client.get(f"/api/results/{result_of(node)}.pdf").content)
    with node.database.write() as connection:
        connection.execute(update(results).where(mine).values(standing="CURRENT", standing_reason=""))
    assert "THIS RESULT DOES NOT HOLD: WITHDRAWN (Wrong patient)." in said


def test_a_study_leaves_as_one_archive_with_the_digest_of_every_file(
    client: Client, node: Site, tmp_path: Path
) -> None:
    answer = client.get(f"/api/studies/{study_of(node)}.zip")
    assert answer.headers["content-disposition"] == f'attachment; filename="{study_of(node)}.zip"'
    files = unpacked(answer.content)
    manifest = json.loads(files.pop("manifest.json"))
    assert {one["name"]: one["sha256"] for one in manifest["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert manifest["left_out"] == []
    kept = {node.spool.path(row.object_key).read_bytes() for row in [*node.rows(instances), *node.rows(artifacts)]}
    assert kept <= set(files.values()), "images and results as they are kept, byte for byte"
    assert len([name for name in files if name.startswith("images/")]) == len(node.rows(instances))
    assert json.loads(files["results/results.json"])["results"][0]["job_key"] == result_of(node)
    assert table(files["results/results.csv"].decode())
    assert "NOT VERIFIED" in text_of(files["results/1-chest.pdf"])
    (tmp_path / "it.zip").write_bytes(answer.content)
    subprocess.run(["unzip", "-q", str(tmp_path / "it.zip"), "-d", str(tmp_path / "out")], check=True)
    assert len([one for one in (tmp_path / "out").rglob("*") if one.is_file()]) == len(files) + 1


def test_an_archive_without_the_patient_has_no_mark_in_any_byte(client: Client, node: Site) -> None:
    answer = client.get(f"/api/studies/{study_of(node)}.zip", params={"deidentified": True, "profile": "followed"})
    files = unpacked(answer.content)
    marks = [word for content in files.values() for word in words_in(content) if word in WORDS.values()]
    assert marks == []
    everything = b"".join(
        [answer.headers["content-disposition"].encode(), *(n.encode() for n in files), *files.values()]
    )
    assert study_of(node).encode() not in everything
    images = [dcmread(BytesIO(it)) for name, it in files.items() if name.startswith("images/")]
    assert {str(one.PatientIdentityRemoved) for one in images} == {"YES"}
    labels = json.loads(files["results/labels.json"])["results"][0]
    assert set(labels["source_sop_instance_uids"]) == {str(one.SOPInstanceUID) for one in images}
    assert labels["findings"][0]["measurements"]
    manifest = json.loads(files["manifest.json"])
    assert f"{manifest['study_instance_uid']}.zip" in answer.headers["content-disposition"]
    assert manifest["study_instance_uid"] == str(images[0].StudyInstanceUID)
    assert manifest["deidentified"]["methods"][0].startswith("113100 ")
    assert any("pixels" in one["why"] for one in manifest["left_out"]), "the summary page is a secondary capture"
    unknown = client.get(f"/api/studies/{study_of(node)}.zip", params={"deidentified": True, "profile": "other"})
    assert unknown.status_code == 404


def test_a_damaged_object_is_left_out_of_the_archive_and_said_so(client: Client, node: Site) -> None:
    path = node.spool.path(node.rows(instances)[0].object_key)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    answer = client.get(f"/api/studies/{study_of(node)}.zip", params={"deidentified": True})
    path.write_bytes(whole)
    files = unpacked(answer.content)
    left_out = [one["why"] for one in json.loads(files["manifest.json"])["left_out"] if one["name"] == "images"]
    assert left_out == ["its file is gone or damaged"]
    assert len([name for name in files if name.startswith("images/")]) == len(node.rows(instances)) - 1


def test_whole_lists_leave_with_their_filters(client: Client, node: Site) -> None:
    made = node.rows(results)[0].created_at.date().isoformat()
    by_filter: dict[str, dict[str, Any]] = {
        "all": {}, "its day": {"from": made, "to": made}, "its model": {"model": "ct-lung-density"},
        "another": {"model": "other"}, "before": {"to": "2001-01-01"}, "withdrawn": {"standing": "WITHDRAWN"},
    }  # fmt: skip
    found = {
        name: {row["job_key"] for row in table(client.get("/api/results.csv", params=asked).text)}
        for name, asked in by_filter.items()
    }
    assert [name for name, keys in found.items() if keys == {result_of(node)}] == ["all", "its day", "its model"]
    assert all(keys == set() for name, keys in found.items() if name in {"another", "before", "withdrawn"})
    listed = client.get("/api/results.json", params={"model": "ct-lung-density"}).json()["results"]
    assert listed == [client.get(f"/api/results/{result_of(node)}").json()]
    assert client.get("/api/studies.json").json()["studies"] == client.get("/api/studies").json()["studies"]
    [row] = table(client.get("/api/studies.csv", params={"state": "REPORTED"}).text)
    assert (row["study_instance_uid"], row["modalities"], row["routes"]) == (study_of(node), "CT", "chest=DONE")
    assert client.get("/api/results.csv", params={"from": "yesterday"}).status_code == 422


@pytest.mark.parametrize(
    "path", ["/api/results.csv", "/api/results.json", "/api/agreement", "/api/agreement/cases.csv"]
)
@pytest.mark.parametrize("day", ["0", "86400", "2026-01-01T00:00:00Z"])
@pytest.mark.parametrize("name", ["from", "to"])
def test_what_is_no_day_is_refused(client: Client, path: str, name: str, day: str) -> None:
    """A number would be taken for seconds since 1970."""
    assert client.get(path).status_code == 200
    assert client.get(path, params={name: day}).status_code == 422


def test_an_export_is_written_down_with_what_was_asked_before_anything_leaves(client: Client, node: Site) -> None:
    TRAIL.events.clear()
    client.get(f"/api/studies/{study_of(node)}.zip", params={"deidentified": True})
    client.get("/api/results.csv", params={"from": "2026-01-01", "model": "ct-lung-density"})
    archive, listed = TRAIL.events
    assert (archive.act, archive.study_instance_uid, archive.detail["deidentified"]) == (
        "export",
        study_of(node),
        "true",
    )
    assert (listed.act, listed.detail["from"], listed.detail["model"]) == ("export", "2026-01-01", "ct-lung-density")


def test_one_person_takes_two_places_and_leaves_the_others_to_others(client: Client) -> None:
    places: ExportPlaces = client.app.state.export_places
    for _ in range(places.OF_ONE_PERSON):
        places.take("api-token")
    refused = client.get("/api/studies.csv")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert "of yours run already" in refused.json()["detail"]
    for other in range(places.IN_ALL - places.OF_ONE_PERSON):
        places.take(f"reader-{other}")
    with pytest.raises(ProblemError, match="all places"):
        places.take("late")
    for person in ("api-token", "api-token", *(f"reader-{one}" for one in range(4))):
        places.give_back(person)
    assert [client.get("/api/studies.csv").status_code for _ in range(4)] == [200] * 4, "each gives its place back"
