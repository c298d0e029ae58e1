"""kill -9 at random moments: what was acknowledged is there after the restart, and every result exists once."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom.dataset import Dataset

from tests.acceptance.sent_phantoms import SentPhantom, acknowledged
from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=3600))]

ROUNDS = amount(3, campaign=20)
SEED = 20261121
#: A round takes about this long from the first image to the last delivery; the kill falls anywhere in it.
ROUND_S = 6.0
#: So many studies may be in work at a kill, of fewer than the attempts that each has.
IN_WORK = 6


@pytest.fixture
def site(node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer) -> Site:
    # A study that happens to be in work at several kills must not be given up: it is innocent of them.
    settings = {"dicom": {"port": free_port()}, "inference": {"max_attempts": 10}, "route": [
        {"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    ]}  # fmt: skip
    return open_site(node, orthanc, fhir_server, **settings)


def test_killing_any_process_at_any_moment_loses_nothing_and_doubles_nothing(site: Site, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    studies: list[str] = []
    for number in range(ROUNDS):
        phantom = SentPhantom.written(tmp_path, f"kill-{number}")
        site.ehr.add_patient(PATIENT_SYSTEM, phantom.patient_id)
        victim = "worker" if number % 4 == 3 else "node"
        sender = phantom.start_sending(site.node)
        time.sleep(chance.uniform(0.0, ROUND_S))
        _kill(site.node, victim)
        stored = acknowledged(sender)
        if victim == "node":
            site.node.start()
        site.node.wait_until_settled()
        assert stored <= phantom.kept_by(site.node.data_dir), f"round {number}: an acknowledged image is lost"
        # As a modality does: what was not acknowledged is sent again.
        assert phantom.send(site.node)
        studies.append(phantom.study_instance_uid)
        for study in studies[:-IN_WORK]:  # ends by itself, and is not killed once too often on a busy machine
            site.finished(study, 600)

    site.node.wait_until_settled()  # an image that is still on its way would open another revision later
    for study in studies:
        finished = site.finished(study, 600)
        assert finished["study"]["state"] == "REPORTED", site.timeline(study)
    _assert_each_result_once(site, studies)


def _assert_each_result_once(site: Site, studies: list[str]) -> None:
    objects = site.pacs.datasets()
    for study in studies:
        _assert_told_once(site, study, [ds for ds in objects if ds.StudyInstanceUID == study])
    uids = [ds.SOPInstanceUID for ds in objects]
    assert len(uids) == len(set(uids))
    assert len(site.ehr.all("DiagnosticReport")) == len(studies)


def _assert_told_once(site: Site, study: str, objects: list[Dataset]) -> None:
    """Each revision has one result with one SR, the PACS has nothing else, and the last one measured the lungs.

    A sender that was cut off may leave a revision with too few slices, of which the one honest result is an SR that
    says so, without a SEG.
    """
    results = site.study(study)["results"]
    made = [Counter(artifact["kind"] for artifact in result["artifacts"]) for result in results]
    told = (made, site.timeline(study))
    assert len({result["revision"] for result in results}) == len(results), told
    assert all(kinds["SR"] == 1 and kinds["SEG"] <= 1 for kinds in made), told
    newest = max(results, key=lambda result: result["revision"])
    assert {"SR", "SEG"} <= {artifact["kind"] for artifact in newest["artifacts"]}, told
    assert _objects_of(newest) <= {ds.SOPInstanceUID for ds in objects} <= set().union(*map(_objects_of, results)), told


def _objects_of(result: dict[str, Any]) -> set[str]:
    return {artifact["uid"] for artifact in result["artifacts"] if artifact["kind"] != "FHIR"}


def _kill(node: Node, victim: str) -> None:
    assert node.process is not None
    if victim == "node":
        node.kill9()
        return
    for process in psutil.Process(node.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it died of its parent's death, or had come to its end
            process.kill()
