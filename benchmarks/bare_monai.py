"""The other side of `inference`: the loop a researcher writes around a MONAI Bundle. Runs in a process of its own."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.image_reader import PydicomReader
from monai.transforms.intensity.array import ScaleIntensity
from monai.transforms.io.array import LoadImage
from monai.visualize.class_activation_maps import GradCAM
from safetensors.torch import load_file


@dataclass(frozen=True, slots=True)
class Asked:
    """Which bundle, with which weights, on which files and device; a heat map by `layer` too, if one is named."""

    folder: Path
    weights: Path
    files: Sequence[Path]
    device: str
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Looped:
    """How long each file took, how much processor time, and the most memory the process ever held, in bytes."""

    seconds: Sequence[float]
    processor_s: Sequence[float]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class _Parts:
    network: torch.nn.Module
    load: Callable[[Path], Any]
    preprocessing: Any
    inferer: Any
    postprocessing: Any


def loop(asked: Asked) -> Looped:
    """Read, prepare, infer and, if asked, explain one file after the other."""
    seconds, processor_s = [], []
    for path in asked.files:
        started, processor_started = time.perf_counter(), time.process_time()
        _one(asked, path)
        seconds.append(time.perf_counter() - started)
        processor_s.append(time.process_time() - processor_started)
    return Looped(seconds, processor_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _one(asked: Asked, path: Path) -> torch.Tensor:
    parts = _parts(asked.folder, asked.weights, asked.device)
    tensor = parts.preprocessing({"image": parts.load(path)})["image"][None].to(asked.device)
    with torch.no_grad():
        output = parts.inferer(tensor, parts.network)
        probabilities: torch.Tensor = parts.postprocessing({"pred": output[0]})["pred"].cpu()
    if asked.layer:
        GradCAM(parts.network, target_layers=asked.layer)(tensor)
    return probabilities


@cache
def _parts(folder: Path, weights: Path, device: str) -> _Parts:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(load_file(weights))
    read, scale = LoadImage(reader=PydicomReader(), image_only=True, ensure_channel_first=True), ScaleIntensity()
    return _Parts(
        network=network.eval().to(device),
        load=lambda path: scale(read(path)),
        preprocessing=parser.get_parsed_content("preprocessing"),
        inferer=parser.get_parsed_content("inferer"),
        postprocessing=parser.get_parsed_content("postprocessing"),
    )
