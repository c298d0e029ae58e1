"""The worklist and what waits, as the API tells them: patient, finding, the cause in one sentence, nothing unasked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.api.shown_patients import ShownPatients
from dicom_node.core.entities import PatientNumber, ResultState
from dicom_node.headers.demographics import Demographics, DemographicsReader
from dicom_node.index.database import Database
from dicom_node.index.outbox.destinations import suspend
from dicom_node.index.received.patients import note_whose
from dicom_node.index.tables import results
from tests.support.api_client import Client, client_of, parts_over, seeded_database, work_out
from tests.support.results.rows import NOW
from tests.support.results.seeded import ALL_STUDIES, ANALYSING, CHEST_CT, CHEST_XR, GAP_CT, HOSTILE, RECEIVING
from tests.support.studies.headers import portrait

JANE = Demographics(
    name="Doe^Jane", patient_id="PAT-4711", issuer="HOSP", birth_date="19700131", sex="F", accession_number="ACC-1"
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = seeded_database(tmp_path, NOW)
    first = hashlib.sha256(f"{CHEST_CT}.3.1True".encode()).hexdigest()
    portrait(tmp_path / first, JANE)
    with database.write() as connection:
        note_whose(connection, {CHEST_CT: PatientNumber("PAT-4711", "HOSP")})
    work_out(database, tmp_path)
    yield database
    database.close()


@pytest.fixture
def client(database: Database, tmp_path: Path) -> Client:
    return client_of(parts_over(database, tmp_path))


def listed(client: Client, **asked: str) -> list[str]:
    answer = client.get("/api/v1/worklist", params=asked)
    assert answer.status_code == 200, answer.text
    return [one["study"]["study_instance_uid"] for one in answer.json()["studies"]]


def test_a_line_tells_patient_findings_and_what_keeps_the_result(client: Client) -> None:
    answer = client.get("/api/v1/worklist").json()
    lines = {one["study"]["study_instance_uid"]: one for one in answer["studies"]}
    assert (set(lines), answer["next"], answer["unlisted"]) == (set(ALL_STUDIES), None, 0)
    chest, xr = lines[CHEST_CT], lines[CHEST_XR]
    assert chest["patient"] == {
        "name": "Doe^Jane", "patient_id": "PAT-4711", "issuer": "HOSP", "birth_date": "19700131", "sex": "F",
        "accession_number": "ACC-1",
    }  # fmt: skip
    assert xr["patient"] is None, "no stored object says it"
    assert (
        chest["says"] == "ehr has refused 1 object: 412 Precondition Failed: two patients match. Merge them in the EHR."
    )
    assert [(one["route"], one["finding"], one["is_positive"]) for one in xr["routes"]] == [
        ("chest-radiograph", "Pneumonia (score 87 %)", True)
    ]
    assert chest["routes"][0]["finding"] == "Left lung: Volume 2412 ml; Right lung: Volume 2790 ml"
    assert lines[GAP_CT]["says"].startswith("Route chest-ct (ct-lung-density) was not analysed: Slices 41 to 44")
    assert "still arriving" in lines[RECEIVING]["says"]
    assert lines[ANALYSING]["says"] == "Route chest-ct (ct-lung-density) is being analysed."
    assert lines[HOSTILE]["says"].startswith("The worker died three times.")
    assert client.get(f"/api/v1/worklist/{CHEST_CT}").json() == chest


def test_studies_are_found_by_number_by_uid_and_by_words(client: Client) -> None:
    assert listed(client, query="PAT-4711") == listed(client, patient_id="PAT-4711", issuer="HOSP") == [CHEST_CT]
    assert listed(client, patient_id="PAT-4711", issuer="OTHER") == []
    assert listed(client, accession_number="nowhere") == listed(client, query="nowhere") == []
    assert listed(client, query="thorax nativ") == listed(client, query=f"{CHEST_CT}.1.1") == [CHEST_CT]
    assert listed(client, query=CHEST_XR[:-2]) == listed(client)
    assert listed(client, modality="DX", review="NEEDED") == [CHEST_XR]
    assert listed(client, review="DONE") == []
    assert client.get("/api/v1/worklist", params={"query": "a\0b"}).status_code == 422
    assert client.get("/api/v1/worklist", params={"cursor": "x"}).status_code == 422


def test_what_a_reviewer_rejected_says_nothing_more_and_counts_as_reviewed(client: Client, database: Database) -> None:
    with database.write() as connection:
        mine = results.c.study_instance_uid == CHEST_XR
        connection.execute(update(results).where(mine).values(standing=ResultState.REJECTED))
    route = client.get(f"/api/v1/worklist/{CHEST_XR}").json()["routes"][0]
    assert (route["finding"], route["is_positive"], route["review"]) == ("", False, "REJECTED")
    assert listed(client, review="DONE") == [CHEST_XR]
    assert CHEST_XR not in listed(client, review="NEEDED")


def test_pages_follow_each_other_and_forget_nothing(client: Client) -> None:
    seen, address = [], "/api/v1/worklist?limit=2"
    while address:
        answer = client.get(address)
        seen += [one["study"]["study_instance_uid"] for one in answer.json()["studies"]]
        address = answer.links["next"]["url"] if "next" in answer.links else ""
        assert (answer.json()["next"] is None) == (not address)
    assert seen == listed(client)


def test_what_waits_is_told_by_place_and_cause_with_what_to_do(client: Client, database: Database) -> None:
    answer = client.get("/api/v1/waiting").json()
    told = [(one["kind"], one["place"], one["state"], one["count"]) for one in answer["waiting"]]
    assert told[0] == ("DELIVERY", "ehr", "PARKED", 1)
    assert ("DELIVERY", "pacs", "PENDING", 1) in told
    assert all(one["advice"] and one["cause"] for one in answer["waiting"])
    tried = {(one["place"], one["state"]): (one["tries"], one["next_try_at"]) for one in answer["waiting"]}
    assert tried["ehr", "PARKED"] == (1, None), "it is never tried again by itself"
    assert tried["pacs", "PENDING"] == (3, "2026-03-14T09:30:30Z")
    assert {one["ae_title"] for one in answer["senders"]} == {"CT1", "DR2"}
    assert answer["disk"]["free_bytes"] > 0
    assert len(answer["hours"]) == 24
    with database.write() as connection:
        suspend(connection, "pacs", "The token is refused.", datetime.now(UTC))
    suspended = [one for one in client.get("/api/v1/waiting").json()["waiting"] if one["place"] == "pacs"]
    assert [one["cause"] for one in suspended] == ["Nothing is sent there: The token is refused."]
    assert [(one["tries"], one["next_try_at"]) for one in suspended] == [(3, None)]
    assert client.get(f"/api/v1/worklist/{CHEST_XR}").json()["says"] == (
        "pacs gets nothing, it is suspended: The token is refused."
    )


def test_who_patients_are_is_read_once_a_minute_and_of_no_more_objects_than_fit(tmp_path: Path) -> None:
    asked: list[str] = []

    def read(paths: object) -> list[Demographics | None]:
        names = [path.name for path in paths]  # type: ignore[attr-defined]
        asked.extend(names)
        return [JANE for _ in names]

    now = [0.0]
    shown = ShownPatients(lambda key: tmp_path / key, read, lambda: now[0])
    assert shown.of(["a", "b", "a", ""]) == {"a": JANE, "b": JANE}
    shown.of(["a"])
    now[0] = 61.0
    shown.of(["a"])
    assert asked == ["a", "b", "a"]
    shown.of([str(number) for number in range(600)])
    asked.clear()
    shown.of(["0", "599"])
    assert asked == ["0"]


def test_an_object_that_is_no_dicom_names_nobody_and_ends_no_reader(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x08\0\x05\0CS\xff\xff" * 50)
    portrait(tmp_path / "jane", replace(JANE, name="Müller^Jörg=山田^太郎"))
    reader = DemographicsReader()
    try:
        junk, jane, missing = reader.read([tmp_path / name for name in ("junk", "jane", "missing")])
    finally:
        reader.close()
    assert junk in (None, Demographics())
    assert jane == replace(JANE, name="Müller^Jörg=山田^太郎")
    assert missing is None
