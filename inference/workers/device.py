"""The processor a worker computes on: CUDA, Apple's MPS or the CPU, and the memory held there."""

from __future__ import annotations

import ctypes
import importlib.util
import resource
import sys
from contextlib import suppress
from pathlib import Path

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.sandbox.host import resident_bytes


def choose_device(place: ComputePlace) -> str:
    """Return ``cuda:N``, ``mps`` or ``cpu`` for a place. Raises `ModelUnavailable` when it names what is not here.

    ``auto`` takes CUDA, then MPS, then the CPU; ``auto`` and ``cuda`` spread the workers over the GPUs by number.
    """
    wanted = place.device
    if wanted == "cpu" or (wanted == "auto" and importlib.util.find_spec("torch") is None):
        return "cpu"
    import torch  # noqa: PLC0415 - a model on the CPU may do without

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.startswith("cuda:") and int(wanted.partition(":")[2]) < gpus:
        return wanted
    if wanted in ("auto", "cuda") and gpus:
        return f"cuda:{place.worker_number % gpus}"
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    if wanted == "auto":
        return "cpu"
    raise ModelUnavailable(
        f"inference.device is {wanted!r}, but torch {torch.__version__} finds {gpus} CUDA devices and "
        f"{'an' if torch.backends.mps.is_available() else 'no'} MPS device here. "
        'Set device = "auto" or "cpu", or install a torch build for this GPU.'
    )


def held_bytes(device: str) -> int:
    """Return the memory held now: allocated by torch on a GPU, resident in RAM for the CPU."""
    if device == "cpu":
        return resident_bytes()
    import torch  # noqa: PLC0415

    return int(torch.mps.current_allocated_memory() if device == "mps" else torch.cuda.memory_allocated(device))


def free_bytes(device: str) -> int:
    """Return the memory that is free at a device, whoever holds the rest; RAM that the system can give for the CPU, and
    for MPS, which shares it."""
    if not device.startswith("cuda"):
        return available_ram_bytes()
    import torch  # noqa: PLC0415

    return int(torch.cuda.mem_get_info(device)[0])


def available_ram_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return MemAvailable of Linux; elsewhere nothing is known to be short."""
    with suppress(OSError):
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return sys.maxsize


def peak_bytes(device: str) -> int:
    """Return the most memory held since the process began: on the GPU for CUDA, resident in RAM otherwise."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415

        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, kilobytes on Linux


def release_cached(device: str) -> None:
    """Give memory that is kept for reuse back: what torch keeps to the GPU, what the C library keeps to the system."""
    if device == "cpu":
        with suppress(AttributeError, OSError):  # a C library that is not glibc
            ctypes.CDLL(None).malloc_trim(0)
        return
    import torch  # noqa: PLC0415

    (torch.mps if device == "mps" else torch.cuda).empty_cache()
