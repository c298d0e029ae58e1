"""Write what an environment is made of as a CycloneDX bill of materials: ``python -m tools.sbom PYTHON FILE``.

By cyclonedx-bom, which reads the metadata of the environment that PYTHON belongs to and is not part of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.service_libraries import PROJECT


def write(python: Path, file: Path) -> None:
    """Write the bill of the environment of this interpreter; the same environment gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        "--pyproject",
        str(PROJECT),
        "--output-reproducible",
    ]
    subprocess.run([*command, "--output-file", str(file), str(python)], check=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
