"""The node's inference against a bare MONAI loop over the same model and files, in one run.

    python -m benchmarks.inference [--model cxr-pneumonia] [--files FOLDER] [--studies 20] [--rounds 5]
        [--quick] [--json FILE]

Every study is one radiograph; without `--files` phantoms of `--rows` squared are made. Both sides run in a process of
their own with the same threads, take the files in the same order, and turn about round by round, so that a busy machine
slows both. The bare loop reads by MONAI's PydicomReader and runs the bundle's own transforms and network, once without
and once with MONAI's Grad-CAM. Of the node two things are timed: its own stages up to the answer (headers, gate, read,
infer), and whole studies, from the request to finished SR, SC and FHIR.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pydicom

from benchmarks.bare_monai import Asked, Looped
from benchmarks.command_line import keep, parser_of
from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.core.entities import JobState
from dicom_node.core.uids import derived_uid
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.evaluation.model_bench import Weighed
from dicom_node.fhir.options import FhirOptions
from dicom_node.governance.golden import files_in
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import find_models
from dicom_node.jobs.tasks import Task
from dicom_node.jobs.workers import Workers, WorkerSettings
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_ANSWER_STAGES = ("headers", "load", "read", "infer")


@dataclass(frozen=True, slots=True)
class NodeRound:
    """One round through the node: each whole study, by the clock and the processor; its stages; peak memory."""

    whole_s: Sequence[float]
    processor_s: Sequence[float]
    answer_s: Sequence[float]
    stages_s: Mapping[str, float]
    peak_bytes: int


class NodeSide:
    """The node's worker, asked as the job runner asks it."""

    def __init__(self, card: ModelCard, device: str) -> None:
        self._card = card
        self._workers = Workers(
            WorkerSettings(device=device, count=1, models_dirs=(card.folder.parent,)),
            "dicom_node.evaluation.model_bench:perform_and_weigh",
            Weighed,
        )

    def round(self, files: Sequence[SourceFile]) -> NodeRound:
        """Take one study after the other."""
        whole, weighed = zip(*(self._study(file) for file in files), strict=True)
        stages = [cast("Mapping[str, float]", one.performed.summary["stage_times_s"]) for one in weighed]
        answers = [sum(one.get(name, 0.0) for name in _ANSWER_STAGES) for one in stages]
        medians = {name: statistics.median(one[name] for one in stages) for name in stages[0]}
        return NodeRound(whole, [one.processor_s for one in weighed], answers, medians, weighed[-1].peak_bytes)

    def _study(self, file: SourceFile) -> tuple[float, Weighed]:
        with tempfile.TemporaryDirectory() as folder:
            task = self._task(file, Path(folder))
            started = time.perf_counter()
            weighed = cast(Weighed, self._workers.run(task))
            took_s = time.perf_counter() - started
        if weighed.performed.state is JobState.NOT_ANALYSABLE:
            raise SystemExit(f"{file.path} was declined: {weighed.performed.message}")
        return took_s, weighed

    def _task(self, file: SourceFile, out_dir: Path) -> Task:
        context = ReportContext(
            job_key=derived_uid("bench", file.sop_instance_uid), route_name="bench", started_at=datetime.now(UTC),
            ae_title="AINODE", node_uid=derived_uid("node", "bench"),
        )  # fmt: skip
        request = AnalysisRequest(context=context, model_dir=self._card.folder, files=(file,), out_dir=out_dir)
        return Task(request=request, fhir=FhirOptions(patient_system="urn:oid:2.25.0"))

    def close(self) -> None:
        """End the worker."""
        self._workers.close()


def measure(card: ModelCard, files: Sequence[SourceFile], rounds: int, device: str) -> dict[str, Any]:
    """Return every figure by name; ratios are medians of the rounds' own ratios."""
    assert card.weights_file is not None
    paths = [file.path for file in files]
    plain = Asked(card.folder, card.weights_file, paths, device)
    mapped = Asked(card.folder, card.weights_file, paths, device, card.explain.get("layer", ""))
    node = NodeSide(card, device)
    with Sandbox("benchmarks.bare_monai:loop", answer=Looped, limits=ProcessLimits(time_s=3600)) as bare:

        def looped(asked: Asked) -> Looped:
            return cast(Looped, bare.run(asked))

        cold = {"bare": _timed(lambda: looped(Asked(card.folder, card.weights_file, paths[:1], device))),
                "node": _timed(lambda: node.round(files[:1]))}  # fmt: skip
        _ = looped(mapped), node.round(files)  # warm caches, allocators and the file cache of both
        told = [(looped(plain), looped(mapped), node.round(files)) for _ in range(rounds)]
    node.close()
    return {"cold_s": cold, **_figures(told)}


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _figures(told: Sequence[tuple[Looped, Looped, NodeRound]]) -> dict[str, Any]:
    studies = len(told[0][0].seconds)
    overheads = _differences([(node.whole_s, mapped.seconds) for _, mapped, node in told])
    processor = _differences([(node.processor_s, mapped.processor_s) for _, mapped, node in told])
    rates = {
        "bare": [studies / sum(plain.seconds) for plain, _, _ in told],
        "bare with Grad-CAM": [studies / sum(mapped.seconds) for _, mapped, _ in told],
        "node, to the answer": [studies / sum(node.answer_s) for _, _, node in told],
        "node, whole study": [studies / sum(node.whole_s) for _, _, node in told],
    }
    ratios = [node / bare for node, bare in zip(rates["node, to the answer"], rates["bare"], strict=True)]
    return {
        "images_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "ratio, node to the answer / bare": statistics.median(ratios),
        "study_ms, node": 1000 * statistics.median(s for _, _, node in told for s in node.whole_s),
        "study_ms, node, in processor time": 1000
        * statistics.median(s for _, _, node in told for s in node.processor_s),
        "study_ms, bare with Grad-CAM": 1000 * statistics.median(s for _, mapped, _ in told for s in mapped.seconds),
        "overhead_ms per study beyond the bare loop with Grad-CAM": 1000 * statistics.median(overheads),
        "the same in processor time": 1000 * statistics.median(processor),
        "stages_ms": {name: 1000 * seconds for name, seconds in told[-1][2].stages_s.items()},
        "peak_mb": {"bare": told[-1][1].peak_bytes >> 20, "node": told[-1][2].peak_bytes >> 20},
    }


def _differences(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    return [ours - theirs for node, bare in pairs for ours, theirs in zip(node, bare, strict=True)]


def _phantoms(folder: Path, studies: int, rows: int) -> list[SourceFile]:
    for number in range(studies):
        image = chest_radiograph_phantom(f"bench-{number}", rows=rows)
        pydicom.dcmwrite(folder / f"{number:04d}.dcm", image, enforce_file_format=True)
    return list(files_in(folder))


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"studies": 2, "rows": 256, "rounds": 2})
    parser.add_argument("--model", default="cxr-pneumonia")
    parser.add_argument("--files", type=Path)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    card = find_models()[options.model]
    with tempfile.TemporaryDirectory() as made:
        given = list(files_in(options.files))[: options.studies] if options.files else []
        files = given or _phantoms(Path(made), options.studies, options.rows)
        found = measure(card, files, options.rounds, options.device)
    print(json.dumps(found, indent=2))
    keep(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
