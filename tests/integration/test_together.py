"""Several studies through one network call: answers as if each were alone, failures each study's own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import pydicom
import pytest
import torch

from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.core.errors import InferenceError, NotAnalysable
from dicom_node.core.progress import told_to
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.prediction import Explanation, LoadedModel, ModelInput, Prediction
from dicom_node.inference.workers.together import asked_together, run_together
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.workers import Workers, WorkerSettings
from tests.peers.process import wait_until

MODEL = SHIPPED_MODELS / "cxr-pneumonia"


class Network:
    """A real network that notes how many inputs each call had, and refuses a negative image."""

    batch_limit = 4
    size_bytes = 0

    def __init__(self) -> None:
        torch.manual_seed(1)
        self._layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
            torch.nn.Linear(4, 2),
        ).eval()  # fmt: skip
        self.calls: list[int] = []

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        self.calls.append(len(inputs))
        if any(one.values.min() < 0 for one in inputs):
            raise NotAnalysable("NEGATIVE", "An image is negative.")
        with torch.no_grad():
            scores = self._layers(torch.stack([torch.from_numpy(one.values) for one in inputs]))
        return [Prediction(scores=row.numpy()) for row in scores]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        return Explanation(map=one.values[output_index], method="the input itself")


def image(seed: int) -> ModelInput:
    return ModelInput(values=np.random.default_rng(seed).random((1, 16, 16), dtype=np.float32))


def scores_of(model: LoadedModel, *images: ModelInput) -> Callable[[], list[float] | str]:
    """Make a work that asks the model once for all its images, and answers an error with its text."""

    def work() -> list[float] | str:
        try:
            found = asked_together(model).predict(images)
        except NotAnalysable as error:
            return str(error)
        return [float(one.scores[1]) for one in found if one.scores is not None]

    return work


def test_works_that_ask_one_model_share_its_calls_and_get_their_own_answers() -> None:
    alone, together = Network(), Network()
    images = [image(seed) for seed in range(6)]

    shared = run_together([scores_of(together, one) for one in images])

    assert together.calls == [4, 2]
    assert shared == [[pytest.approx(scores_of(alone, one)()[0], abs=1e-6)] for one in images]


def test_a_work_with_several_images_gets_them_all_in_order() -> None:
    model = Network()
    first, second = run_together([scores_of(model, image(1), image(2), image(3)), scores_of(model, image(4))])

    assert len(first) == 3
    assert first[2] == pytest.approx(scores_of(Network(), image(3))()[0], abs=1e-6)
    assert len(second) == 1


def test_an_image_the_model_refuses_is_refused_for_its_own_work_only() -> None:
    model = Network()
    bad = ModelInput(values=-np.ones((1, 16, 16), np.float32))

    told = run_together([scores_of(model, image(1)), scores_of(model, bad), scores_of(model, image(2))])

    assert told[1] == "An image is negative."
    assert [told[0], told[2]] == [[pytest.approx(scores_of(Network(), image(seed))()[0])] for seed in (1, 2)]


def test_a_work_that_never_asks_or_fails_before_holds_nobody_up() -> None:
    model = Network()

    def breaks() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_together([scores_of(model, image(1)), breaks, lambda: "nothing asked"])
    assert run_together([lambda: "nothing asked", scores_of(model, image(1))])[0] == "nothing asked"


def test_only_one_work_runs_at_a_time() -> None:
    running: list[int] = []
    model = Network()

    def work(number: int) -> int:
        for _ in range(3):
            running.append(number)
            assert len(running) == 1
            torch.ones(200, 200).mm(torch.ones(200, 200))
            running.remove(number)
            asked_together(model).predict([image(number)])
        return number

    assert run_together([lambda n=n: work(n) for n in range(5)]) == [0, 1, 2, 3, 4]


# --- studies ---


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[SourceFile]:
    folder = tmp_path_factory.mktemp("studies")
    files = []
    for number in range(5):
        shown = chest_radiograph_phantom(f"together-{number}", rows=200 + 40 * number)
        path = folder / f"{number}.dcm"
        pydicom.dcmwrite(path, shown, enforce_file_format=True)
        files.append(
            SourceFile(
                path=path,
                sop_instance_uid=str(shown.SOPInstanceUID),
                series_instance_uid=str(shown.SeriesInstanceUID),
            )
        )
    files[3].path.write_bytes(files[3].path.read_bytes()[:-20_000])  # cut off inside its pixels
    return files


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(WorkerSettings(device="cpu", count=1, batch_studies=8), "tests.integration.sharing_work:work")
    yield made
    made.close()


def task(file: SourceFile, out_dir: Path, route: str = "r") -> Task:
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    context = ReportContext(
        job_key=file.sop_instance_uid, route_name=route, started_at=datetime(2026, 1, 1, tzinfo=UTC),
        ae_title="AINODE", node_uid="1.2.3",
    )  # fmt: skip
    request = AnalysisRequest(context=context, model_dir=MODEL, files=(file,), out_dir=out_dir)
    return Task(request=request, fhir=FhirOptions(patient_system="urn:oid:2.25.1"), may_share=True)


def told(performed: Performed, folder: Path) -> dict[str, object]:
    """What must not depend on who shared the call: the answer, and every byte that was written."""
    files = {one.name: (folder / one.name).read_bytes() for one in performed.files}
    return {
        "state": performed.state,
        "reason": performed.reason,
        "findings": performed.summary["findings"],
        "files": files,
    }


def all_at_once(workers: Workers, tasks: Sequence[Task], heard: Sequence[list[str]] = ()) -> list[object]:
    """Bring a task that occupies the worker first, so that the others wait for it together; `heard` gets the steps of
    each."""
    heard = heard or [[] for _ in tasks]
    with ThreadPoolExecutor(len(tasks)) as pool:
        first = pool.submit(_caught, workers, tasks[0], heard[0])
        wait_until(lambda: any(_at_work(workers)), 120, "the first task to be worked at")
        (note,) = _at_work(workers)
        futures = [first, *(pool.submit(_caught, workers, *one) for one in zip(tasks[1:], heard[1:], strict=True))]
        wait_until(lambda: len(workers._waiting) == len(tasks) - 1, 120, "the others to wait")
        note.with_name("go").touch()
        return [future.result() for future in futures]


def _at_work(workers: Workers) -> list[Path]:
    """Return the notes of tasks that are worked at, which lie in the worker's own folder."""
    return list(workers._folder.glob("worker-0/out/*/shared-by"))


def _caught(workers: Workers, one: Task, heard: list[str]) -> object:
    try:
        with told_to(heard.append):
            return workers.run(one)
    except InferenceError as error:
        return str(error)


def test_every_study_gets_the_same_answer_and_the_same_bytes_as_alone(
    workers: Workers, studies: list[SourceFile], tmp_path: Path
) -> None:
    alone = []
    for number, file in enumerate(studies):
        performed = cast(Performed, workers.run(task(file, tmp_path / f"alone-{number}")))
        alone.append(told(performed, tmp_path / f"alone-{number}"))
    (blocker, *shared) = all_at_once(
        workers,
        [task(studies[0], tmp_path / "blocker", "slow")]
        + [task(file, tmp_path / f"shared-{number}") for number, file in enumerate(studies)],
    )

    assert isinstance(blocker, Performed)
    together = [told(cast(Performed, one), tmp_path / f"shared-{number}") for number, one in enumerate(shared)]
    assert together == alone
    assert [one["state"] for one in alone].count("NOT_ANALYSABLE") == 1
    assert max(_shared_calls(tmp_path)) == 5


def test_each_of_several_hears_of_its_own_steps(workers: Workers, studies: list[SourceFile], tmp_path: Path) -> None:
    heard: list[list[str]] = [[] for _ in range(4)]
    chosen = [studies[0], studies[1], studies[3], studies[2]]  # the third is declined when its pixels are read
    tasks = [task(one, tmp_path / str(number), "r" if number else "slow") for number, one in enumerate(chosen)]
    all_at_once(workers, tasks, heard)
    told_each = [list(dict.fromkeys(one)) for one in heard]
    whole = ["running", "building"]
    assert told_each == [["loading", *whole], whole, whole, whole]
    assert max(_shared_calls(tmp_path)) == 3


def _shared_calls(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("*/shared-by")]


def test_a_study_that_kills_the_process_costs_those_who_shared_it_nothing(
    workers: Workers, studies: list[SourceFile], tmp_path: Path
) -> None:
    whole = [studies[0], studies[1], studies[2]]
    answers = all_at_once(
        workers,
        [task(whole[0], tmp_path / "blocker", "slow")]
        + [task(file, tmp_path / str(number), "crash" if number == 1 else "r") for number, file in enumerate(whole)],
    )

    assert [isinstance(one, Performed) for one in answers] == [True, True, False, True]
    assert signal.Signals.SIGSEGV.name in str(answers[2])
    assert os.getpid() not in workers.process_ids
