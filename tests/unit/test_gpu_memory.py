"""How full GPUs are is read from the driver's program; one that is missing, hangs or is odd costs nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.operate.metrics import gpus
from dicom_node.operate.metrics.gpus import GpuMemory, gpu_memory


def program(folder: Path, script: str) -> str:
    made = folder / "nvidia-smi"
    made.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    made.chmod(0o755)
    return str(made)


def test_a_gpu_is_told_in_bytes_and_one_that_tells_no_memory_not_at_all(tmp_path: Path) -> None:
    script = "echo '0, 1024, 143771'\necho '1, [N/A], [N/A]'\necho 'No devices were found'"

    assert gpu_memory(program(tmp_path, script)) == [GpuMemory("0", 1024 << 20, 143771 << 20)]


def test_it_is_asked_for_what_is_read(tmp_path: Path) -> None:
    gpu_memory(program(tmp_path, f'echo "$@" > {tmp_path / "asked"}'))

    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    assert asked == "--query-gpu=index,memory.used,memory.total --format=csv,noheader,nounits\n"


@pytest.mark.parametrize("script", ["exit 9", "exec sleep 60", "head -c 1000 /dev/urandom"])
def test_a_driver_that_does_not_answer_tells_nothing(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "_PATIENCE_S", 0.5)

    assert list(gpu_memory(program(tmp_path, script))) == []


def test_without_a_driver_there_is_nothing_to_tell() -> None:
    assert list(gpu_memory("no-such-program")) == []
