"""The role `infer`: as many job runners as there are workers take jobs from the queue until the node stops."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import IndexUnavailable, SpoolUnavailable
from dicom_node.deliver.profiles import profiles_of
from dicom_node.end import VitalThread
from dicom_node.fhir.options import fhir_options
from dicom_node.governance.admission import Standing
from dicom_node.jobs.planning import JobSettings
from dicom_node.jobs.runner import JobRunner
from dicom_node.jobs.workers import Workers, WorkerSettings
from dicom_node.roles.node import Node, destinations_of_route
from dicom_node.roles.role import Role
from dicom_node.sandbox import confinement
from dicom_node.storage.folder import make_private

_IDLE_POLL_S, _DISK_RETRY_S = 1.0, 10.0
_END_S = 10.0
_log = logging.getLogger(__name__)


class InferRole(Role):
    """One thread for each task the workers can take; every role is woken after each job: its results may leave."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        super().__init__(node, wake_all)
        self._workers = Workers(_worker_settings(node))
        self._job_runner = JobRunner(node.database, node.spool, node.cards, self._workers, _job_settings(node))
        self._database_away = OutageLog(_log, "job runner waits for the database", "job runner has the database again")
        self._disk_full = OutageLog(_log, "job runner waits for the disk", "job runner has room again")
        self._stop = threading.Event()
        self._wakes = [threading.Event() for _ in range(self._workers.capacity)]
        self._threads = [
            VitalThread(self._work, f"job-runner-{number}", wake) for number, wake in enumerate(self._wakes)
        ]

    def start(self) -> Mapping[str, int]:
        """Begin to take jobs; worker processes start with the first."""
        make_private(self._node.work_dir.parent)
        make_private(self._node.work_dir)
        self._remove_what_the_dead_left()
        self._log_refused_models()
        self._tell_confinement()
        for thread in self._threads:
            thread.start()
        return {}

    def _remove_what_the_dead_left(self) -> None:
        """Remove the folders of jobs that nobody works on any more; what a crash left there is patient data."""
        living = {owner.token for owner in self._node.owners.living()}
        for folder in self._node.work_dir.parent.iterdir():
            if folder.name not in living:
                shutil.rmtree(folder, ignore_errors=True)

    def _log_refused_models(self) -> None:
        """Log at the start which models of routes will not run; their jobs say so too."""
        for name in sorted({route.model for route in self._node.routes}):
            standing = self._node.admission.standing(self._node.cards[name])
            if standing.standing is not Standing.LIVE:
                _log.error("model refused", extra={"model": name, "standing": standing.standing, "why": standing.text})

    def _tell_confinement(self) -> None:
        """Say at the start what the code of models can do here; where it must not, `governance` lets no model run."""
        confine = self._node.settings.inference.confine
        if confine == "off" or confinement.lacking():
            _log.warning("models not confined", extra={"why": confinement.told(confine)})

    def wake(self) -> None:
        """Something was queued: look now instead of at the next poll."""
        for wake in self._wakes:
            wake.set()

    def stop(self) -> None:
        """Cut off what runs and give it back to the queue."""
        self._stop.set()
        self._job_runner.stop()
        self.wake()
        self._workers.close()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in filter(VitalThread.is_alive, self._threads):
            thread.join(_END_S)

    def _work(self, wake: threading.Event) -> None:
        while not self._stop.is_set():
            wake.clear()
            try:
                worked = self._job_runner.work_once()
                self._database_away.worked()
                self._disk_full.worked()
            except IndexUnavailable as error:
                self._database_away.failed(str(error), {})
                worked = False
            except SpoolUnavailable as error:
                self._disk_full.failed(str(error), {})
                self._stop.wait(_DISK_RETRY_S)
                worked = False
            if worked:
                self._wake_all()
            else:
                wake.wait(_IDLE_POLL_S)


def _worker_settings(node: Node) -> WorkerSettings:
    inference = node.settings.inference
    return WorkerSettings(
        device=inference.device,
        count=inference.workers,
        model_budget_mb=inference.model_budget_mb,
        memory_limit_mb=inference.memory_limit_mb,
        time_limit_s=inference.time_limit_s,
        batch_studies=inference.batch_studies,
        confined=inference.confine != "off",
        folder=node.work_dir / "workers",
        models_dirs=node.settings.models_dirs,
    )


def _job_settings(node: Node) -> JobSettings:
    """Return what shapes the job runner's jobs, from the settings; what depends on routes is looked up for each job."""
    settings = node.settings
    return JobSettings(
        owner=node.identity,
        work_dir=node.work_dir,
        ae_title=settings.node.ae_title,
        intended_use=settings.node.intended_use,
        institution=settings.node.institution,
        fhir=fhir_options(settings),
        time_zone_name=settings.node.time_zone,
        heat_maps=settings.results.heat_maps,
        patient_authority=settings.hl7.patient_authority,
        max_attempts=settings.inference.max_attempts,
        lease_s=settings.inference.lease_s,
        destinations={},
        parameters={},
        admit=node.admission.admit,
        with_present_routes=partial(_with_present_routes, node),
    )


def _with_present_routes(node: Node, settings: JobSettings) -> JobSettings:
    """Return the settings of jobs with the routes and destinations as they are now."""
    present = node.in_force.now()
    return replace(
        settings,
        destinations={route.name: destinations_of_route(present.settings, route) for route in present.settings.route},
        parameters={route.name: route.parameters for route in present.settings.route},
        routes={route.name: route for route in present.routes},
        profiles=profiles_of(present.settings),
    )
