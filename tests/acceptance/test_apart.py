"""One node as eight processes on one folder and one PostgreSQL, two receivers, two inference roles, two that deliver:
whatever is killed, cut off, full, damaged or away, nothing acknowledged is lost and every result arrives once."""

from __future__ import annotations

import functools
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.acceptance.apart import DELIVERERS, RECEIVERS, Apart, running_apart
from tests.acceptance.apart_faults import FAULTS, Round, hospital_away
from tests.acceptance.sent_phantoms import SentPhantom, acknowledged
from tests.acceptance.site import Site
from tests.peers.fhir_server import running_fhir_server
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.postgres import Postgres
from tests.peers.process import wait_until
from tests.support.acceptor_state import logged_errors
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=10_800))]

ROUNDS = amount(3, campaign=60)
#: How long PACS and EHR are away while studies are made: short, and as long as an update of a PACS takes.
OUTAGES_S = amount((4.0,), campaign=(20.0, 3600.0))
SEED = 20261129


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    (folder / "pacs").mkdir()
    with (
        running_orthanc(folder / "pacs") as pacs,
        running_fhir_server() as ehr,
        running_apart(folder, postgres, pacs, ehr) as one,
    ):
        yield one


def test_whatever_fails_in_a_node_of_eight_processes_nothing_is_lost_and_every_result_arrives_once(
    apart: Apart, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    for number in range(ROUNDS):
        phantom = apart.expect(SentPhantom.written(tmp_path, f"apart-{number}"))
        receiver, other = RECEIVERS[number % 2], RECEIVERS[(number + 1) % 2]
        fault, began_at = FAULTS[number % len(FAULTS)], time.monotonic()
        sender = phantom.start_sending(apart.parts[receiver])
        named = fault(Round(apart, phantom, receiver, sender, chance))
        stored = acknowledged(sender)
        apart.wait_until_settled()
        lost = stored - phantom.kept_by(apart.data_dir)
        assert lost <= named, f"round {number}, {fault.__name__}: an acknowledged image is lost"
        # As a modality does: what was not acknowledged is sent again, to whichever receiver takes it.
        again = functools.partial(phantom.send, apart.parts[other])
        wait_until(again, 120, f"round {number}: the images to be taken", 1.0)
        took_s = time.monotonic() - began_at
        print(f"round {number}: {fault.__name__}, {len(stored)} taken, {len(lost)} damaged, {took_s:.1f} s", flush=True)

    apart.wait_until_settled()
    _assert_each_result_once(apart, within_s=900)
    for phantom in apart.expected:
        assert len(phantom.kept_by(apart.data_dir)) == len(list(phantom.folder.iterdir()))
    assert set(apart.damaged().values()) == {0}, apart.damaged()
    wait_until(apart.is_ready, 60, "a node that says it is ready")
    assert [line for part in apart.parts.values() for line in logged_errors(part)] == []


@pytest.mark.parametrize("away_s", OUTAGES_S)
def test_after_an_outage_of_pacs_and_ehr_what_waits_arrives_at_once_and_the_urgent_first(
    apart: Apart, tmp_path: Path, away_s: float
) -> None:
    priorities = ("ROUTINE", "ROUTINE", "LOW", "STAT")
    phantoms = [
        apart.expect(SentPhantom.written(tmp_path, f"away-{away_s:g}-{number}", priority))
        for number, priority in enumerate(priorities)
    ]
    with hospital_away(apart.site):
        away_since = time.monotonic()
        for phantom in phantoms:
            assert phantom.send(apart.parts["receive-1"])
            wait_until(functools.partial(_has_result, apart.site, phantom), 300, "the analysis", 0.5)
        time.sleep(max(0.0, away_s - (time.monotonic() - away_since)))
        apart.parts["deliver-2"].stop()  # of two that send beside each other nobody can say which came first
    back_since = time.monotonic()
    _assert_each_result_once(apart, within_s=60)
    print(f"away for {away_s:g} s, drained {time.monotonic() - back_since:.1f} s after the return", flush=True)
    uids = [phantom.study_instance_uid for phantom in phantoms]
    reports = [str(one.StudyInstanceUID) for one in _in_order_of_arrival(apart.site.pacs) if one.Modality == "SR"]
    arrived = [uid for uid in reports if uid in uids]
    assert arrived[0] == uids[3], "the urgent study came first"
    assert arrived[-1] == uids[2], "the least urgent came last"
    assert _told_of("pacs", apart) >= {"destination takes nothing", "destination takes objects again"}
    apart.start("deliver-2")


def _told_of(destination: str, apart: Apart) -> set[str]:
    events = [event for name in DELIVERERS for event in apart.parts[name].events()]
    return {str(event["event"]) for event in events if event.get("destination") == destination}


def _has_result(site: Site, phantom: SentPhantom) -> bool:
    with site.node.api() as api:
        answer = api.get(f"/api/studies/{phantom.study_instance_uid}")
    return answer.status_code == 200 and bool(answer.json()["results"])


def _in_order_of_arrival(pacs: Orthanc) -> list[Dataset]:
    """Return the objects in the order in which the PACS has stored them, each as often as it has."""
    changes = pacs.get("/changes?limit=100000")["Changes"]
    return [pacs.dataset(change["ID"]) for change in changes if change["ChangeType"] == "NewInstance"]


def _assert_each_result_once(apart: Apart, within_s: float) -> None:
    """Each study has one current result; PACS and EHR have that whole, and each object of it once."""
    finished = [apart.site.finished(phantom.study_instance_uid, within_s) for phantom in apart.expected]
    stored = Counter(str(one.SOPInstanceUID) for one in _in_order_of_arrival(apart.site.pacs))
    for study in finished:
        results, told = study["results"], apart.site.timeline(study["study"]["study_instance_uid"])
        assert study["study"]["state"] == "REPORTED", told
        assert len({(result["revision"], result["state"]) for result in results}) == len(results), told
        (current,) = (result for result in results if result["current"])
        assert {"SR", "SEG", "FHIR"} <= {artifact["kind"] for artifact in current["artifacts"]}, told
        stored.subtract(_objects_in([current]))
        earlier = _objects_in(result for result in results if not result["current"])
        assert all(stored.pop(one, 0) <= 1 for one in earlier), told
    assert set(stored.values()) == {0}, "an object is missing, came twice, or belongs to no result"
    assert len(apart.site.ehr.all("DiagnosticReport")) == len(finished)
    print(f"{len(finished)} studies, {len(stored)} objects in the PACS", flush=True)


def _objects_in(results: Iterable[dict[str, Any]]) -> list[str]:
    artifacts = [artifact for result in results for artifact in result["artifacts"]]
    return [artifact["uid"] for artifact in artifacts if artifact["media_type"] == "application/dicom"]
