"""The composed set-up: what Docker reads is well formed, and its parts agree with each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dicom_node.roles.settings import load_settings
from tests.support.needs import REPOSITORY

PASSWORDS = {"POSTGRES_PASSWORD": "secret1", "ORTHANC_PASSWORD": "secret2", "GRAFANA_PASSWORD": "secret3"}


@pytest.fixture(scope="module")
def compose_command() -> list[str]:
    """Compose in whichever form is installed."""
    for command in (["docker", "compose"], ["docker-compose"]):
        asked = [*command, "version"]
        if shutil.which(command[0]) and subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("Docker Compose is not installed; nothing else here needs it")


def check_configuration(
    command: list[str], folder: Path, passwords: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Let Compose read its file, which needs no Docker daemon."""
    environment_file = folder / "environment"
    environment_file.write_text("".join(f"{key}={value}\n" for key, value in passwords.items()), encoding="utf-8")
    return subprocess.run(
        [*command, "--env-file", str(environment_file), "config", "--quiet"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def orthanc_settings() -> dict[str, Any]:
    return dict(json.loads((REPOSITORY / "orthanc" / "orthanc.json").read_text(encoding="utf-8")))


def test_compose_accepts_the_file(compose_command: list[str], tmp_path: Path) -> None:
    result = check_configuration(compose_command, tmp_path, PASSWORDS)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("missing", sorted(PASSWORDS))
def test_compose_refuses_to_start_without_a_password(compose_command: list[str], tmp_path: Path, missing: str) -> None:
    others = {key: value for key, value in PASSWORDS.items() if key != missing}

    result = check_configuration(compose_command, tmp_path, others)

    assert result.returncode != 0
    assert "set it in .env" in result.stderr


def test_the_node_and_orthanc_know_each_other() -> None:
    node = load_settings(REPOSITORY / "orthanc" / "node.toml", environment={})
    orthanc = orthanc_settings()
    modality = orthanc["DicomModalities"][orthanc["DicomNode"]["Modality"]]
    (pacs,) = node.destination

    assert (modality["AET"], modality["Port"]) == (node.node.ae_title, node.dicom.port)
    assert (pacs.ae_title, pacs.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert orthanc["DicomAet"] in {peer.ae_title for peer in node.peer}


def test_every_file_that_compose_mounts_exists() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    mounted = [line.split("./", 1)[1].split(":")[0] for line in text.splitlines() if line.strip().startswith("- ./")]

    assert mounted
    assert [name for name in mounted if not Path(REPOSITORY, name).is_file()] == []
