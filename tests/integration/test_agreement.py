"""What readers decide is counted, told by page, CSV and command, and leaves as cases without the patient."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from pydicom import dcmread

from dicom_node.__main__ import main
from dicom_node.core import codes
from dicom_node.core.assessment.review import ReviewReason
from dicom_node.core.entities import Code, ReviewState
from dicom_node.core.principal import Principal, UserRole
from dicom_node.headers.image_size import image_size
from dicom_node.index.tables import audit_records, results, reviews
from dicom_node.people.accounts import Accounts
from dicom_node.people.review.changes import AddedFinding, ChangedFinding, ChangedMeasurement
from dicom_node.people.review.reviews import AskedDecision, ReviewRules, Reviews
from tests.integration.step_by_step_node import Site, site
from tests.integration.test_deidentification import words_in
from tests.peers.node import to_toml
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.studies.marked import WORDS, mark

ANNA = Principal("anna", frozenset({UserRole.REVIEWER}))
TYPED = ("Weiss", "Anna", "Frau Zuckerrübe rief an", "Knoten bei Zuckerrübe")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node with one study, whose result Anna has corrected, and the result that tells it."""
    folder = tmp_path_factory.mktemp("agreement")
    with site(folder / "node", [{"name": "files", "kind": "folder", "path": str(folder / "files")}]) as one:
        one.run([mark(image, "latin", "reads") for image in examples.ct_volume(slices=4, size=16)])
        Accounts(one.database).add("anna", [UserRole.REVIEWER], None)
        Accounts(one.database).set_named("anna", "Weiss^Anna", "PRV-1")
        decide(one)
        one.analyse()
        (folder / "node.toml").write_text(to_toml({"node": {"data_dir": str(one.folder)}}))
        yield one


def decide(one: Site) -> None:
    rules = ReviewRules(organization="General Hospital")
    told = one.rows(results)[0].summary["findings"]
    measured = next(one for one in told if one["measurements"])
    unit = measured["measurements"][0]["unit"]["value"]
    asked = AskedDecision(
        state=ReviewState.MODIFIED,
        reasons=(ReviewReason.FALSE_NEGATIVE, ReviewReason.WRONG_MEASUREMENT),
        text=TYPED[2],
        changes=(
            ChangedFinding(
                key=measured["key"], measurements=(ChangedMeasurement(place=0, value=1234.5, unit=unit),)
            ),
        ),
        added=(AddedFinding(code=Code("27925004", "SCT", "Nodule"), site=codes.LUNG, label=TYPED[3]),),
    )  # fmt: skip
    Reviews(one.database, rules, lambda key: image_size(one.spool.path(key))).decide(
        one.rows(results)[0].job_key, asked, ANNA
    )


@pytest.fixture(scope="module")
def client(node: Site) -> Client:
    return client_of(replace(parts_over(node.database, node.folder), open_object=node.spool.path))


def command(node: Site, *words: str) -> int:
    return main([*words, "--config", str(node.folder.parent / "node.toml")])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline=""), strict=True))


def test_a_decision_is_counted_once_and_not_the_result_that_tells_it(client: Client, node: Site) -> None:
    assert len(node.rows(results)) == 2, "the model's, and the reviewed one"
    answer = client.get("/api/agreement", params={"by": ["model", "month"]}).json()
    [group] = answer["groups"]
    month = node.rows(results)[0].created_at.strftime("%Y-%m")
    assert group["group"] == {"model": "ct-lung-density", "month": month}
    counted = [(group[name]["count"], group[name]["total"]) for name in ("reviewed", "modified", "accepted", "missed")]
    assert counted == [(1, 1), (1, 1), (0, 1), (1, 1)]
    assert (round(group["modified"]["low"], 4), group["modified"]["high"]) == (0.2065, 1.0)
    assert client.get("/api/agreement", params={"model": "other"}).json()["groups"] == []
    assert client.get("/api/agreement", params={"by": "weather"}).status_code == 422


def test_groups_and_cases_leave_as_csv_without_what_people_typed(client: Client, node: Site) -> None:
    [row] = table(client.get("/api/agreement.csv", params={"by": "model"}).text)
    assert (row["model"], row["modified_share"], row["modified_low"]) == ("ct-lung-density", "1.0", "0.2065")
    answer = client.get("/api/agreement/cases.csv")
    rows = table(answer.text)
    assert {one["decision"] for one in rows} == {"MODIFIED"}
    added = rows[-1]
    assert (added["finding_code"], added["ai_presence"], added["verdict"]) == ("27925004", "", "missed")
    corrected = next(one for one in rows if "=1234.5" in one["reader_values"])
    assert "=1234.5" not in corrected["ai_values"]
    assert not [word for word in TYPED if word in answer.text]
    assert len(rows) == len(node.rows(reviews)[0].findings)


def test_the_command_tells_the_same_and_writes_the_same_tables(
    client: Client, node: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--csv", str(tmp_path / "groups.csv"), "--cases", str(tmp_path / "cases.csv"))
    assert command(node, "agreement", *files, "--json") == 0
    [group] = json.loads(capsys.readouterr().out)
    [told] = client.get("/api/agreement").json()["groups"]
    assert {name: group[name] for name in ("group", "modified", "found")} == {
        name: told[name] for name in ("group", "modified", "found")
    }
    assert (tmp_path / "cases.csv").read_bytes() == client.get("/api/agreement/cases.csv").content
    assert (tmp_path / "groups.csv").read_bytes() == client.get("/api/agreement.csv").content
    assert command(node, "agreement", "--model", "other") == 1
    assert "No model has answered yet" in capsys.readouterr().out
    assert command(node, "agreement", *files) == 1, "it writes over no file"


def test_a_command_writes_the_same_list_of_results(client: Client, node: Site, tmp_path: Path) -> None:
    for suffix in ("csv", "json"):
        out = tmp_path / f"results.{suffix}"
        assert command(node, "export-results", str(out)) == 0
        assert out.read_bytes() == client.get(f"/api/results.{suffix}").content
        assert out.stat().st_mode & 0o077 == 0
    assert command(node, "export-results", str(tmp_path / "results.xlsx")) == 1


def test_a_reviewed_case_leaves_with_the_truth_and_without_patient_and_people(
    node: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cases"
    assert command(node, "export-cases", "--out", str(out), "--json") == 0
    [case] = json.loads(capsys.readouterr().out)["cases"]
    truth = json.loads((out / case["truth"]).read_text(encoding="utf-8"))
    assert truth["decision"] == "MODIFIED"
    *said, added = truth["findings"]
    assert (added["verdict"], added["said_by_model"], added["truth"]["label"]) == ("missed", None, "")
    assert added["truth"]["code"] == {"value": "27925004", "scheme": "SCT", "meaning": ""}
    both = next(one for one in said if one["truth"] != one["said_by_model"])
    assert both["truth"]["measurements"][0]["value"] == 1234.5
    images = [dcmread(path) for path in out.rglob("*.dcm")]
    assert {str(one.Modality) for one in images} >= {"CT", "SEG", "SR"}
    assert set(truth["source_sop_instance_uids"]) <= {str(one.SOPInstanceUID) for one in images}
    assert {str(one.StudyInstanceUID) for one in images} == {case["study"]} == {truth["study_instance_uid"]}
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {one["name"] for one in manifest["files"]} == there - {"manifest.json"}
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert [word for word in words_in(everything) if word in WORDS.values()] == []
    assert [word for word in TYPED if word.encode() in everything or word.encode("latin-1") in everything] == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in [out, *out.rglob("*")])


def test_an_archive_without_the_patient_has_no_word_of_the_reviewer_either(client: Client, node: Site) -> None:
    study = node.rows(results)[0].study_instance_uid
    archive = client.get(f"/api/studies/{study}.zip", params={"deidentified": True}).content
    with ZipFile(BytesIO(archive)) as read:
        labels = read.read("results/labels.json").decode()
        everything = b"".join(map(read.read, read.namelist()))
    assert '"27925004"' in labels
    assert [word for word in TYPED if word.encode() in everything] == []


def test_cases_are_written_down_and_one_key_gives_one_pseudonym(node: Site, tmp_path: Path) -> None:
    before = len(node.rows(audit_records))
    assert command(node, "export-cases", "--out", str(tmp_path / "one")) == 0
    assert command(node, "export-cases", "--out", str(tmp_path / "two")) == 0
    told = [json.loads(row.detail) for row in node.rows(audit_records)[before:] if row.act == "export"]
    assert [one["what"] for one in told] == ["reviewed case"] * 2
    names = [{str(path.relative_to(out)) for path in out.rglob("*")} for out in (tmp_path / "one", tmp_path / "two")]
    assert names[0] == names[1]
    assert command(node, "export-cases", "--out", str(tmp_path / "none"), "--model", "other") == 1
    assert command(node, "export-cases", "--out", str(tmp_path / "one")) == 1, "it writes among nothing else"
