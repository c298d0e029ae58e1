"""On what kind of machine golden studies ran: another processor or another library may give other numbers."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("numpy", "scipy", "pydicom", "torch", "monai", "onnxruntime", "transformers")


@cache
def environment(device: str) -> str:
    """Name processor, graphics cards, libraries and the configured device; equal texts mean equal answers.

    No host name: a container that is started again is the same machine.
    """
    libraries = [f"{name} {found}" for name in _LIBRARIES if (found := _version(name))]
    machine = [platform.system(), platform.machine(), _processor(), *_graphics(), f"device {device}"]
    parts = [*machine, f"Python {platform.python_version()}"]
    return "; ".join([*parts, *libraries])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")


def _graphics() -> list[str]:
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for path in found for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
