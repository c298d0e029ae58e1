"""One model asked in a process of its own, without a report: for golden studies and evaluations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.analysis.written import summarise
from dicom_node.config.running import InferenceSettings
from dicom_node.core.uids import derived_uid
from dicom_node.governance.known_masks import centers_mm, overlaps, read
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runner import run_model, run_without_gate
from dicom_node.inference.workers.handover import handed_over
from dicom_node.inference.workers.place import ComputePlace, worker_limits
from dicom_node.inference.workers.warm import models_at
from dicom_node.logs import quiet_third_parties
from dicom_node.sandbox.answers import file_left
from dicom_node.sandbox.confinement import Confinement
from dicom_node.sandbox.host import Sandbox
from dicom_node.sr_writer.pictures.pen import png_bytes
from dicom_node.sr_writer.pictures.pictures import drawn_pictures

_TARGET = "dicom_node.governance.model_probe:answer"
_STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """One study for one model, where to compute, and whether the study must be one that the card takes.

    `closer` asks for pictures and for what the model understood; `masks` is a file of masks that are known
    (`known_masks.keep`).
    """

    request: AnalysisRequest
    place: ComputePlace
    gated: bool = True
    closer: bool = False
    masks: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a model is asked: whether through its gate, and how closely its answer is looked at (`Question`)."""

    gated: bool = True
    closer: bool = False
    masks: Path | None = None


_PLAIN = Look()


class ModelProbe:
    """Asks one model in a warm worker process, on the device, with the limits and as confined as the node's own."""

    def __init__(self, card: ModelCard, settings: InferenceSettings, *, precision: str = "") -> None:
        """Without a `precision` the model computes as its card says."""
        self._card = card
        self._place = ComputePlace(
            device=settings.device, model_budget_mb=settings.model_budget_mb, precision=precision
        )
        limits = worker_limits(settings.device, settings.time_limit_s, settings.memory_limit_mb)
        self._folder = tempfile.TemporaryDirectory(prefix="dicom-node-asking-")
        self._confinement: Confinement | None = None
        if settings.confine != "off" and card.server is None:
            self._confinement = Confinement(Path(self._folder.name), (card.folder,))
        self._sandbox = Sandbox(_TARGET, answer=dict[str, object], limits=limits, confinement=self._confinement)

    def ask(
        self, files: Sequence[SourceFile], parameters: Mapping[str, float], work_dir: Path, look: Look = _PLAIN
    ) -> dict[str, Any]:
        """Return the answer as `analysis.answer.summarise` tells it; without its gate the model is also given what its
        card does not take.

        Looked at closer, it also holds what the model `understood`, the `pictures` that lie in `work_dir`, `centers_mm`
        and `overlaps` (`known_masks`). Raises `InferenceError` or `SettingsError`.
        """
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
        question = Question(request, self._place, look.gated, look.closer, look.masks)
        if self._confinement is None:
            return cast(dict[str, Any], self._sandbox.run(question))
        with handed_over(self._confinement) as given:
            masks = given.link(look.masks) if look.masks else None
            found = cast(
                dict[str, Any], self._sandbox.run(replace(question, request=given.request(request), masks=masks))
            )
            for name in found.get("pictures", []):
                (work_dir / str(name)).write_bytes(file_left(given.out, str(name)))
        return found

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
    found = run(question.request, question.place)
    summary = summarise(found)
    return summary | _looked_at_closer(found, question) if question.closer else summary


def _looked_at_closer(found: Analysis | NotAnalysed, question: Question) -> dict[str, object]:
    told: dict[str, object] = {
        "understood": list(models_at(question.place).understood),
        "pictures": list(_pictures(found, question.request)),
    }
    if isinstance(found, NotAnalysed):
        return told
    known = read(question.masks) if question.masks else {}
    return told | {"centers_mm": centers_mm(found), "overlaps": overlaps(found, known)}


def _pictures(found: Analysis | NotAnalysed, request: AnalysisRequest) -> Iterator[str]:
    """Draw what a reader of the result is shown: summary, maps, outlines; yield the names of the files."""
    for number, picture in enumerate(drawn_pictures(found, request.context), start=1):
        name = f"{number:02}.png"
        (request.out_dir / name).write_bytes(png_bytes(picture.rgb))
        yield name
