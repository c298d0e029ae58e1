"""Every fault of an EHR at every moment of a delivery, with other servers' habits: in the end exactly one report.

A sample holds every fault, every moment and every habit at least once; a campaign holds every fault at every moment, on
whatever lay there before.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, product
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import Row, delete, update

from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.fhir.client.client import FhirClient
from dicom_node.index.decided import actions
from dicom_node.index.tables import artifacts, deliveries, destinations, events, results
from tests.integration.step_by_step_node import Site, site
from tests.peers.fhir_faults import MOMENTS, Fault, FaultyEhr, malformed, refusals, silences
from tests.peers.fhir_server import FhirServer
from tests.support.campaign import amount
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

SYSTEM = "urn:oid:1.2.3.99"
#: What servers are known for, as settings of the peer.
HABITS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "HAPI: ETag of versions, searches kept": {"etag": 'W/"VERSION"', "keepsSearches": True},
    "Spark: strong ETags": {"etag": '"VERSION"'},
    "Microsoft: one by one, If-Match ignored": {"transactions": False, "ignoreIfMatch": True},
    "Google: no search of Provenance": {"refuse": [{"method": "GET", "path": "^/Provenance$", "status": 400}]},
    "LinuxForHealth: nothing said of what was written": {"emptyAnswers": True},
    "no versions": {"transactions": False, "hidesVersions": True},
}
BEFORE = ("nothing", "an earlier report", "a final report")
FAULTS = (*refusals(), *silences(), *malformed())
#: Moments that come only while something is there already, and those of servers with and without transactions.
OF_UPDATES = {"report read again", "history"}
OF_TRANSACTIONS = {"transaction"}
OF_SINGLE_WRITES = {"observation written", "report written"}
SLOW_S, AMPLE_S = 1.0, 60.0


@dataclass(frozen=True)
class Cell:
    fault: Fault
    moment: str
    habit: str
    before: str

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.moment}, {self.habit.partition(':')[0]}, {self.before}"

    @property
    def comes_about(self) -> bool:
        one_by_one = HABITS[self.habit].get("transactions") is False
        return not (
            (self.moment in OF_UPDATES and self.before != "an earlier report")
            or (self.moment in OF_TRANSACTIONS and one_by_one)
            or (self.moment in OF_SINGLE_WRITES and not one_by_one)
        )


def sampled() -> Iterator[Cell]:
    """Yield a cell for each fault; moments, habits and what was there before take turns."""
    chance = random.Random(15)
    moments, habits, before = ([*names] for names in (MOMENTS, HABITS, BEFORE[:2]))
    for names in (moments, habits, before):
        chance.shuffle(names)
    turns = cycle(moments)
    for fault in FAULTS:
        moment = next(turns)
        cells = (Cell(fault, moment, *rest) for rest in product(habits, before))
        yield next(cell for cell in cells if cell.comes_about)
        habits.append(habits.pop(0))
        before.append(before.pop(0))
    yield from (Cell(FAULTS[0], "patient search", habit, BEFORE[2]) for habit in HABITS)


def everything() -> Iterator[Cell]:
    """Yield every fault at every moment on whatever was there before; habits take turns."""
    habits = [*HABITS]
    for fault, moment, before in product(FAULTS, MOMENTS, BEFORE):
        cells = (Cell(fault, moment, habit, before) for habit in habits)
        yield from [cell for cell in cells if cell.comes_about][:1]
        habits.append(habits.pop(0))


CELLS = [*amount(sampled, campaign=everything)()]


@pytest.fixture(scope="module")
def ehr(_shared_fhir_server: FhirServer) -> Iterator[FaultyEhr]:
    with FaultyEhr(_shared_fhir_server).running() as running:
        yield running


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    """A study whose PatientID has an issuer that FHIR knows."""
    study = small_chest_ct()[0]
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = SYSTEM.removeprefix("urn:oid:"), "ISO"
    for image in study:
        image.IssuerOfPatientIDQualifiersSequence = [issuer]
    return study


@pytest.fixture(scope="module")
def node(ehr: FaultyEhr, images: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node that owes the EHR the report on a study, and one that follows after a late image."""
    with site(tmp_path_factory.mktemp("node"), [{"name": "ehr", "kind": "fhir", "url": ehr.url}]) as one:
        for part in (images[:-1], images[-1:]):
            one.receive(part)
            one.analyse()
        yield one


def bundles(node: Site) -> list[dict[str, Any]]:
    """Return the two reports, the later one last."""
    order = {row.job_key: row.sequence for row in node.rows(results)}
    kept = sorted((row for row in node.rows(artifacts) if row.kind == "FHIR"), key=lambda row: order[row.job_key])
    return [json.loads(node.spool.path(row.object_key).read_bytes()) for row in kept]


def prepare(server: FhirServer, node: Site, cell: Cell, patient_id: str) -> dict[str, Any]:
    """Put into the EHR what is there before, and owe it the later report only; return a physician's own report."""
    server.reset()
    patient = server.add_patient(SYSTEM, patient_id)
    server.add_patient(SYSTEM, "somebody else")
    server.add(
        {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "CT chest"},
         "subject": {"reference": f"Patient/{patient}"}, "conclusion": "Emphysema."}
    )  # fmt: skip
    (physicians,) = server.all("DiagnosticReport")
    server.set(**HABITS[cell.habit])
    if cell.before != "nothing":
        with FhirClient(server.url) as client:
            client.send(bundles(node)[0])
    if cell.before == "a final report":
        (ours,) = (one for one in reports(server) if one["id"] != physicians["id"])
        server.replace({**ours, "status": "final"})
    newest = max(node.rows(results), key=lambda row: row.sequence).job_key
    with node.database.write() as connection:
        connection.execute(delete(destinations))
        connection.execute(delete(events))
        connection.execute(update(deliveries).values(state="SENT"))
        owed = {"state": "PENDING", "attempts": 0, "note": "", "lease_owner": "", "lease_until": None}
        connection.execute(update(deliveries).where(deliveries.c.job_key == newest).values(**owed))
    return physicians


def reports(server: FhirServer) -> list[dict[str, Any]]:
    server.set(keepsSearches=False, hidesVersions=False)
    return server.all("DiagnosticReport")


def deliver(node: Site, timeout_s: float) -> Row[Any]:
    """Make an attempt to deliver what is owed; return the row of the delivery."""
    (to,) = destinations_of(node.settings)
    worker = DestinationWorker(
        to.name, partial(to.sender, Caller("AINODE", timeout_s)), node.database, node.spool,
        OutboxPolicy("host:1", BackOff(60.0, 600.0)),
    )  # fmt: skip
    with node.database.write() as connection:
        connection.execute(update(deliveries).values(next_attempt_at=datetime.now(UTC)))
    while worker.deliver_once():
        pass
    newest = max(node.rows(results), key=lambda row: row.sequence).job_key
    (row,) = (row for row in node.rows(deliveries) if row.job_key == newest)
    return row


def retry(node: Site) -> None:
    with node.database.write() as connection:
        actions.retry_destination(connection, "ehr", SOMEBODY, datetime.now(UTC))


def assert_told(node: Site, row: Row[Any]) -> None:
    """Hold that an attempt that brought nothing is counted and told, in words that name nobody."""
    told = " ".join(event.text for event in node.rows(events))
    is_suspended = bool(node.rows(destinations))
    assert row.state in {"SENT", "PARKED"} or row.attempts > 0 or is_suspended
    assert row.state == "SENT" or row.note or is_suspended
    assert told or is_suspended
    assert "its log says where" not in told, "a fault of the node's own"
    assert "JANE" not in told + row.note


@pytest.mark.campaign
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_after_a_fault_and_its_end_the_ehr_has_exactly_one_report(
    ehr: FaultyEhr, node: Site, images: list[Dataset], cell: Cell
) -> None:
    server = ehr.server
    physicians = prepare(server, node, cell, str(images[0].PatientID))
    standing = reports(server)

    server.set(**HABITS[cell.habit])
    ehr.fail(cell.moment, cell.fault)
    try:
        row = deliver(node, SLOW_S if cell.fault.hangs else AMPLE_S)
    finally:
        ehr.mend()
    assert_told(node, row)
    retry(node)
    row = deliver(node, AMPLE_S)
    if row.state == "PENDING":  # what a proxy keeps for a moment
        row = deliver(node, AMPLE_S)

    if cell.before == "a final report":
        assert row.state == "PARKED"
        assert reports(server) == standing
        return
    assert row.state == "SENT", row.note
    assert_one_report(server, node, physicians)


def assert_one_report(server: FhirServer, node: Site, physicians: dict[str, Any]) -> None:
    """Hold that the later report and what it refers to is there once, beside what was not the node's."""
    (ours,) = (one for one in reports(server) if one["id"] != physicians["id"])
    assert physicians in reports(server)
    assert max(node.rows(results), key=lambda row: row.sequence).job_key in {n["value"] for n in ours["identifier"]}
    observations = {f"Observation/{one['id']}": one["status"] for one in server.all("Observation")}
    current = {place for place, status in observations.items() if status == "preliminary"}
    assert {one["reference"] for one in ours["result"]} == current
    (patient, somebody_else) = server.all("Patient")
    assert ours["subject"]["reference"] == f"Patient/{patient['id']}"
    everything = [*server.all("ImagingStudy"), *server.all("Observation"), *server.all("Provenance"), ours]
    assert f"Patient/{somebody_else['id']}" not in json.dumps(everything)
    assert len(server.all("ImagingStudy")) <= 1
    assert len(server.all("Device")) <= 1


def test_the_sample_holds_every_fault_moment_and_habit() -> None:
    cells = [*sampled()]

    assert {cell.fault.name for cell in cells} == {fault.name for fault in FAULTS}
    assert {cell.moment for cell in cells} == set(MOMENTS)
    assert {cell.habit for cell in cells} == set(HABITS)
    assert {cell.before for cell in cells} == set(BEFORE)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
