"""From arrival to delivery with the real parts, step by step: intake, sweep, job runner, worker process, outbox."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import Row, Table, select, update

from dicom_node.core.entities import Destination, MediaType, Route
from dicom_node.core.entities import SendingPeer as Modality
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds import AnyDestination
from dicom_node.deliver.kinds.kind import Caller, DestinationKind
from dicom_node.fhir.options import FhirOptions
from dicom_node.governance.admission import admit_any
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.jobs import claim
from dicom_node.index.received.associations import close_association
from dicom_node.index.tables import artifacts, deliveries, events, jobs, results, studies
from dicom_node.inference.cards.folders import find_models
from dicom_node.ingest.intake import Intake, IntakeLimits, Received
from dicom_node.jobs.planning import JobSettings
from dicom_node.jobs.runner import JobRunner
from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.jobs.tasks import Performed
from dicom_node.sandbox.host import ProcessLimits, Sandbox
from dicom_node.storage.spool import Spool
from tests.integration.crashing_perform import HUNGRY_STUDY, POISON_STUDY
from tests.peers.process import free_port
from tests.support.results.arrivals import opened_database
from tests.support.results.folders import objects_in
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

MAX_ATTEMPTS = 3
ASSOCIATION = "an-association"
ROUTE = Route(
    name="chest-ct", model="ct-lung-density", destinations=("pacs", "files"), when=({"modality": "CT"},),
    quiet_period_s=0.001,
)  # fmt: skip


@dataclass
class Pacs:
    """A PACS that can be away, and that may refuse; it notes what it was sent, in order."""

    port: int = field(default_factory=free_port)
    status: int = 0x0000
    full_for: str = ""
    received: list[Dataset] = field(default_factory=list)
    _server: Any = None

    def open(self) -> None:
        ae = AE("PACS")
        ae.supported_contexts = AllStoragePresentationContexts
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on)]
        )

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _on(self, event: Any) -> int:
        if event.dataset.StudyInstanceUID == self.full_for:
            return 0xA700
        if self.status == 0x0000:
            self.received.append(event.dataset)
        return self.status

    @property
    def modalities(self) -> list[str]:
        return [str(one.Modality) for one in self.received]


class Chain:
    """The node's parts, wired as `app` does, driven step by step."""

    def __init__(self, folder: Path, database: Database, worker: Sandbox, pacs: Pacs) -> None:
        self.folder, self.database, self.pacs = folder, database, pacs
        self.spool = Spool(folder / "spool")
        self.intake = Intake(database, self.spool, IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30), "receiver")
        cards = find_models(())
        self._sweep = CompletenessSweep(database, (ROUTE,), cards, lambda: None)
        (folder / "work").mkdir()
        self.job_runner = JobRunner(database, self.spool, cards, worker, _settings(folder / "work"))
        self.outbox = {name: self._worker(settings) for name, settings in self._destinations().items()}

    def _destinations(self) -> dict[str, DestinationKind]:
        dicom = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs.port}
        files = {"name": "files", "kind": "folder", "path": self.folder / "files"}
        return {
            str(one["name"]): TypeAdapter[DestinationKind](AnyDestination).validate_python(one)
            for one in (dicom, files)
        }

    def _worker(self, settings: DestinationKind) -> DestinationWorker:
        policy = OutboxPolicy("host:1", BackOff(60.0, 600.0))
        return DestinationWorker(
            settings.name, lambda: settings.sender(Caller("AINODE", 60.0)), self.database, self.spool, policy
        )

    def receive(self, images: Iterable[Dataset]) -> None:
        for image in images:
            assert self.intake.store(received(image)) == 0x0000
        with self.database.write() as connection:
            close_association(connection, ASSOCIATION, "released", datetime.now(UTC))

    def sweep(self) -> None:
        self._sweep.run()

    def analyse(self) -> None:
        """Work off the queue; waits between attempts are skipped."""
        while True:
            with self.database.write() as connection:
                connection.execute(update(jobs).values(not_before=datetime.now(UTC) - timedelta(seconds=1)))
            if not self.job_runner.work_once():
                return

    def deliver(self) -> None:
        """Deliver whatever is owed; waits between attempts are skipped."""
        with self.database.write() as connection:
            connection.execute(update(deliveries).values(next_attempt_at=datetime.now(UTC) - timedelta(seconds=1)))
        for worker in self.outbox.values():
            while worker.deliver_once():
                pass

    def run(self, images: Iterable[Dataset] = ()) -> None:
        self.receive(images)
        self.sweep()
        self.analyse()
        self.deliver()

    def rows(self, table: Table) -> list[Row[Any]]:
        with self.database.read() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def states(self, destination: str) -> list[str]:
        return [row.state for row in self.rows(deliveries) if row.destination == destination]

    def files(self) -> list[Path]:
        return objects_in(self.folder / "files") if (self.folder / "files").exists() else []

    def study_state(self, uid: str) -> str:
        return next(str(row.state) for row in self.rows(studies) if row.study_instance_uid == uid)


def _settings(work_dir: Path) -> JobSettings:
    return JobSettings(
        admit=admit_any,
        owner="host:1", work_dir=work_dir, ae_title="AINODE", intended_use="clinical", institution="",
        fhir=FhirOptions(), max_attempts=MAX_ATTEMPTS, lease_s=60.0,
        destinations={"chest-ct": [
            Destination(name="pacs", takes=frozenset({MediaType.DICOM})),
            Destination(name="files", takes=frozenset({MediaType.ANY})),
        ]},
        parameters={"chest-ct": {}}, routes={"chest-ct": ROUTE},
    )  # fmt: skip


def texts_of(report: Dataset) -> str:
    """Every value of a report as text; pydicom shortens long ones when it prints a data set."""
    return " ".join(str(element.value) for element in report.iterall() if element.VR == "UT")


def received(image: Dataset) -> Received:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, image)
    return Received(
        sop_class_uid=str(image.SOPClassUID),
        sop_instance_uid=str(image.SOPInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        data_set=buffer.getvalue(),
        sender=Modality("CT1", "AINODE", "127.0.0.1"),
        association_id=ASSOCIATION,
    )


@pytest.fixture(scope="module")
def worker() -> Iterator[Sandbox]:
    target, limits = "tests.integration.crashing_perform:perform", ProcessLimits(time_s=240, address_space_mb=12288)
    with Sandbox(target, answer=Performed, limits=limits) as sandbox:
        yield sandbox


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    pacs.open()
    yield pacs
    pacs.close()


@pytest.fixture
def chain(tmp_path: Path, worker: Sandbox, pacs: Pacs) -> Iterator[Chain]:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        chain = Chain(tmp_path, database, worker, pacs)
        yield chain
        chain.intake.close()


@pytest.fixture(scope="module")
def images() -> Sequence[Dataset]:
    return small_chest_ct()[0]


def test_a_study_is_reported_to_pacs_and_folder_in_order(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.run(images)
    assert chain.study_state(images[0].StudyInstanceUID) == "REPORTED"
    kinds = {row.uid: row.kind for row in chain.rows(artifacts)}
    assert sorted(set(kinds.values())) == ["FHIR", "SC", "SEG", "SR"]
    assert chain.pacs.modalities[-1] == "SR"
    assert chain.pacs.modalities.count("SR") == 1
    assert len(chain.pacs.received) == len(kinds) - 1
    assert len(chain.files()) == len(kinds)
    assert set(chain.states("pacs") + chain.states("files")) == {"SENT"}


def test_nothing_is_left_in_the_work_folder_or_half_written(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.run(images)
    assert chain.files()
    assert list((chain.folder / "work").iterdir()) == []
    assert list((chain.folder / "spool" / "incoming").iterdir()) == []


def test_late_images_bring_a_second_report_that_names_the_first(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.run(images[:-1])
    chain.run(images[-1:])
    first, second = [one for one in chain.pacs.received if one.Modality == "SR"]
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    predecessor = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert [(row.revision, row.sequence) for row in chain.rows(results)] in ([(1, 1), (2, 2)], [(2, 2), (1, 1)])
    assert chain.study_state(images[0].StudyInstanceUID) == "REPORTED"


def test_our_own_results_sent_back_by_the_pacs_start_nothing(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.run(images)
    before = len(chain.rows(artifacts))
    assert before > 3
    chain.run(chain.pacs.received)
    assert [row.revision for row in chain.rows(studies)] == [1]
    assert len(chain.rows(artifacts)) == before


def test_a_rerun_sends_the_same_bytes_again_and_makes_no_second_object(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.run(images)
    made, files = chain.rows(artifacts), {path: path.read_bytes() for path in chain.files()}
    received_uids = [str(one.SOPInstanceUID) for one in chain.pacs.received]
    with chain.database.write() as connection:
        actions.rerun_study(connection, images[0].StudyInstanceUID, None, SOMEBODY, datetime.now(UTC))
    chain.run()
    assert chain.rows(artifacts) == made
    assert {path: path.read_bytes() for path in chain.files()} == files
    assert [str(one.SOPInstanceUID) for one in chain.pacs.received] == received_uids * 2


def test_an_analysis_lost_before_it_was_saved_is_made_again_byte_for_byte(
    chain: Chain, images: Sequence[Dataset], worker: Sandbox
) -> None:
    """kill -9 between the end of the model and the saving: the second run must make the same objects."""
    chain.receive(images)
    chain.sweep()
    with chain.database.write() as connection:
        job = claim(connection, "host:dead", datetime.now(UTC), 0.001)
    assert job is not None
    (chain.folder / "lost").mkdir()
    plan = chain.job_runner._plan(job, chain.folder / "lost")
    assert plan is not None
    lost: Any = worker.run(plan.task)
    chain.analyse()
    kept = {row.uid: row.sha256 for row in chain.rows(artifacts)}
    assert {
        f.uid: hashlib.sha256((chain.folder / "lost" / f.name).read_bytes()).hexdigest() for f in lost.files
    } == kept
    assert [row.attempts for row in chain.rows(jobs)] == [2]


def test_a_study_that_kills_its_worker_is_given_up_with_a_notice_and_the_next_is_done(
    chain: Chain, images: Sequence[Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    poison = copy.deepcopy(list(images[:3]))
    for number, image in enumerate(poison):
        image.StudyInstanceUID = POISON_STUDY
        image.SOPInstanceUID = f"{POISON_STUDY}.{number}"
    chain.receive([*poison, *images])
    chain.sweep()
    chain.analyse()
    chain.deliver()
    assert chain.study_state(POISON_STUDY) == "FAILED"
    assert chain.study_state(images[0].StudyInstanceUID) == "REPORTED"
    failed = [row.text for row in chain.rows(events) if row.kind == "attempt-failed"]
    assert len(failed) == MAX_ATTEMPTS
    (given_up,) = [one for one in caplog.records if one.message == "job given up"]
    assert (given_up.levelname, vars(given_up)["study"]) == ("ERROR", POISON_STUDY)
    (notice,) = [o for o in chain.pacs.received if o.Modality == "SR" and o.StudyInstanceUID == POISON_STUDY]
    assert "given up" in str(notice) or "ANALYSIS_FAILED" in str(notice)
    assert "exited with status 11" in texts_of(notice)
    assert "Absence" not in str(notice)


def test_a_study_given_up_says_why_in_its_state_its_timeline_and_the_report(
    chain: Chain, images: Sequence[Dataset]
) -> None:
    """F20: it said "failed 3 times", and only the log knew which limit the model had met."""
    hungry = copy.deepcopy(images[0])
    hungry.StudyInstanceUID = HUNGRY_STUDY
    chain.run([hungry])
    why = "needed more than 12288 MB of memory"
    (job,) = chain.rows(jobs)
    assert (job.state, job.reason) == ("FAILED", "ANALYSIS_FAILED")
    assert f"failed {MAX_ATTEMPTS} times and was given up. The last attempt:" in job.message
    assert why in job.message
    assert [why in row.text for row in chain.rows(events) if row.kind in ("attempt-failed", "analysed")] == [True] * 4
    (notice,) = [one for one in chain.pacs.received if one.Modality == "SR"]
    assert why in texts_of(notice)


def test_an_orderly_stop_costs_the_study_no_attempt(chain: Chain, images: Sequence[Dataset], tmp_path: Path) -> None:
    """The node is stopped while a model runs: four restarts must not quarantine a study."""
    chain.receive(images)
    chain.sweep()
    for _ in range(MAX_ATTEMPTS + 1):
        sandbox = Sandbox("tests.integration.crashing_targets:perform", limits=ProcessLimits(time_s=60))
        sandbox.close()
        job_runner = JobRunner(chain.database, chain.spool, find_models(()), sandbox, _settings(tmp_path / "work"))
        job_runner.stop()
        assert job_runner.work_once()
    assert [row.attempts for row in chain.rows(jobs)] == [0]
    chain.analyse()
    assert chain.study_state(images[0].StudyInstanceUID) == "REPORTED"


def test_a_pacs_that_was_away_gets_everything_once_and_in_order(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.pacs.close()
    chain.run(images)
    for _ in range(7):
        chain.deliver()
    assert set(chain.states("pacs")) == {"PENDING"}
    assert set(chain.states("files")) == {"SENT"}
    chain.pacs.open()
    chain.deliver()
    chain.deliver()
    assert set(chain.states("pacs")) == {"SENT"}
    uids = [str(one.SOPInstanceUID) for one in chain.pacs.received]
    assert len(uids) == len(set(uids)) == len([r for r in chain.rows(artifacts) if r.kind != "FHIR"])
    assert chain.pacs.modalities[-1] == "SR"


def test_what_the_pacs_refuses_for_good_is_parked_until_a_human_asks(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.pacs.status = 0xA900
    chain.run(images)
    chain.deliver()
    assert set(chain.states("pacs")) == {"PARKED"}
    assert all("A900" in row.note for row in chain.rows(deliveries) if row.destination == "pacs")
    chain.pacs.status = 0x0000
    chain.deliver()
    assert chain.pacs.received == []
    with chain.database.write() as connection:
        actions.retry_study(connection, images[0].StudyInstanceUID, SOMEBODY, datetime.now(UTC))
    chain.deliver()
    assert set(chain.states("pacs")) == {"SENT"}
    assert chain.pacs.modalities[-1] == "SR"


def test_a_pacs_that_is_full_is_asked_again(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.pacs.status = 0xA700
    chain.run(images)
    assert set(chain.states("pacs")) == {"PENDING"}
    chain.pacs.status = 0x0000
    chain.deliver()
    chain.deliver()
    assert set(chain.states("pacs")) == {"SENT"}
    assert chain.pacs.modalities[-1] == "SR"


def test_one_object_the_pacs_cannot_take_does_not_hold_up_other_studies(
    chain: Chain, images: Sequence[Dataset]
) -> None:
    other = copy.deepcopy(list(images[:3]))
    for number, image in enumerate(other):
        image.StudyInstanceUID = f"{images[0].StudyInstanceUID}.1"
        image.SOPInstanceUID = f"{image.StudyInstanceUID}.{number}"
    chain.receive([*images, *other])
    chain.sweep()
    chain.analyse()
    chain.pacs.full_for = str(images[0].StudyInstanceUID)
    assert chain.outbox["pacs"].deliver_once()
    assert chain.outbox["pacs"].deliver_once()
    assert {one.StudyInstanceUID for one in chain.pacs.received} == {other[0].StudyInstanceUID}


def test_images_lost_from_the_disk_end_in_a_visible_failure(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.receive(images)
    chain.sweep()
    shutil.rmtree(chain.folder / "spool" / "objects")
    (chain.folder / "spool" / "objects").mkdir()
    chain.analyse()
    assert chain.study_state(images[0].StudyInstanceUID) == "NOT_ANALYSED"
    (job,) = chain.rows(jobs)
    assert (job.state, job.reason) == ("NOT_ANALYSABLE", "SOURCE_DAMAGED")
    chain.deliver()
    assert chain.pacs.modalities == ["SR"]


def test_a_result_lost_from_the_disk_is_parked_with_the_reason(chain: Chain, images: Sequence[Dataset]) -> None:
    chain.receive(images)
    chain.sweep()
    chain.analyse()
    for row in chain.rows(artifacts):
        chain.spool.path(row.object_key).unlink()
    chain.deliver()
    assert set(chain.states("pacs") + chain.states("files")) == {"PARKED"}
    assert all(row.note for row in chain.rows(deliveries))


def test_a_study_of_another_kind_is_told_as_not_analysed_never_as_negative(
    chain: Chain, images: Sequence[Dataset]
) -> None:
    """Three slices are no lungs: the answer is a reason, not a finding."""
    chain.run(images[:3])
    assert chain.study_state(images[0].StudyInstanceUID) == "NOT_ANALYSED"
    (result,) = chain.rows(results)
    assert (result.state, bool(result.reason)) == ("NOT_ANALYSABLE", True)
    assert result.summary.get("findings") in ([], None)
    assert "SR" in chain.pacs.modalities
