"""What a test needs beyond the package: programs and real studies. Absent: skipped with the reason; in CI: failed."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
#: Real studies lie beside the checkout where a developer has them; they are never part of the project.
REAL_DATA = Path(os.environ.get("DICOM_NODE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def tool(name: str, package: str) -> str:
    """Return the path of a program; without it skip the test, or fail it in CI where `.ci/run` installs it."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not installed; install the Debian package {package}")
    assert found is not None
    return found


def real_data(folder: str) -> Path:
    """Return a folder of real studies, or skip: these are not part of the project."""
    path = REAL_DATA / folder
    if not path.exists():
        pytest.skip(f"real study {folder} is not beside this checkout ({REAL_DATA})")
    return path


def absent(reason: str) -> None:
    """Skip with the reason on a developer's machine; fail in CI, where nothing may be skipped silently."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def ipv6() -> None:
    """Skip where this machine has no IPv6, as many containers: what is tested needs an address of its own there."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 address")
