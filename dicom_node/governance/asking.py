"""The host side of `answering`: files in, an answer out; what kills the worker process is an answer too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from dicom_node.analysis import AnalysisRequest, ReportContext, SourceFile
from dicom_node.config.running import InferenceSettings
from dicom_node.governance.question import Question
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.workers.place import Place, may_use_gpu
from dicom_node.inference.workers.sandbox import Limits, Sandbox
from dicom_node.uids import derived_uid

_TARGET = "dicom_node.governance.answering:answer"
_STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Asker:
    """Asks one model in a warm worker process, on the device and with the limits of the node's own workers."""

    def __init__(self, card: ModelCard, settings: InferenceSettings) -> None:
        self._card = card
        self._place = Place(device=settings.device, model_budget_mb=settings.model_budget_mb)
        on_gpu = may_use_gpu(settings.device)
        limits = Limits(
            time_s=settings.time_limit_s,
            memory_mb=settings.memory_limit_mb if on_gpu else 0,
            address_space_mb=0 if on_gpu else settings.memory_limit_mb,
        )
        self._sandbox = Sandbox(_TARGET, limits=limits)

    def ask(self, files: Sequence[SourceFile], parameters: Mapping[str, float], work_dir: Path) -> dict[str, Any]:
        """Return the answer as `summary.summarise` tells it. Raises `InferenceError` or `SettingsError`."""
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
        return cast(dict[str, Any], self._sandbox.run(Question(request, self._place)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.close()
