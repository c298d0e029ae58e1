"""Case 24: a study whose codec or model crashes, leaves, eats all memory or hangs is given up; the others are done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.inference.cards.card import SHIPPED_MODELS
from tests.peers.dcmtk import dcmsend
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

DEEDS = ("codec crashes", "model exits", "memory", "hangs")
TOLD = {
    "codec crashes": "killed by SIGSEGV",
    "model exits": "exited with status 0",
    "memory": "more than 4096 MB",
    "hangs": "longer than 40 s",
}


def hostile_model(folder: Path) -> Path:
    """Make the folder of a model whose code misbehaves; return the folder above."""
    card = (SHIPPED_MODELS / "ct-lung-density" / "model_card.toml").read_text(encoding="utf-8")
    (folder / "hostile").mkdir(parents=True)
    card = card.replace('name = "ct-lung-density"', 'name = "hostile"')
    card = card.replace("dicom_node.inference.lungs.density:analyse", "tests.acceptance.hostile_model:analyse")
    (folder / "hostile" / "model_card.toml").write_text(card, encoding="utf-8")
    return folder


def phantom(folder: Path, description: str) -> tuple[Path, str]:
    """Write a small chest CT with this study description; return where, and its Study Instance UID."""
    images, _ = small_chest_ct(description)
    (folder / description).mkdir(parents=True)
    for number, image in enumerate(images):
        image.StudyDescription = description
        pydicom.dcmwrite(folder / description / f"{number}.dcm", image, enforce_file_format=True)
    return folder / description, str(images[0].StudyInstanceUID)


def studies(node: Node) -> dict[str, dict[str, Any]]:
    with node.api() as api:
        listed = api.get("/api/studies").raise_for_status().json()
    return {one["study_instance_uid"]: one for one in listed["studies"]}


def sentences(node: Node, study: str) -> list[str]:
    with node.api() as api:
        return [str(one["text"]) for one in api.get(f"/api/studies/{study}/timeline").raise_for_status().json()]


def test_a_codec_that_crashes_a_model_that_exits_eats_or_hangs_is_given_up_after_three_attempts_and_the_next_study_done(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    models = hostile_model(tmp_path / "models")
    started = node(
        start=False,
        inference={
            "models_dirs": [str(models)], "require_activation": "none", "time_limit_s": 40.0, "workers": 2,
            "memory_limit_mb": 4096,
            "max_attempts": 3, "device": "cpu",
        },
        destination=[{"name": "files", "kind": "folder", "path": str(results)}],
        route=[{"name": "chest", "model": "hostile", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    )  # fmt: skip
    accept = [sys.executable, "-m", "dicom_node", "models", "accept", "hostile", "--config", str(started.config)]
    subprocess.run(accept, cwd=REPOSITORY, check=True, capture_output=True)
    started.start()
    made = {deed: phantom(tmp_path / "sent", deed) for deed in (*DEEDS, "innocent")}
    for folder, _ in made.values():
        assert dcmsend(started.dicom_port, folder).returncode == 0
    node_process = started.process
    uids = {deed: uid for deed, (_, uid) in made.items()}

    wait_until(
        lambda: {studies(started)[uid]["state"] for uid in uids.values()} <= {"FAILED", "REPORTED"},
        400, "every study to have come to an end", 1.0,
    )  # fmt: skip

    found = studies(started)
    assert {deed: found[uid]["state"] for deed, uid in uids.items()} == {
        **dict.fromkeys(DEEDS, "FAILED"), "innocent": "REPORTED",
    }  # fmt: skip
    for deed in DEEDS:
        failed = [text for text in sentences(started, uids[deed]) if text.startswith("Attempt ")]
        assert len(failed) == 3, deed
        assert all(TOLD[deed] in text for text in failed), failed
    assert not any(text.startswith("Attempt ") for text in sentences(started, uids["innocent"]))
    _last_study_is_done_too(started, tmp_path)
    assert node_process is started.process
    assert sorted(_reports(results)) == sorted([*uids.values(), phantom(tmp_path / "again", "after")[1]])


def _last_study_is_done_too(node: Node, tmp_path: Path) -> None:
    """Whatever the workers went through, the next study is done."""
    folder, uid = phantom(tmp_path / "sent", "after")
    assert dcmsend(node.dicom_port, folder).returncode == 0
    wait_until(lambda: uid in studies(node) and studies(node)[uid]["state"] == "REPORTED", 120, "the next study", 0.5)
    wait_until(lambda: not _owed(node), 60, "all deliveries", 0.5)


def _owed(node: Node) -> int:
    return sum(one["deliveries"]["pending"] for one in studies(node).values())


def _reports(folder: Path) -> list[str]:
    """The study of every SR that was delivered: the answers, and one notice for each study that was given up."""
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    return [str(one.StudyInstanceUID) for one in files if one.Modality == "SR"]
