"""Corrected at the source and sent again: the node analyses what came last, and withdraws what it said before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.peers.dcmtk import Receiver, dcmsend, storescu
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import Raw
from tests.support import needs
from tests.support.results.stored_objects import kept_by
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(600)

ROUTES = [
    {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}},
    {"name": "film", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "when": {"modality": ["CR", "DX"]}},
]
ENDS = {"REPORTED", "NOT_ANALYSED", "FAILED"}
RECEIVER_ONLY = ("--role", "receive")
SUCCESS = 0x0000


@pytest.fixture
def site(node: Callable[..., Node], storescp: Receiver) -> tuple[Node, Receiver]:
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": storescp.aet, "host": "127.0.0.1", "port": storescp.port}
    return node(route=ROUTES, destination=[pacs]), storescp


def view(node: Node, study: str, what: str = "") -> Any:
    with node.api() as api:
        return api.get(f"/api/studies/{study}{what}").raise_for_status().json()


def ended(node: Node, study: str, revision: int) -> dict[str, Any]:
    """Wait until this revision of a study has come to its end and nothing is owed; return what is shown of it."""
    node.wait_until_settled()

    def done() -> bool:
        line = view(node, study)["study"]
        return line["revision"] == revision and line["state"] in ENDS and not line["deliveries"]["pending"]

    wait_until(done, 180, f"the end of revision {revision}", 0.25)
    return dict(view(node, study))


def told(node: Node, study: str, kind: str) -> list[str]:
    return [line["text"] for line in view(node, study, "/timeline") if line["kind"] == kind]


def study_of(folder: Path) -> str:
    return str(dcmread(next(folder.iterdir()), stop_before_pixels=True).StudyInstanceUID)


def send(node: Node, folder: Path, calling: str = "MOD1") -> None:
    sent = dcmsend(node.dicom_port, folder, calling=calling)
    assert sent.returncode == 0, sent.stdout[-400:]


def reports(pacs: Receiver, study: str) -> list[Dataset]:
    of_study = [one for one in pacs.datasets() if one.Modality == "SR" and one.StudyInstanceUID == study]
    return [one for one in of_study if "AI" in str(one.get("SeriesDescription", ""))]


def test_images_of_another_patient_are_reported_under_the_right_one_after_the_correction(
    site: tuple[Node, Receiver],
) -> None:
    """A worklist entry picked wrongly, seen after the report: the classic of every radiology."""
    node, pacs = site
    folder = needs.real_data("faults/c12b_mismatch_then_corrected")
    study = study_of(folder / "1")
    send(node, folder / "1")
    first = ended(node, study, 1)
    send(node, folder / "2")
    second = ended(node, study, 2)
    assert second["study"]["state"] == "REPORTED"
    assert {str(one.PatientID) for one in reports(pacs, study)} >= {"PAT-NEW"}
    newest = second["results"][0]
    assert newest["job_key"] not in {one["job_key"] for one in first["results"]}
    assert newest["current"]
    of_newest = {artifact["uid"] for artifact in newest["artifacts"]}
    sent = [one for one in pacs.datasets() if str(one.SOPInstanceUID) in of_newest]
    assert sent
    assert {str(one.PatientID) for one in sent} == {"PAT-NEW"}
    assert not [one for one in sent if "PredecessorDocumentsSequence" in one]
    assert all("Changed: PatientID, PatientName." in line for line in told(node, study, "corrected"))
    assert not [line for line in told(node, study, "corrected") if "pixels" in line]
    counted = [(series["instances"], series["superseded"]) for series in second["series"]]
    assert counted == [(64, 32)], "half of them were right from the beginning"


def test_a_film_that_lacked_the_age_is_analysed_once_it_has_it(site: tuple[Node, Receiver]) -> None:
    node, _ = site
    folder = needs.real_data("faults/x37_age_added_and_sent_again")
    study = study_of(folder / "1")
    send(node, folder / "1")
    ended(node, study, 1)
    sent = storescu(node.dicom_port, folder / "2")
    assert sent.returncode == 0, sent.stdout[-400:]
    again = ended(node, study, 2)
    assert again["jobs"][0]["revision"] == 2
    assert again["jobs"][0]["reason"] or again["study"]["state"] == "REPORTED"
    (line,) = told(node, study, "corrected")
    assert line.startswith("1 image came again, corrected, sent by MOD1 at 127.0.0.1. Changed: PatientAge.")


def test_the_same_images_compressed_by_an_archive_change_nothing(site: tuple[Node, Receiver]) -> None:
    node, pacs = site
    folder = needs.real_data("faults/c51_same_images_recompressed")
    study = study_of(folder / "1")
    send(node, folder / "1")
    first = ended(node, study, 1)
    before = len(pacs.files())
    send(node, folder / "2", calling="ARCHIVE")
    node.wait_until_settled()
    lines = told(node, study, "encoded")
    counts = [int(line.split()[0]) for line in lines]
    assert sum(counts) == 64
    assert len(lines) < 8, "one line for each batch, not for each image"
    assert told(node, study, "corrected") == []
    again = ended(node, study, 1)
    assert again["results"] == first["results"]
    assert len(pacs.files()) == before


def test_images_that_move_to_another_study_are_reported_there_and_the_old_study_says_where_they_are(
    site: tuple[Node, Receiver], tmp_path: Path
) -> None:
    """Splitting and merging in a PACS keep the SOP Instance UIDs."""
    node, _ = site
    slices = small_chest_ct("moved")[0]
    old, new = str(slices[0].StudyInstanceUID), generate_uid()
    send(node, written(slices, tmp_path / "1"))
    ended(node, old, 1)
    for one in slices:
        one.StudyInstanceUID = new
    send(node, written(slices, tmp_path / "2"))
    assert ended(node, new, 1)["study"]["state"] == "REPORTED"
    line = view(node, old)["study"]
    assert (line["state"], line["instances"]) == ("NOT_ANALYSED", 0)
    assert line["reason"] == f"No image is left in this study: all belong to study {new} now."
    assert told(node, old, "withdrawn")
    assert told(node, new, "moved-here")


def written(slices: list[Dataset], folder: Path) -> Path:
    folder.mkdir()
    for one in slices:
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"{one.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def test_killed_after_every_version_the_last_one_is_in_use(node: Callable[..., Node]) -> None:
    """Whatever was filed when the kill came, and whatever settles again: the order of arrival decides."""
    one = node(start=False, route=[], dicom={"journal_mb": 16})
    versions = [small_image("corrected", patient_name=name) for name in (b"First^A", b"Second^B", b"First^A")]
    for version in versions:
        one.start(None, *RECEIVER_ONLY)
        with Raw(one.dicom_port).opened() as peer:
            assert peer.store(version) == SUCCESS
            one.kill9()
    one.start(None, *RECEIVER_ONLY)
    kept = kept_by(one)
    assert [row.data_set for row in kept if row.is_used] == [versions[-1].data_set]
    assert sorted(row.data_set for row in kept) == sorted({version.data_set for version in versions})
