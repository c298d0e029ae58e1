"""Run one model on the images of one job: card, gate, the right runtime; a declined study becomes an answer too."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import cast

from dicom_node.analysis import Analysis, AnalysisRequest, NotAnalysed
from dicom_node.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.card_gate import check_card_gate
from dicom_node.inference.cards import ModelCard, load_card
from dicom_node.inference.model_run import ModelRun, SourceImage, read_dataset

Analyse = Callable[[ModelRun], Analysis]

_BUNDLE_ENTRY_POINT = "dicom_node.inference.bundle:analyse"


def run_model(request: AnalysisRequest) -> Analysis | NotAnalysed:
    """Answer one request: read the headers, gate them, run the model (`ports.RunModel`).

    A study the model must not answer for comes back as `NotAnalysed`, with what was looked at. Raises
    `ModelUnavailable` or `SettingsError` when the model itself cannot be used.
    """
    card = load_card(request.model_dir)
    parameters = card.effective_parameters(request.parameters)
    identity = card.identity(request.parameters)
    analyse = _entry_point(card)
    times: dict[str, float] = {}
    started = time.perf_counter()
    images, refusals = _read_headers(request)
    times["headers"] = round(time.perf_counter() - started, 3)

    run = ModelRun(card=card, identity=identity, parameters=parameters, images=images, stage_times_s=times)
    headers = [image.header for image in images]
    try:
        if refusals:
            raise refusals[0]
        check_card_gate(card, headers)
        return analyse(run)
    except NotAnalysable as refusal:
        return NotAnalysed(
            model=identity,
            sources=tuple(headers),
            reason=refusal.reason,
            message=str(refusal),
            notes=tuple(run.notes),
        )


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


def _entry_point(card: ModelCard) -> Analyse:
    module_name, _, name = (card.entry_point or _BUNDLE_ENTRY_POINT).partition(":")
    try:
        return cast(Analyse, getattr(importlib.import_module(module_name), name))
    except (ImportError, AttributeError) as error:
        raise ModelUnavailable(
            f"Model {card.name} needs {module_name}:{name}, which cannot be loaded here ({error}). "
            "Install the inference extra: pip install dicom-node[inference]."
        ) from error
