"""How fast one model is here: a fresh worker process asked for the same study again and again, cold and warm."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.core.entities import JobState
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import ModelCard
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.workers import Workers, WorkerSettings

_TARGET = "dicom_node.evaluation.model_bench:perform_and_weigh"
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a task came to, on which device, the processor time it took, and the most memory ever held there."""

    performed: Performed
    device: str
    processor_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What was measured; `warm_s` is each study's time after the first, from the request to the finished objects."""

    model: str
    version: str
    device: str
    images: int
    #: The first study: start of the process, libraries, weights, and the study itself.
    cold_s: float
    warm_s: Sequence[float]
    #: Median of each stage of the warm studies; `objects`: writing SR, SC, SEG and FHIR; `process`: between processes.
    stages_s: Mapping[str, float]
    peak_mb: int

    @property
    def study_s(self) -> float:
        """The median warm study."""
        return statistics.median(self.warm_s)

    @property
    def studies_per_s(self) -> float:
        """Warm studies one after the other."""
        return len(self.warm_s) / sum(self.warm_s)

    @property
    def images_per_s(self) -> float:
        """Images of warm studies one after the other."""
        return self.studies_per_s * self.images


def perform_and_weigh(task: Task) -> Weighed:
    """Perform a task; runs in the worker process."""
    from dicom_node.inference.workers.device import peak_bytes  # noqa: PLC0415 - the host needs neither
    from dicom_node.inference.workers.warm import models_at  # noqa: PLC0415
    from dicom_node.jobs.worker_process import perform  # noqa: PLC0415

    started = time.process_time()
    performed = perform(task)
    processor_s = time.process_time() - started
    device = models_at(task.place).device
    return Weighed(performed, device, processor_s, peak_bytes(device))


def bench(card: ModelCard, files: Sequence[SourceFile], settings: WorkerSettings, rounds: int) -> Bench:
    """Measure one cold and `rounds` warm studies of these files.

    Raises `NotAnalysable` when the model declines them, for that would measure the refusal, and `InferenceError`.
    """
    workers = Workers(settings, _TARGET, Weighed)
    try:
        runs = [_run(workers, card, files, number) for number in range(rounds + 1)]
    finally:
        workers.close()
    (cold_s, _), warm = runs[0], runs[1:]
    last = runs[-1][1]
    return Bench(
        model=card.name,
        version=card.version,
        device=last.device,
        images=len(files),
        cold_s=cold_s,
        warm_s=[seconds for seconds, _ in warm],
        stages_s=_stages(warm),
        peak_mb=last.peak_bytes // _MEGABYTE,
    )


def _run(workers: Workers, card: ModelCard, files: Sequence[SourceFile], number: int) -> tuple[float, Weighed]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        task = _task(card, files, Path(folder), number)
        started = time.perf_counter()
        weighed = cast(Weighed, workers.run(task))
        took_s = time.perf_counter() - started
    performed = weighed.performed
    if performed.state is JobState.NOT_ANALYSABLE:
        raise NotAnalysable(
            performed.reason, f"Model {card.name} declined the study: {performed.message} Name one it takes."
        )
    return took_s, weighed


def _task(card: ModelCard, files: Sequence[SourceFile], out_dir: Path, number: int) -> Task:
    context = ReportContext(
        job_key=f"{number:064x}",
        route_name="bench",
        started_at=datetime.now(UTC),
        ae_title="AINODE",
        node_uid=derived_uid("node", "bench"),
    )
    request = AnalysisRequest(context=context, model_dir=card.folder, files=tuple(files), out_dir=out_dir)
    # Any system will do: nothing leaves this machine.
    return Task(request=request, fhir=FhirOptions(patient_system="urn:oid:2.25.0"))


def _stages(warm: Sequence[tuple[float, Weighed]]) -> dict[str, float]:
    """Return the median of each stage, and of what lies between them."""
    found: dict[str, list[float]] = {}
    for took_s, weighed in warm:
        inside_s = cast(float, weighed.performed.summary["took_s"])
        stages = cast("Mapping[str, float]", weighed.performed.summary.get("stage_times_s", {}))
        rest = {"objects": inside_s - sum(stages.values()), "process": took_s - inside_s}
        for name, seconds in (*stages.items(), *rest.items()):
            found.setdefault(name, []).append(seconds)
    return {name: round(statistics.median(seconds), 4) for name, seconds in found.items()}
