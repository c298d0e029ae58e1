"""kill -9 of a node whose reviewer has just decided: while the verified report is made, or sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydicom.dataset import Dataset

from tests.peers.dcmtk import dcmsend
from tests.peers.line import Break, Line, holds_object, running_line
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.process import wait_until
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

Moment = Callable[["Ward"], None]
#: Far longer than the test: what a dead node held is free at once to one that starts on the same folder.
_LEASE_S = 600
_OPEN_DELIVERIES = "SELECT count(*) FROM deliveries WHERE state NOT IN ('SENT', 'COMMITTED')"


@dataclass(frozen=True, slots=True)
class Ward:
    """A node, the PACS that it sends to over a line that can break, and the key of a reviewer."""

    node: Node
    pacs: Orthanc
    line: Line
    reviewer: str

    def reports(self, study: str) -> list[Dataset]:
        """The reports of a study at the PACS, in the order in which they were made."""
        mine = [one for one in self.pacs.datasets("SR") if one.StudyInstanceUID == study]
        return sorted(mine, key=lambda one: one.InstanceNumber)

    def asked(self, query: str) -> list[tuple[object, ...]]:
        """What the database of the node answers, whether the node runs or not."""
        with closing(sqlite3.connect(self.node.data_dir / "node.sqlite")) as database:
            return list(database.execute(query))

    def is_quiet(self) -> bool:
        """Tell whether nothing is owed to anybody."""
        return self.asked(_OPEN_DELIVERIES) == [(0,)]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    there = tmp_path_factory.mktemp("orthanc")
    with running_orthanc(there) as pacs, running_line(pacs.dicom_port, holds_object) as line:
        node = Node(folder / "node", {
            "inference": {"lease_s": _LEASE_S},
            "destination": [
                {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": line.port},
            ],
            "route": [
                {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 0.5, "when": {"modality": "CT"}},
            ],
        })  # fmt: skip
        node.start()
        with node.api() as admin:
            made = admin.post("/api/v1/keys", json={"name": "anna", "roles": ["reviewer"]}).raise_for_status()
        yield Ward(node, pacs, line, str(made.json()["secret"]))
        node.kill9()


def being_made(ward: Ward) -> None:
    wait_until(lambda: any(ward.node.data_dir.glob("work/**/review-*")), 60, "the making of the report", 0.002)
    ward.node.kill9()
    assert ward.asked("SELECT state, result_key FROM reviews ORDER BY id DESC LIMIT 1") == [("DECIDED", "")]


def being_sent(ward: Ward) -> None:
    """The PACS has taken the report, and the node has not heard of it yet."""
    assert ward.line.reached.wait(60)
    ward.node.kill9()


@pytest.mark.parametrize(("moment", "where"), [(being_made, None), (being_sent, Break.UNHEARD)], ids=["made", "sent"])
def test_a_node_killed_after_a_decision_sends_one_verified_report_beside_the_original(
    ward: Ward, tmp_path: Path, request: pytest.FixtureRequest, moment: Moment, where: Break | None
) -> None:
    study, result = analysed(ward, small_chest_ct(request.node.callspec.id)[0], tmp_path)
    (original,) = ward.reports(study)
    if where is not None:
        ward.line.breaks(where)
    decided = post(ward, f"/api/v1/results/{result}/review", {"decision": "ACCEPTED"})
    assert decided.status_code == 200, decided.text
    moment(ward)
    assert len(ward.reports(study)) == (2 if where is Break.UNHEARD else 1)
    ward.line.mend()
    ward.node.start()

    wait_until(lambda: len(ward.reports(study)) == 2 and ward.is_quiet(), 90, "the verified report at the PACS", 0.2)
    kept, verified = ward.reports(study)
    assert (kept.SOPInstanceUID, kept.VerificationFlag) == (original.SOPInstanceUID, "UNVERIFIED")
    assert verified.VerificationFlag == "VERIFIED"
    assert [one.VerifyingObserverName for one in verified.VerifyingObserverSequence] == ["key:anna"]
    (before,) = verified.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert before.ReferencedSOPInstanceUID == original.SOPInstanceUID
    with ward.node.api() as api:
        told = api.get(f"/api/v1/studies/{study}").raise_for_status().json()
        timeline = api.get(f"/api/v1/studies/{study}/timeline").raise_for_status().json()
    assert sorted((one["sequence"], one["standing"], one["review_state"]) for one in told["results"]) == [
        (1, "SUPERSEDED", "ACCEPTED"), (2, "CURRENT", "ACCEPTED"),
    ]  # fmt: skip
    assert [one["text"] for one in timeline].count("key:anna accepted the result.") == 1


def analysed(ward: Ward, images: Sequence[Dataset], folder: Path) -> tuple[str, str]:
    """Send a study and wait until its result is at the PACS; return its UID and the key of the result."""
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmsend(ward.node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]
    study = str(images[0].StudyInstanceUID)
    wait_until(lambda: len(ward.reports(study)) == 1 and ward.is_quiet(), 90, "the report at the PACS", 0.2)
    with ward.node.api() as api:
        (result,) = api.get(f"/api/v1/studies/{study}").raise_for_status().json()["results"]
    return study, str(result["job_key"])


def post(ward: Ward, path: str, body: dict[str, str]) -> httpx.Response:
    """Post something in the name of the reviewer."""
    with ward.node.api() as api:
        return api.post(path, json=body, headers={"Authorization": f"Bearer {ward.reviewer}"})
