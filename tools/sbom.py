"""Write what an environment is made of as a CycloneDX bill of materials: ``python -m tools.sbom PYTHON FILE``.

By cyclonedx-bom, which reads the metadata of the environment that PYTHON belongs to and is not part of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tools.service_libraries import PROJECT, licence_of

_ASK_PATH = "import json, sys; print(json.dumps([one for one in sys.path if one]))"


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
    bill = json.loads(file.read_text(encoding="utf-8"))
    _name_licences(bill["components"], python)
    file.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")


def _name_licences(components: list[dict[str, Any]], python: Path) -> None:
    """Say the licence of those whose own words cyclonedx-bom does not take for one."""
    told = subprocess.run([str(python), "-c", _ASK_PATH], check=True, capture_output=True, text=True).stdout
    found = {canonicalize_name(one.name): one for one in distributions(path=json.loads(told))}
    for one in components:
        if not one.get("licenses"):
            one["licenses"] = [{"license": {"name": licence_of(found[canonicalize_name(one["name"])])}}]


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
