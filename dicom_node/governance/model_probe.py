"""One model asked in a process of its own, without a report: for golden studies and evaluations."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from dicom_node.analysis.answer import AnalysisRequest, ReportContext, SourceFile, summarise
from dicom_node.config.running import InferenceSettings
from dicom_node.core.uids import derived_uid
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runner import run_model, run_without_gate
from dicom_node.inference.workers.handover import handed_over
from dicom_node.inference.workers.place import ComputePlace, worker_limits
from dicom_node.logs import quiet_third_parties
from dicom_node.sandbox.confinement import Confinement
from dicom_node.sandbox.host import Sandbox

_TARGET = "dicom_node.governance.model_probe:answer"
_STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """One study for one model, where to compute, and whether the study must be one that the card takes."""

    request: AnalysisRequest
    place: ComputePlace
    gated: bool = True


class ModelProbe:
    """Asks one model in a warm worker process, on the device, with the limits and as confined as the node's own."""

    def __init__(self, card: ModelCard, settings: InferenceSettings) -> None:
        self._card = card
        self._place = ComputePlace(device=settings.device, model_budget_mb=settings.model_budget_mb)
        limits = worker_limits(settings.device, settings.time_limit_s, settings.memory_limit_mb)
        self._folder = tempfile.TemporaryDirectory(prefix="dicom-node-asking-")
        self._confinement: Confinement | None = None
        if settings.confine != "off" and card.server is None:
            self._confinement = Confinement(Path(self._folder.name), (card.folder,))
        self._sandbox = Sandbox(_TARGET, answer=dict[str, object], limits=limits, confinement=self._confinement)

    def ask(
        self, files: Sequence[SourceFile], parameters: Mapping[str, float], work_dir: Path, *, gated: bool = True
    ) -> dict[str, Any]:
        """Return the answer as `analysis.summary.summarise` tells it; without its gate the model is also given what its
        card does not take. Raises `InferenceError` or `SettingsError`."""
        context = ReportContext(
            job_key="0" * 64,
            route_name="",
            started_at=_STARTED_AT,
            ae_title="",
            node_uid=derived_uid("node", "asking"),
        )
        request = AnalysisRequest(
            context=context, model_dir=self._card.folder, files=tuple(files), out_dir=work_dir, parameters=parameters
        )
        if self._confinement is None:
            return cast(dict[str, Any], self._sandbox.run(Question(request, self._place, gated)))
        with handed_over(self._confinement) as given:
            return cast(dict[str, Any], self._sandbox.run(Question(given.request(request), self._place, gated)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()
        self._folder.cleanup()


# --- inside the worker process ----------------------------------------------------------------------------------------


def answer(question: Question) -> Mapping[str, object]:
    """Run the model; raises what the runner raises."""
    quiet_third_parties()
    run = run_model if question.gated else run_without_gate
    return summarise(run(question.request, question.place))
