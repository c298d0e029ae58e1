"""One node as eight processes on one folder and one PostgreSQL, two receivers, two inference roles, two that deliver:
whatever is killed, cut off, frozen or away, nothing acknowledged is lost and every result arrives once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_node.storage.journal import read_record, slots_in
from tests.acceptance.sent_phantoms import SentPhantom, acknowledged
from tests.acceptance.site import PATIENT_SYSTEM, Site
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.peers.process import free_port, wait_until
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=10_800))]

ROUNDS = amount(6, campaign=60)
#: How long PACS and EHR are away while studies are made: short, and as long as an update of a PACS takes.
OUTAGES_S = amount((8.0,), campaign=(20.0, 3600.0))
SEED = 20261129
#: A round takes about this long from the first image to the last delivery; the fault falls anywhere in it.
ROUND_S = 6.0
#: What runs: the role of each process, by its name.
PARTS: Mapping[str, str] = {
    "receive-1": "receive", "receive-2": "receive", "index": "index", "infer-1": "infer", "infer-2": "infer",
    "deliver-1": "deliver", "deliver-2": "deliver", "api": "api",
}  # fmt: skip
RECEIVERS = ("receive-1", "receive-2")


@dataclass
class Apart:
    """The processes of one node, its database, and the hospital around it."""

    parts: Mapping[str, Node]
    postgres: Postgres
    database_url: str
    site: Site

    def start(self, name: str) -> None:
        """Start one process and wait until it is ready."""
        part = self.parts[name]
        ready = _times_ready(part)
        part.launch(None, "--role", PARTS[name])
        assert part.process is not None
        part.process.wait_until_ready(lambda: _times_ready(part) > ready, 120)

    def wait_until_settled(self) -> None:
        """Wait until everything acknowledged so far is filed and indexed."""
        for name in RECEIVERS:
            journal = self.site.node.data_dir / _journal(name)
            wait_until(
                lambda folder=journal: all(read_record(folder, slot) is None for slot in slots_in(folder)),
                300, f"{journal.name} to be empty", 0.2,
            )  # fmt: skip


def _times_ready(part: Node) -> int:
    return sum(event["event"] == "node ready" for event in part.events()) if part.log.exists() else 0


def _journal(name: str) -> str:
    return f"journal-{name}"


@pytest.fixture
def apart(tmp_path: Path, postgres: Postgres, orthanc: Orthanc, fhir_server: FhirServer) -> Iterator[Apart]:
    url = postgres.create_database()
    parts = {name: _part(tmp_path, name, url, orthanc, fhir_server) for name in PARTS}
    one = Apart(parts, postgres, url, Site(parts["api"], orthanc, fhir_server))
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, url)
        for name, part in parts.items():
            stack.callback(part.kill9)
            one.start(name)
        yield one


def _part(folder: Path, name: str, database_url: str, pacs: Orthanc, ehr: FhirServer) -> Node:
    port = free_port()
    settings: dict[str, Any] = {
        "node": {"data_dir": str(folder / "shared"), "min_free_mb": 0},
        "database": {"url": database_url},
        "dicom": {"port": port, "journal": _journal(name)},
        "api": {"port": free_port()},
        "fhir": {"patient_system": PATIENT_SYSTEM, "accession_system": "urn:oid:2.25.78"},
        # A study that happens to be in work at several kills must not be given up: it is innocent of them.
        "inference": {"max_attempts": 10},
        "destination": [
            {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port},
            {"name": "ehr", "kind": "fhir", "url": ehr.url},
        ],
        "route": [{"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    }
    part = Node(folder / name, settings)
    part.data_dir, part.dicom_port, part.api_port = folder / "shared", port, settings["api"]["port"]
    return part


# --- faults: each has ended when its function returns ---------------------------------------------------------------


def _killed(apart: Apart, chance: random.Random) -> None:
    name = chance.choice(list(PARTS))
    apart.parts[name].kill9()
    apart.start(name)


def _database_restarted(apart: Apart, chance: random.Random) -> None:
    apart.postgres.stop()
    apart.postgres.start()


def _database_read_only(apart: Apart, chance: random.Random) -> None:
    apart.postgres.make_read_only(apart.database_url)
    time.sleep(chance.uniform(1.0, 4.0))
    apart.postgres.make_writable(apart.database_url)


def _connections_cut(apart: Apart, chance: random.Random) -> None:
    for _ in range(3):
        apart.postgres.end_clients(apart.database_url)
        time.sleep(chance.uniform(0.1, 0.5))


def _database_frozen(apart: Apart, chance: random.Random) -> None:
    with apart.postgres.frozen():
        time.sleep(chance.uniform(1.0, 6.0))


def _pacs_restarted(apart: Apart, chance: random.Random) -> None:
    apart.site.pacs.kill9()
    apart.site.pacs.start()


FAULTS = (_killed, _database_restarted, _killed, _database_read_only, _connections_cut, _database_frozen, _killed,
          _pacs_restarted)  # fmt: skip


def test_whatever_fails_in_a_node_of_eight_processes_nothing_is_lost_and_every_result_arrives_once(
    apart: Apart, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    phantoms: list[SentPhantom] = []
    for number in range(ROUNDS):
        phantom = SentPhantom.written(tmp_path, f"apart-{number}")
        apart.site.ehr.add_patient(PATIENT_SYSTEM, phantom.patient_id)
        receiver = apart.parts[RECEIVERS[number % 2]]
        sender = phantom.start_sending(receiver)
        time.sleep(chance.uniform(0.0, ROUND_S))
        FAULTS[number % len(FAULTS)](apart, chance)
        stored = acknowledged(sender)
        apart.wait_until_settled()
        assert stored <= phantom.kept_by(receiver.data_dir), f"round {number}: an acknowledged image is lost"
        # As a modality does: what was not acknowledged is sent again, to whichever receiver takes it.
        other = apart.parts[RECEIVERS[(number + 1) % 2]]
        wait_until(lambda sent=phantom, to=other: sent.send(to), 120, f"round {number}: the images to be taken", 1.0)
        phantoms.append(phantom)

    apart.wait_until_settled()
    for phantom in phantoms:
        finished = apart.site.finished(phantom.study_instance_uid, 900)
        assert finished["study"]["state"] == "REPORTED", apart.site.timeline(phantom.study_instance_uid)
    _assert_each_result_once(apart.site, phantoms)


@pytest.mark.parametrize("away_s", OUTAGES_S)
def test_after_an_outage_of_pacs_and_ehr_what_waits_arrives_at_once_and_the_urgent_first(
    apart: Apart, tmp_path: Path, away_s: float
) -> None:
    seeds = (("routine-1", "ROUTINE"), ("routine-2", "ROUTINE"), ("low", "LOW"), ("stat", "STAT"))
    phantoms = [SentPhantom.written(tmp_path, seed, priority) for seed, priority in seeds]
    site = apart.site
    site.pacs.stop()
    site.ehr.set(fail={"count": 1_000_000, "status": 503})
    away_since = time.monotonic()
    for phantom in phantoms:
        site.ehr.set(fail=None)
        site.ehr.add_patient(PATIENT_SYSTEM, phantom.patient_id)
        site.ehr.set(fail={"count": 1_000_000, "status": 503})
        assert phantom.send(apart.parts["receive-1"])
        wait_until(lambda one=phantom: _has_result(site, one), 300, "the analysis", 0.5)
    time.sleep(max(0.0, away_s - (time.monotonic() - away_since)))

    apart.parts["deliver-2"].stop()  # of two that send beside each other nobody can say which came first
    site.ehr.set(fail=None)
    site.pacs.start()
    for phantom in phantoms:
        site.finished(phantom.study_instance_uid, 60)
    _assert_each_result_once(site, phantoms)
    reports = [uid for uid, modality in _in_order_of_arrival(site.pacs) if modality == "SR"]
    assert reports[0] == phantoms[3].study_instance_uid, "the urgent study came first"
    assert reports[-1] == phantoms[2].study_instance_uid, "the least urgent came last"


def _has_result(site: Site, phantom: SentPhantom) -> bool:
    with site.node.api() as api:
        answer = api.get(f"/api/studies/{phantom.study_instance_uid}")
    return answer.status_code == 200 and bool(answer.json()["results"])


def _in_order_of_arrival(pacs: Orthanc) -> list[tuple[str, str]]:
    """Return study and modality of each object in the order in which the PACS has stored them."""
    changes = pacs.get("/changes?limit=100000")["Changes"]
    new = [change["ID"] for change in changes if change["ChangeType"] == "NewInstance"]
    return [(str(one.StudyInstanceUID), str(one.Modality)) for one in map(pacs.dataset, new)]


def _assert_each_result_once(site: Site, phantoms: list[SentPhantom]) -> None:
    """Each revision has one result with one SR; PACS and EHR have exactly those, each object stored once."""
    stored = _in_order_of_arrival(site.pacs)
    for phantom in phantoms:
        uid = phantom.study_instance_uid
        results = site.study(uid)["results"]
        made = Counter(a["kind"] for result in results for a in result["artifacts"] if a["kind"] != "FHIR")
        told = (made, site.timeline(uid))
        assert len({result["revision"] for result in results}) == len(results) == made["SR"], told
        assert sum(study == uid for study, _ in stored) <= sum(made.values()), told
        newest = max(results, key=lambda result: result["revision"])
        assert {"SR", "SEG", "FHIR"} <= {artifact["kind"] for artifact in newest["artifacts"]}, told
    assert len(site.ehr.all("DiagnosticReport")) == len(phantoms)
