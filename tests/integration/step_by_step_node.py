"""A node of real parts whose model is a fixed answer, driven step by step: intake, sweep, job runner, outbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import Row, select, update

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import AnalysisRequest
from dicom_node.core.entities import Destination, Route
from dicom_node.deliver.dispatch.identity_check import identity_check
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.peer_capabilities import capability_probe
from dicom_node.deliver.profiles import profiles_of
from dicom_node.deliver.withdrawals import WithdrawalPlanner, speaker_of
from dicom_node.fhir.options import FhirOptions
from dicom_node.governance.admission import admit_any
from dicom_node.index.database import Database
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.notifications import subscribe
from dicom_node.index.received.associations import close_association
from dicom_node.index.tables import artifacts, deliveries, events, jobs, notifications
from dicom_node.inference.cards.folders import find_models
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.jobs import worker_process
from dicom_node.jobs.planning import JobSettings
from dicom_node.jobs.runner import JobRunner
from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.jobs.tasks import Task
from dicom_node.roles.settings import SiteSettings
from dicom_node.storage.spool import Spool
from tests.integration.test_analysis_chain import ASSOCIATION, received
from tests.support.results import analysis_examples as examples
from tests.support.results.arrivals import opened_database


def _answer(request: AnalysisRequest, **_: object) -> Analysis:
    """Answer about whatever was sent, as a model would that knows only one answer."""
    sources = sorted((dcmread(file.path) for file in request.files), key=lambda one: float(one.ImagePositionPatient[2]))
    return examples.ct_analysis(tuple(sources))


class Teller:
    """The worker process's work in this process, about the fixed answer."""

    def run(self, task: Task) -> object:
        with mock.patch.object(worker_process, "run_model", _answer):
            return worker_process.perform(task)


class Site:
    """One node; `destinations` are as in the settings, and can be changed between studies."""

    def __init__(self, folder: Path, database: Database, destinations: Sequence[Mapping[str, Any]]) -> None:
        self.folder, self.database = folder, database
        self.spool = Spool(folder / "spool")
        self.intake = Intake(database, self.spool, IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30), "receiver")
        self.cards = find_models(())
        (folder / "work").mkdir()
        self.configure(destinations)

    def configure(
        self,
        destinations: Sequence[Mapping[str, Any]],
        route_name: str = "chest",
        when: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> None:
        """Start anew with other settings, on the same data."""
        self.settings = SiteSettings.model_validate(
            {"destination": destinations, "delivery": {"ask_again_s": 3600, "timeout_s": 60}} | sections
        )
        profiles = profiles_of(self.settings)
        configured = destinations_of(self.settings)
        names = [Destination(name=one.name, takes=one.takes) for one in configured]
        route = Route(
            name=route_name, model="ct-lung-density", destinations=tuple(one.name for one in names),
            when=(when or {"modality": "CT"},), quiet_period_s=0.001,
        )  # fmt: skip
        self._sweep = CompletenessSweep(self.database, (route,), self.cards, lambda: None)
        settings = JobSettings(
            admit=admit_any, owner="host:1", work_dir=self.folder / "work", ae_title="AINODE",
            institution=self.settings.node.institution, intended_use="clinical", fhir=FhirOptions(), max_attempts=1,
            lease_s=60.0, parameters={}, destinations={route_name: names}, profiles=profiles,
            routes={route_name: route},
        )  # fmt: skip
        self._job_runner = JobRunner(self.database, self.spool, self.cards, Teller(), settings)
        self.peers = {one.name: capability_probe(one, profiles, self.settings) for one in configured}
        self._outbox = [
            DestinationWorker(
                one.name, partial(one.sender, Caller("AINODE", 60.0)), self.database, self.spool,
                OutboxPolicy(
                    "host:1", BackOff(60.0, 600.0), self.peers[one.name], None, self._withdrawals(),
                    identity_check(one, self.settings), tells_events=one.told_in_events is not None,
                ),
            )
            for one in configured
        ]  # fmt: skip
        with self.database.write() as connection:
            heard = [one for one in configured if one.told_in_events is not None]
            subscribe(connection, [Subscriber(one.name, (), one.told_in_events or ()) for one in heard])

    def _withdrawals(self) -> WithdrawalPlanner:
        return WithdrawalPlanner(profiles_of(self.settings), speaker_of(self.settings))

    def sweep(self) -> None:
        """Look once at what may be complete."""
        self._sweep.run()

    def ask(self) -> None:
        """Let every destination be asked that is due."""
        for peer in self.peers.values():
            if peer is not None:
                peer.ask_if_due(self.database)

    def receive(self, images: Iterable[Dataset]) -> None:
        for image in images:
            assert self.intake.store(received(image)) == 0x0000
        with self.database.write() as connection:
            close_association(connection, ASSOCIATION, "released", datetime.now(UTC))
        self._sweep.run()

    def analyse(self) -> int:
        """Work off the queue; return how many jobs that were."""
        done = 0
        while self._job_runner.work_once():
            done += 1
        return done

    def deliver(self) -> None:
        """Deliver what is owed; waits between attempts are skipped."""
        with self.database.write() as connection:
            for table in (deliveries, notifications):
                connection.execute(update(table).values(next_attempt_at=datetime.now(UTC) - timedelta(seconds=1)))
        for worker in self._outbox:
            worker.plan_withdrawals()
            while worker.deliver_once():
                pass

    def settle(self) -> None:
        """Analyse and deliver until nothing is queued."""
        for _ in range(9):
            self.analyse()
            self.deliver()
            if not any(row.state == "QUEUED" for row in self.rows(jobs)):
                return
        raise AssertionError("the site never comes to rest")

    def run(self, images: Iterable[Dataset]) -> None:
        self.receive(images)
        self.settle()

    def rows(self, table: Any) -> list[Row[Any]]:
        with self.database.read() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def kinds_of(self, destination: str) -> list[str]:
        """Which kinds are owed to or arrived at a destination, with their state where they did not arrive."""
        kinds = {row.uid: row.kind for row in self.rows(artifacts)}
        return [
            kinds[row.artifact_uid] + ("" if row.state == "SENT" else f" {row.state}")
            for row in self.rows(deliveries)
            if row.destination == destination
        ]

    def told(self, kind: str) -> list[str]:
        """The timeline's texts of one kind."""
        return [row.text for row in self.rows(events) if row.kind == kind]


@contextmanager
def site(folder: Path, destinations: Sequence[Mapping[str, Any]]) -> Iterator[Site]:
    folder.mkdir(parents=True, exist_ok=True)
    with opened_database(f"sqlite:///{folder / 'node.sqlite'}") as database:
        one = Site(folder, database, destinations)
        try:
            yield one
        finally:
            one.intake.close()
