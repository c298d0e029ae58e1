"""Each stage of an analysis is told while the worker process really is in it, to whoever follows the analysis."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.entities import JobStage
from dicom_node.index.tables import jobs
from dicom_node.jobs.runner import JobRunner
from dicom_node.jobs.workers import Workers, WorkerSettings
from tests.integration.test_analysis_chain import Chain, Pacs
from tests.peers.process import wait_until
from tests.support.api_client import TOKEN, parts_over
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct

LIMIT_S = 120


class Follower:
    """Follows a job by the API, in a thread; `heard` has the stages so far."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self.states: list[str] = []
        self._url = url
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        shown = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.stream("GET", self._url, headers=shown, timeout=LIMIT_S, trust_env=False) as stream:
            for line in stream.iter_lines():
                if line.startswith('data: {"id'):
                    job = json.loads(line.removeprefix("data: "))
                    self.states.append(job["state"])
                    self.heard.append(job["stage"])

    def wait_for(self, stage: str) -> None:
        """Wait until it has heard of a stage."""
        wait_until(lambda: stage in self.heard, LIMIT_S, f"the follower to hear of {stage}")

    def wait_for_end(self) -> None:
        """Wait until nothing more is told."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    workers = Workers(WorkerSettings(device="cpu", count=1, time_limit_s=240))
    pacs = Pacs()
    pacs.open()
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        yield Chain(tmp_path, database, workers, pacs)
    pacs.close()
    workers.close()


@pytest.fixture
def api(chain: Chain, tmp_path: Path) -> Iterator[str]:
    server = ApiServer(create_app(parts_over(chain.database, tmp_path)), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/api/v1/jobs"
    server.stop()


def slowly(monkeypatch: pytest.MonkeyPatch, follower: Follower) -> None:
    """Have the node go on when the follower has heard of the stage: it looks once a second, stages may be shorter."""
    plan: Callable[..., Any] = JobRunner._plan
    enter: Callable[..., Any] = JobRunner._enter

    def plan_when_heard(self: JobRunner, *about: Any) -> Any:
        follower.wait_for(JobStage.PLANNING)
        return plan(self, *about)

    def enter_and_wait(self: JobRunner, job: Any, stage: JobStage) -> None:
        enter(self, job, stage)
        follower.wait_for(stage)

    monkeypatch.setattr(JobRunner, "_plan", plan_when_heard)
    monkeypatch.setattr(JobRunner, "_enter", enter_and_wait)


def test_who_follows_an_analysis_hears_of_loading_running_and_building(
    chain: Chain, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.receive(small_chest_ct()[0])
    chain.sweep()
    (job,) = chain.rows(jobs)
    follower = Follower(f"{api}/{job.id}/events")
    follower.wait_for("queued")
    slowly(monkeypatch, follower)
    chain.analyse()
    follower.wait_for_end()
    assert follower.heard == ["queued", "planning", "loading", "running", "building", "saving", "delivering"]
    assert follower.states == ["QUEUED", *["RUNNING"] * 5, "DONE"]


def test_a_model_that_is_in_memory_is_not_loaded_and_what_nobody_analyses_is_only_built(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[tuple[int, str]] = []
    monkeypatch.setattr(JobRunner, "_enter", lambda _, job, stage: entered.append((job.id, str(stage))))
    for study in ("first", "second"):
        chain.run(small_chest_ct(study)[0])
    of_a_dog = small_chest_ct("third")[0]
    for image in of_a_dog:
        image.PatientSpeciesDescription = "Canis lupus familiaris"
    chain.run(of_a_dog)
    first, second, third = ([stage for id_, stage in entered if id_ == job.id] for job in chain.rows(jobs))
    assert first == ["loading", "running", "building", "saving"]
    assert second == ["running", "building", "saving"]
    assert third == ["building", "saving"], "the gate declines it before the model is asked"
