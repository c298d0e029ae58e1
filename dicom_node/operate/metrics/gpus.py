"""How full the memory of this machine's GPUs is, by the program that comes with their driver.

The node's own process loads no library that could ask a GPU: workers do, and what another program holds counts, too.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

PROGRAM = "nvidia-smi"
#: As `nvidia-smi --help-query-gpu` names them; memory is told in MiB.
_ASKED = ("--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits")
_PATIENCE_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """The memory of one GPU, of which `index` is the driver's number."""

    index: str
    used_bytes: int
    total_bytes: int


def gpu_memory(program: str = PROGRAM) -> Sequence[GpuMemory]:
    """Return the memory of every GPU; none where the program is missing, does not answer, or is not understood."""
    found = shutil.which(program)
    if found is None:
        return ()
    try:
        asked = subprocess.run([found, *_ASKED], capture_output=True, encoding="ascii", errors="replace",
                               timeout=_PATIENCE_S, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        _log.debug("GPUs were not told", extra={"why": type(error).__name__})
        return ()
    return [gpu for line in asked.stdout.splitlines() if (gpu := _read(line)) is not None]


def _read(line: str) -> GpuMemory | None:
    """Read ``0, 1024, 143771``; a GPU that tells no memory says ``[N/A]``."""
    index, used, total = (part.strip() for part in (*line.split(","), "", "", "")[:3])
    if not (index.isdecimal() and used.isdecimal() and total.isdecimal()):
        return None
    return GpuMemory(index, int(used) << 20, int(total) << 20)
