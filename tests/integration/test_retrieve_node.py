"""A whole node fetches: C-MOVE ends at its own port, the study is analysed, and a crash in the middle loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.studies.data_factories import small_chest_ct

STUDY = str(small_chest_ct()[0][0].StudyInstanceUID)
IMAGES = 32
ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
FINISHED = {"DONE", "PARTIAL", "NOT_FOUND", "FAILED"}


@pytest.fixture
def pacs(orthanc: Orthanc) -> Orthanc:
    """The PACS with the small chest CT."""
    for image in small_chest_ct()[0]:
        orthanc.upload_dataset(image)
    return orthanc


@pytest.fixture
def node(tmp_path: Path, pacs: Orthanc) -> Iterator[Node]:
    """A node that may fetch from the PACS, and is known to it."""
    there = {"kind": "dimse", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port}
    sources = [{"name": "move", "retrieve": "move", **there}, {"name": "get", **there}]
    destination = {"name": "folder", "kind": "folder", "path": str(tmp_path / "results")}
    one = Node(tmp_path / "node", {"source": sources, "route": [ROUTE], "destination": [destination]})
    one.start()
    pacs.know("AINODE", one.dicom_port, "known")
    yield one
    one.kill9()


def fetched(node: Node, source: str) -> dict[str, Any]:
    """Ask for the study and wait for the end of the retrieval."""
    with node.api() as api:
        asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": source}).raise_for_status()
    done = followed(node, asked.headers["Location"])
    assert done is not None
    return done


def followed(node: Node, location: str) -> dict[str, Any] | None:
    """Wait for the end of a retrieval; `None` for one that the node does not know."""
    with node.api() as api:
        if api.get(location).status_code == 404:
            return None
        found: dict[str, Any] = {}

        def done() -> bool:
            found.update(api.get(location).raise_for_status().json())
            return found["state"] in FINISHED

        wait_until(done, 60, "the retrieval to end")
    return found


def study(node: Node) -> dict[str, Any]:
    with node.api() as api:
        answer = api.get(f"/api/studies/{STUDY}")
    return dict(answer.json()["study"]) if answer.status_code == 200 else {}


@pytest.mark.parametrize("source", ["move", "get"])
def test_a_fetched_study_is_analysed_like_any_other(node: Node, source: str) -> None:
    done = fetched(node, source)

    assert (done["state"], done["expected"], done["received"], done["failed"]) == ("DONE", IMAGES, IMAGES, 0), done
    wait_until(lambda: study(node).get("state") == "REPORTED", 120, "the report", 0.5)
    assert (study(node)["instances"], study(node)["revision"]) == (IMAGES, 1)


@pytest.mark.parametrize("end", [Node.kill9, Node.stop])
def test_a_retrieval_goes_on_when_the_node_that_ended_under_it_starts_again(
    node: Node, pacs: Orthanc, end: Callable[[Node], None]
) -> None:
    with node.api() as api:
        asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": "get"}).raise_for_status()
        wait_until(lambda: api.get(asked.headers["Location"]).json()["received"] > 0, 20, "the first object", 0.001)
    end(node)
    node.start()

    # What ended in the very moment of the kill has nothing left to go on with.
    done = followed(node, asked.headers["Location"])
    assert done is None or done["state"] == "DONE", done
    assert study(node)["instances"] == IMAGES
    wait_until(lambda: study(node).get("state") == "REPORTED", 120, "the report", 0.5)


def test_a_study_that_is_being_fetched_logs_no_patient(node: Node) -> None:
    image = small_chest_ct()[0][0]
    with node.api() as api:
        api.get("/api/sources/get/studies", params={"patient_id": str(image.PatientID)}).raise_for_status()
    fetched(node, "get")

    log = node.log.read_text(encoding="utf-8")
    assert "retrieval finished" in log
    assert str(image.PatientID) not in log
    assert str(image.PatientName) not in log
