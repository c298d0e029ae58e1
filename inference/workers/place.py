"""Where a worker computes and how much it may keep. Standard library only: the node says it without torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dicom_node.sandbox.host import ProcessLimits

_NVIDIA_DEVICE = re.compile(r"nvidia[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputePlace:
    """One worker's place: `device` as configured (``auto`` picks), the worker's number (spread over the GPUs), the
    memory its loaded models may hold together, and the precision in which they compute; "": as their cards say."""

    device: str = "auto"
    worker_number: int = 0
    model_budget_mb: int = 4096
    precision: str = ""


def gpu_count(device_folder: Path = Path("/dev")) -> int:
    """Count the NVIDIA GPUs this process may use, by the files of the driver and CUDA_VISIBLE_DEVICES.

    Loads no library: it only decides how many workers are started; each worker asks torch what is really there.
    """
    found = sum(1 for path in device_folder.glob("nvidia*") if _NVIDIA_DEVICE.fullmatch(path.name))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    named = [name.strip() for name in visible.split(",")]
    return min(found, len([name for name in named if name and name != "-1"]))


def worker_count(configured: int, device: str) -> int:
    """Return how many workers to run: as configured, or (0) one for each device that `device` may stand for."""
    if configured:
        return configured
    return max(1, gpu_count()) if device in ("auto", "cuda") else 1


def may_use_gpu(device: str) -> bool:
    """Whether a worker may end up on a GPU; its driver then reserves more address space than any sensible limit."""
    return device.startswith(("cuda", "mps")) or (device == "auto" and gpu_count() > 0)


def worker_limits(device: str, time_limit_s: float, memory_limit_mb: int) -> ProcessLimits:
    """Return what a worker process may use: resident memory where it may use a GPU, address space elsewhere."""
    on_gpu = may_use_gpu(device)
    return ProcessLimits(
        time_s=time_limit_s,
        memory_mb=memory_limit_mb if on_gpu else 0,
        address_space_mb=0 if on_gpu else memory_limit_mb,
        more_time="Raise inference.time_limit_s if the model needs more.",
        more_memory="Raise inference.memory_limit_mb if the study is meant to be that large.",
    )
