"""cxr-anomaly in the node: how unlike normal chest radiographs an image is, and where the transformer looked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from dicom_node.analysis.answer import Analysis, Saliency
from dicom_node.core.codes import NO_UNITS, PRIVATE_SCHEME, SHARE_OF_NORMALS
from dicom_node.core.entities import Code, Finding, Measurement, Presence
from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.anomaly.detector import GRID, TERMS, Detector, prepared
from dicom_node.inference.answers.inputs import Given, read_inputs
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.explain.maps import FloatMap
from dicom_node.inference.explain.methods import attention_rollout
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.runtimes.weights import read_state

#: No code for it was found in DCM, SCT or LN.
ANOMALY_SCORE = Code("ANOMALY", PRIVATE_SCHEME, "Anomaly score, deviations of normal")


@dataclass(frozen=True, slots=True)
class _Scored:
    given: Given
    image: torch.Tensor
    #: Standardised terms, in the order of `TERMS`, and their mean.
    terms: tuple[float, ...]
    score: float
    share_of_normals_below: float


def analyse(run: ModelRun) -> Analysis:
    """Score every frontal image of the series; the one least like normal images decides.

    Raises `NotAnalysable`, or `ModelUnavailable` when the folder cannot be used.
    """
    with run.stage("load"):
        detector = _loaded(run.card.folder, run.card.digest)
    given = read_inputs(run)
    with run.stage("infer"):
        scored = [_scored(detector, one) for one in given]
    with run.stage("explain"):
        worst = max(scored, key=lambda one: one.score)
        saliency = _saliency(run.card, detector, worst)
        finding = _finding(run, worst, saliency)
    run.notes.extend(_told(one, run) for one in scored)
    return Analysis(
        model=run.identity,
        sources=tuple(source for one in given for source in one.sources),
        findings=(finding,),
        saliencies=(saliency,),
        notes=tuple(run.notes),
        stage_times_s=dict(run.stage_times_s),
    )


def load_detector(card: ModelCard) -> Detector:
    """Read ``configs/detector.json`` and the weights of a model folder. Raises `ModelUnavailable`."""
    if card.weights_file is None:
        raise ModelUnavailable(f"Model {card.name} has no [weights]. Name its weights file in the card.")
    card.verify_weights()
    state = read_state(card.weights_file)
    try:
        shape = json.loads((card.folder / "configs" / "detector.json").read_text(encoding="utf-8"))
        normals = state["normal_scores"].shape[0]
        detector = Detector(encoder=shape["encoder"], latent=shape["latent"], normals=normals)
        detector.load_state_dict(dict(state), strict=True)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200]
        raise ModelUnavailable(
            f"Model {card.name} in {card.folder}: configs/detector.json and the weights do not fit ({told}). "
            "Restore both from the same training run."
        ) from error
    return detector.eval()


def attention_map(detector: Detector, image: torch.Tensor, shape: tuple[int, int]) -> FloatMap:
    """Return where the transformer looked at a prepared image (1, 1, 64, 64), 0..1, (rows, columns) of `shape`."""
    return attention_rollout(detector.attentions(image), grid=(GRID, GRID), shape=shape, has_class_token=True)


@lru_cache(maxsize=2)
def _loaded(folder: Path, digest: str) -> Detector:
    """Load once per digest; it stays warm."""
    card = load_card(folder)
    if card.digest != digest:
        raise ModelUnavailable(f"Model {card.name} in {folder} changed while it was being loaded. Run the job again.")
    return load_detector(card)


@torch.inference_mode()
def _scored(detector: Detector, given: Given) -> _Scored:
    image = prepared(torch.from_numpy(given.model_input.values)[None])
    terms = detector.standard_terms(detector.terms(image))
    score = terms.mean(dim=1)
    return _Scored(
        given=given,
        image=image,
        terms=tuple(float(one) for one in terms[0]),
        score=float(score[0]),
        share_of_normals_below=float(detector.share_of_normals_below(score)[0]),
    )


@torch.inference_mode()
def _saliency(card: ModelCard, detector: Detector, scored: _Scored) -> Saliency:
    rows, columns = scored.given.model_input.values.shape[1:]
    return Saliency(
        finding_key=card.findings[0].key,
        sop_instance_uid=scored.given.sop_instance_uid,
        map=scored.given.turn.stored(attention_map(detector, scored.image, (rows, columns))),
        method="attention rollout",
        in_three_panels=True,
    )


def _finding(run: ModelRun, scored: _Scored, saliency: Saliency) -> Finding:
    wanted, threshold = run.card.findings[0], run.parameters["threshold"]
    present = scored.share_of_normals_below >= threshold
    return Finding(
        key=wanted.key,
        label=wanted.label,
        code=wanted.code,
        site=wanted.site,
        presence=Presence.PRESENT if present else Presence.ABSENT,
        probability=scored.share_of_normals_below,
        threshold=threshold,
        measurements=(Measurement(name=ANOMALY_SCORE, value=round(scored.score, 2), unit=NO_UNITS),),
        score=SHARE_OF_NORMALS,
        explanation_key=f"heatmap:{wanted.key}:{saliency.sop_instance_uid}",
    )


def _told(scored: _Scored, run: ModelRun) -> str:
    number = scored.given.sources[0].get("InstanceNumber", "?")
    parts = ", ".join(f"{name} {value:.1f}" for name, value in zip(TERMS, scored.terms, strict=True))
    return (
        f"Image {number}: anomaly score {scored.score:.2f}, above {scored.share_of_normals_below:.1%} of normal images "
        f"(limit {run.parameters['threshold']:.0%}); in deviations of normal images: {parts}."
    )
