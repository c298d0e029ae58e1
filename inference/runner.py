"""Run one model on the images of one job: card, gate, the right runtime; a declined study becomes an answer too."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import AnalysisRequest
from dicom_node.core.entities import JobStage
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.core.progress import tell
from dicom_node.inference.answers.plausible import held_to_card
from dicom_node.inference.cards.card import TASK_INPUTS, Gate, ModelCard, load_card
from dicom_node.inference.former_names import install_former_names
from dicom_node.inference.images.card_gate import age_remarks, check_card_gate
from dicom_node.inference.input_features import features_of
from dicom_node.inference.model_run import ModelRun, SourceImage, read_dataset
from dicom_node.inference.prediction import Load, LoadedModel
from dicom_node.inference.runtimes.table import RUNTIMES
from dicom_node.inference.seen_pixels import keeping_pixels
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.inference.workers.warm import models_at

Analyse = Callable[[ModelRun], Analysis]
Answer = Callable[[ModelRun, LoadedModel], Analysis]

_ANYWHERE = ComputePlace()
_OPEN_GATE = Gate(
    derived_allowed=True, burned_in_allowed=True, test_subjects_allowed=True, animals_allowed=True, views="any"
)


def run_model(request: AnalysisRequest, place: ComputePlace = _ANYWHERE) -> Analysis | NotAnalysed:
    """Answer one request: read the headers, gate them, run the model (`pipeline.RunModel`) at a place.

    A study the model must not answer for comes back as `NotAnalysed`, with what was looked at. Raises
    `ModelUnavailable` or `SettingsError` when the model itself cannot be used, or answers without any finding, which
    would read as a negative answer.
    """
    card = load_card(request.model_dir)
    card.require(request.model_digest)
    return _answered(card, request, place)


def run_without_gate(request: AnalysisRequest, place: ComputePlace = _ANYWHERE) -> Analysis | NotAnalysed:
    """Answer a request whatever the card says of the studies it takes, to see whether the model runs at all: for
    phantoms only. Raises as `run_model`."""
    card = replace(load_card(request.model_dir), gate=_OPEN_GATE, accepts=())
    if card.channels and request.files:
        # A phantom is one series, and stands for each of them.
        same = (request.files[0].series_instance_uid,) * len(card.channels)
        request = replace(request, channel_series=same)
    return _answered(card, request, place)


def _answered(card: ModelCard, request: AnalysisRequest, place: ComputePlace) -> Analysis | NotAnalysed:
    parameters = card.effective_parameters(request.parameters)
    identity = card.identity(request.parameters)
    analyse = _chosen(card, parameters, place)
    times: dict[str, float] = {}
    started = time.perf_counter()
    images, refusals = _read_headers(request)
    times["headers"] = round(time.perf_counter() - started, 3)

    run = ModelRun(
        card=card,
        identity=identity,
        parameters=parameters,
        images=images,
        stage_times_s=times,
        channel_series=request.channel_series,
        keeps_probabilities=any(wanted.segmentation == "fractional" for wanted in request.context.output_sets),
    )
    with keeping_pixels() as seen:
        answer = _gated(run, analyse, refusals)
        return replace(answer, features=features_of(answer, seen, run.look_distances))


def _gated(run: ModelRun, analyse: Analyse, refusals: Sequence[NotAnalysable]) -> Analysis | NotAnalysed:
    """Run the model on what its card takes; a refusal becomes an answer with what was looked at."""
    card, headers = run.card, [image.header for image in run.images]
    try:
        if refusals:
            raise refusals[0]
        check_card_gate(card, headers)
        run.notes.extend(age_remarks(card.gate, headers))
        answer = held_to_card(_with_findings(analyse(run), card), card)
        return replace(answer, further_sources=tuple(run.further_sources), figures=dict(run.figures))
    except NotAnalysable as refusal:
        return NotAnalysed(
            model=run.identity,
            sources=tuple(headers),
            reason=refusal.reason,
            message=str(refusal),
            notes=tuple(run.notes),
        )


def _with_findings(answer: Analysis, card: ModelCard) -> Analysis:
    """Return the answer. Raises `ModelUnavailable` for one without any finding."""
    if not answer.findings:
        raise ModelUnavailable(
            f"Model {card.name} answered without any finding, which nobody could tell from a negative answer. "
            "Correct it: give a finding for everything it evaluated, absent or not, or raise NotAnalysable."
        )
    return answer


def _read_headers(request: AnalysisRequest) -> tuple[tuple[SourceImage, ...], list[NotAnalysable]]:
    """Read every header; what cannot be read is returned as refusals, so that the rest can still be shown."""
    images: list[SourceImage] = []
    refusals: list[NotAnalysable] = []
    for file in sorted(request.files, key=lambda f: f.sop_instance_uid):
        try:
            images.append(SourceImage(file.path, read_dataset(file.path, pixels=False)))
        except NotAnalysable as refusal:
            refusals.append(refusal)
    return tuple(images), refusals


def _chosen(card: ModelCard, parameters: Mapping[str, float], place: ComputePlace) -> Analyse:
    """Return what answers for the card: its own whole run, or its runtime under the answers of its task."""
    install_former_names()
    if card.runtime == "python" and card.task not in TASK_INPUTS:
        own = cast(Analyse, _named(card, card.entry_point))

        def analyse_whole(run: ModelRun) -> Analysis:
            tell(JobStage.RUNNING)
            return own(run)

        return analyse_whole
    if card.task not in TASK_INPUTS:
        raise ModelUnavailable(
            f"Model {card.name}: its runtime {card.runtime} answers {', '.join(TASK_INPUTS)}, not {card.task!r}. "
            "Correct task in the card."
        )
    load = cast(Load, _named(card, f"{RUNTIMES[card.runtime].module}:load"))
    answer = cast(Answer, _named(card, f"dicom_node.inference.answers.{card.task}:answer"))
    # A site's parameters may shape what a model gives (temperature), so they are part of what is loaded.
    wanted = replace(card, parameters=parameters) if dict(card.parameters) != dict(parameters) else card

    def analyse(run: ModelRun) -> Analysis:
        with run.stage("load"):
            model = models_at(place).get(wanted, load)
        tell(JobStage.RUNNING)
        return answer(run, model)

    return analyse


def _named(card: ModelCard, place: str) -> object:
    module_name, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ModelUnavailable(
            f"Model {card.name} needs {place}, which cannot be loaded here ({error}). "
            "Install the inference extra: pip install dicom-node[inference]."
        ) from error
