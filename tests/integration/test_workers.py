"""Several worker processes: as many tasks at once, each where its model is warm, a crash only its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from dicom_node.analysis.context import AnalysisRequest, ReportContext
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import WorkerDied
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import load_card
from dicom_node.jobs.tasks import Performed, ReviewedAnswer, Task
from dicom_node.jobs.workers import Workers, WorkerSettings
from tests.support.models.model_folders import CLASSES, write_card
from tests.support.studies.data_factories import request_for

TARGET = "tests.integration.fake_workers:perform"
FHIR = FhirOptions(patient_system="urn:oid:2.25.1")


def task(action: str, model: str = "a", **code: str) -> Task:
    context = ReportContext(
        job_key="k", route_name=action, started_at=datetime(2026, 1, 1, tzinfo=UTC), ae_title="AINODE", node_uid="1.2"
    )
    request = AnalysisRequest(context=context, model_dir=Path(model), files=(), out_dir=Path())
    return Task(request=request, fhir=FhirOptions(), code=code)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers = Workers(WorkerSettings(device="cpu", count=3, time_limit_s=120, confined=False), TARGET, object)
    yield workers
    workers.close()


def run(workers: Workers, action: str, model: str = "a", **code: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", workers.run(task(action, model, **code)))


def test_no_process_starts_before_the_first_task_and_no_more_than_needed(three: Workers) -> None:
    assert three.process_ids == []

    pids = {run(three, "sleep 0")["pid"] for _ in range(4)}

    assert three.process_ids == list(pids)
    assert len(pids) == 1


def test_tasks_run_at_the_same_time_each_in_a_process_of_its_own(three: Workers, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda _: run(three, f"meet 3 {tmp_path}"), range(3)))

    assert len({one["pid"] for one in told}) == 3
    assert max(one["started"] for one in told) < min(one["ended"] for one in told)
    assert {one["worker"] for one in told} == {0, 1, 2}


def test_more_tasks_than_workers_wait_for_their_turn(three: Workers, tmp_path: Path) -> None:
    with ThreadPoolExecutor(7) as pool:
        told = list(pool.map(lambda _: run(three, f"meet 3 {tmp_path}"), range(7)))

    assert len({one["pid"] for one in told}) == 3


def test_a_task_goes_where_its_model_is_warm(three: Workers, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda model: run(three, f"meet 3 {tmp_path}", model), "abc"))
    home = dict(zip("abc", (one["pid"] for one in told), strict=True))

    again = {model: run(three, "sleep 0", model)["pid"] for model in "cbacab"}

    assert len(set(home.values())) == 3
    assert again == home


def test_a_model_in_another_state_gets_another_process_and_so_does_one_that_shares_a_changed_module() -> None:
    workers = Workers(WorkerSettings(device="cpu", count=1, time_limit_s=240, confined=False), TARGET, object)
    try:
        first = run(workers, "sleep 0", "a", a="1", module="1")["pid"]
        other = run(workers, "sleep 0", "b", b="1", module="1")["pid"]
        changed = run(workers, "sleep 0", "a", a="2", module="1")["pid"]
        again = run(workers, "sleep 0", "a", a="2", module="1")["pid"]
        shared = run(workers, "sleep 0", "b", b="1", module="2")["pid"]
    finally:
        workers.close()

    assert first == other
    assert changed == again
    assert len({first, changed, shared}) == 3


def test_what_a_person_reviewed_is_told_by_a_process_in_which_no_model_has_run() -> None:
    workers = Workers(WorkerSettings(device="cpu", count=1, time_limit_s=240, confined=False), TARGET, object)
    model = ModelIdentity(name="a", version="1", manufacturer="m", digest="d", device_uid="2.25.1")
    review = replace(task("sleep 0"), reviewed=ReviewedAnswer(model=model))
    try:
        first = run(workers, "sleep 0")["pid"]
        told = cast("Mapping[str, Any]", workers.run(review))["pid"]
        again = run(workers, "sleep 0")["pid"]
    finally:
        workers.close()

    assert told != first == again


PYTHON_MODEL = """
import numpy as np

from dicom_node.inference.prediction import Prediction


def answer(inputs, card, device):
    return [Prediction(scores=np.array({scores})) for _ in inputs]
"""
PYTHON_CARD = 'entry_point = "changing_model:answer"'


def test_a_python_model_that_was_changed_answers_with_its_new_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: the worker kept the module it had imported, and its answers were signed with the new digest."""
    module = tmp_path / "code" / "changing_model.py"
    module.parent.mkdir()
    monkeypatch.syspath_prepend(str(module.parent))
    folder = write_card(tmp_path / "models" / "changing", "python", top=PYTHON_CARD, more=CLASSES)
    request = request_for([chest_radiograph_phantom(rows=64, age="030Y")], folder, tmp_path / "study")
    workers = Workers(WorkerSettings(device="cpu", count=1, time_limit_s=240, models_dirs=(folder.parent,)))
    try:
        found = []
        for scores in ("[0.9, 0.1]", "[0.25, 0.75]"):
            module.write_text(PYTHON_MODEL.format(scores=scores))
            card = load_card(folder)
            given = replace(request, model_digest=card.digest, out_dir=tmp_path / scores)
            task = Task(request=given, fhir=FHIR, code=card.loaded_code())
            performed = cast(Performed, workers.run(task))
            found.append([one["probability"] for one in cast("list[Any]", performed.summary["findings"])])
    finally:
        workers.close()

    assert found == [[0.9, 0.1], [0.25, 0.75]]


def test_workers_share_the_cores(three: Workers) -> None:
    assert int(run(three, "sleep 0")["threads"]) >= 1


def test_a_crash_costs_only_its_own_task(three: Workers) -> None:
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(run, three, "sleep 2", model) for model in "ab"]
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            run(three, "segfault", "c")

    assert {other.result()["worker"] for other in others} <= {0, 1, 2}
    assert run(three, "sleep 0", "c")["pid"] > 0


def test_closing_cuts_every_task_off() -> None:
    workers = Workers(WorkerSettings(device="cpu", count=2, time_limit_s=240, confined=False), TARGET, object)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run, workers, "sleep 200", model) for model in "ab"]
        while len(workers.process_ids) < 2:
            assert not any(one.done() for one in running)
            time.sleep(0.01)
        workers.close()

        for one in running:
            with pytest.raises(WorkerDied):
                one.result(timeout=60)
