"""Runner of MONAI Bundles that classify 2-D images: every class evaluated, saliency in source pixels.

A bundle's configuration may hold Python expressions, so it is code: only folders the operator installed get here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis import Analysis, Saliency
from dicom_node.errors import ModelUnavailable
from dicom_node.inference.card_outputs import CardFinding
from dicom_node.inference.cards import ModelCard, load_card
from dicom_node.inference.explain.cam import grad_cam
from dicom_node.inference.explain.regions import hottest_box
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.pixels import READ_ERRORS, display_values
from dicom_node.inference.radiograph import frontal_images
from dicom_node.model import Finding, Presence

_MODELS_KEPT = 4
#: Spatial transforms after which the input still shows the whole image, corner on corner.
_PLACES_WHOLE_IMAGE = frozenset({"Resize", "Resized"})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: network in evaluation mode, the transforms and the inferer of its configuration."""

    network: torch.nn.Module
    preprocessing: Any
    inferer: Any
    postprocessing: Any
    applies_voi: bool


@dataclass(frozen=True, slots=True)
class _Scored:
    """One image through the network: `probabilities` per output, the tensor that went in (1, C, H, W), and
    the spatial transforms that made it."""

    source: Dataset
    shape: tuple[int, int]
    tensor: torch.Tensor
    applied: frozenset[str]
    probabilities: NDArray[np.float32]


def analyse(run: ModelRun) -> Analysis:
    """Classify every frontal image of the series; a finding takes the probability of its most suspicious image.

    Raises `NotAnalysable`, or `ModelUnavailable` when the bundle cannot be used.
    """
    with run.stage("load"):
        bundle = _load(run.card.folder, run.card.digest)
    with run.stage("read"):
        images = [one.read() for one in frontal_images(run.images, run.notes)]
        decoded = [display_values(image, voi=bundle.applies_voi) for image in images]
    with run.stage("infer"):
        temperature = run.parameters.get("temperature", 1.0)
        scored = [_score(bundle, *pair, temperature) for pair in zip(images, decoded, strict=True)]
    with run.stage("explain"):
        findings, saliencies = _findings(run, bundle, scored)
    return Analysis(
        model=run.identity,
        sources=tuple(images),
        findings=findings,
        saliencies=saliencies,
        notes=tuple(run.notes),
        stage_times_s=dict(run.stage_times_s),
    )


# --- loading -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=_MODELS_KEPT)
def _load(folder: Path, digest: str) -> Bundle:
    """Load a bundle once per digest; it stays warm."""
    card = load_card(folder)
    if card.digest != digest:
        raise ModelUnavailable(f"Bundle {card.name} in {folder} changed while it was being loaded. Run the job again.")
    parser = ConfigParser()
    try:
        parser.read_config(str(folder / "configs" / "inference.json"))
        parser.read_meta(str(folder / "configs" / "metadata.json"))
        network = parser.get_parsed_content("network_def", instantiate=True)
        network.load_state_dict(_state(card), strict=True)
        network.eval()
        return Bundle(
            network=network,
            preprocessing=parser.get_parsed_content("preprocessing") if "preprocessing" in parser else None,
            inferer=parser.get_parsed_content("inferer"),
            postprocessing=parser.get_parsed_content("postprocessing"),
            applies_voi=bool(parser.get("_meta_::network_data_format::inputs::image::voi", True)),
        )
    except (*READ_ERRORS, OSError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelUnavailable(
            f"Bundle {card.name} in {folder} cannot be loaded: {type(error).__name__}: {text}. Check its configs "
            "(network_def, inferer, postprocessing) and that the weights fit the network."
        ) from error


def _state(card: ModelCard) -> Mapping[str, torch.Tensor]:
    """Read weights that cannot run code: safetensors, or a state dict by `weights_only`."""
    if card.weights_file is None:
        raise ModelUnavailable(f"Bundle {card.name} has no [weights]. Name its weights file in the card.")
    if card.weights_file.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 - an optional format

        return dict(load_file(card.weights_file))
    state: Mapping[str, torch.Tensor] = torch.load(card.weights_file, map_location="cpu", weights_only=True)
    return state


# --- scoring -----------------------------------------------------------------------------------------------------


def _score(bundle: Bundle, source: Dataset, shown: NDArray[np.float32], temperature: float) -> _Scored:
    """Run one image (rows, columns), 0..1, through preprocessing, network, temperature and postprocessing."""
    data: dict[str, Any] = {"image": MetaTensor(torch.from_numpy(shown)[None])}
    if bundle.preprocessing is not None:
        data = bundle.preprocessing(data)
    image = data["image"]
    tensor = torch.as_tensor(image).as_subclass(torch.Tensor)[None].float()
    with torch.no_grad():
        logits = bundle.inferer(tensor, bundle.network)[0] / temperature
        after = bundle.postprocessing({"pred": logits})["pred"]
    applied = frozenset(str(step["class"]) for step in getattr(image, "applied_operations", []))
    probabilities = torch.as_tensor(after).as_subclass(torch.Tensor).cpu().numpy().astype(np.float32).ravel()
    return _Scored(source, (shown.shape[0], shown.shape[1]), tensor, applied, probabilities)


# --- findings ----------------------------------------------------------------------------------------------------


def _findings(run: ModelRun, bundle: Bundle, scored: list[_Scored]) -> tuple[tuple[Finding, ...], tuple[Saliency, ...]]:
    """Return every class as a finding, with saliency for those present, or for the most probable if none is."""
    threshold = run.parameters.get("threshold", 0.5)
    best = {one.key: _most_suspicious(run, one, scored) for one in run.card.findings}
    chance = {one.key: _probability(run.card, one, best[one.key]) for one in run.card.findings}
    explained = {key for key, value in chance.items() if value >= threshold} or {max(chance, key=chance.__getitem__)}
    findings, saliencies = [], []
    for one in run.card.findings:
        image = best[one.key]
        present = chance[one.key] >= threshold
        saliency = _explain(run, bundle, one, image) if one.key in explained else None
        if saliency is not None:
            saliencies.append(saliency)
        findings.append(
            Finding(
                key=one.key,
                label=one.label,
                code=one.code,
                site=one.site,
                presence=Presence.PRESENT if present else Presence.ABSENT,
                probability=round(chance[one.key], 4),
                threshold=threshold,
                region=hottest_box(saliency) if saliency is not None and present else None,
                explanation_key=f"heatmap:{one.key}:{image.source.SOPInstanceUID}" if saliency is not None else None,
            )
        )
    return tuple(findings), tuple(saliencies)


def _most_suspicious(run: ModelRun, finding: CardFinding, scored: list[_Scored]) -> _Scored:
    if len(scored) > 1:
        told = ", ".join(
            f"image {one.source.get('InstanceNumber', '?')}: {_probability(run.card, finding, one):.2f}"
            for one in scored
        )
        run.notes.append(f"{finding.label}: the highest of {len(scored)} images counts ({told}).")
    return max(scored, key=lambda one: _probability(run.card, finding, one))


def _probability(card: ModelCard, finding: CardFinding, image: _Scored) -> float:
    if finding.output_index >= image.probabilities.size:
        raise ModelUnavailable(
            f"Model {card.name} gives {image.probabilities.size} outputs, but finding {finding.key} names output "
            f"{finding.output_index}. Correct output_index in the card."
        )
    value = float(image.probabilities[finding.output_index])
    if not 0.0 <= value <= 1.0:
        raise ModelUnavailable(
            f"Model {card.name} answered {value:g}, which is no probability. Its postprocessing must end in softmax "
            "or sigmoid."
        )
    return value


def _explain(run: ModelRun, bundle: Bundle, finding: CardFinding, image: _Scored) -> Saliency | None:
    if run.card.explain.get("method") != "grad-cam":
        return None
    if image.applied - _PLACES_WHOLE_IMAGE:
        run.notes.append("No heat map: the preprocessing crops or turns the image, so it has no sure place on it.")
        return None
    layer = run.card.explain.get("layer", "")
    heat = grad_cam(bundle.network, image.tensor, layer=layer, output_index=finding.output_index, shape=image.shape)
    return Saliency(
        finding_key=finding.key,
        sop_instance_uid=str(image.source.SOPInstanceUID),
        map=heat,
        method=f"Grad-CAM, layer {layer}",
    )
