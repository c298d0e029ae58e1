"""Case 24: a study whose codec or model crashes, leaves, eats all memory or hangs is given up; the others are done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
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

#: What is told of each attempt, by what the study's description asks the model to do.
CRASHES = {
    "codec crashes": "killed by SIGSEGV",
    "model exits": "exited with status 0",
    "memory": "more than 4096 MB",
}
#: Ten times what the study after it takes, of which a busy machine may need an attempt more.
HANGS_S = 6.0


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


def hostile_node(node: Callable[..., Node], tmp_path: Path, time_limit_s: float) -> Node:
    """Start a node of two workers that runs the hostile model and writes what comes of it into a folder."""
    models = hostile_model(tmp_path / "models")
    started = node(
        start=False,
        inference={
            "models_dirs": [str(models)], "require_activation": "none", "time_limit_s": time_limit_s, "workers": 2,
            "memory_limit_mb": 4096, "max_attempts": 3, "device": "cpu",
        },
        destination=[{"name": "files", "kind": "folder", "path": str(tmp_path / "results")}],
        route=[{"name": "chest", "model": "hostile", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    )  # fmt: skip
    accept = [sys.executable, "-m", "dicom_node", "models", "accept", "hostile", "--config", str(started.config)]
    subprocess.run(accept, cwd=REPOSITORY, check=True, capture_output=True)
    started.start()
    return started


def sent_and_ended(node: Node, tmp_path: Path, descriptions: Sequence[str]) -> dict[str, str]:
    """Send a study of each description, wait for the end of all, and return their UIDs by description."""
    made = {description: phantom(tmp_path / "sent", description) for description in descriptions}
    for folder, _ in made.values():
        assert dcmsend(node.dicom_port, folder).returncode == 0
    uids = {description: uid for description, (_, uid) in made.items()}
    ended = {"FAILED", "REPORTED"}
    wait_until(lambda: {studies(node)[uid]["state"] for uid in uids.values()} <= ended, 400, "the end of all", 0.5)
    return uids


def assert_given_up(node: Node, uid: str, told: str) -> None:
    assert studies(node)[uid]["state"] == "FAILED"
    failed = [text for text in sentences(node, uid) if text.startswith("The analysis failed, tried ")]
    assert len(failed) == 3, failed
    assert all(told in text for text in failed), failed


def test_what_crashes_exits_or_eats_all_memory_is_given_up_after_three_attempts_and_others_are_done(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    started = hostile_node(node, tmp_path, time_limit_s=300.0)
    process = started.process
    uids = sent_and_ended(started, tmp_path, [*CRASHES, "innocent"])
    for what, told in CRASHES.items():
        assert_given_up(started, uids[what], told)
    assert studies(started)[uids["innocent"]]["state"] == "REPORTED"
    assert not any(text.startswith("The analysis failed, tried ") for text in sentences(started, uids["innocent"]))
    after = _last_study_is_done_too(started, tmp_path)
    assert process is started.process
    assert sorted(_reports(tmp_path / "results")) == sorted([*uids.values(), after])


def test_a_model_that_hangs_is_given_up_after_three_attempts_and_the_next_study_is_done(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    """On a node of its own, whose time limit can be short because nobody else has to keep it before the end."""
    started = hostile_node(node, tmp_path, time_limit_s=HANGS_S)
    uids = sent_and_ended(started, tmp_path, ["hangs"])
    assert_given_up(started, uids["hangs"], f"longer than {HANGS_S:g} s")
    after = _last_study_is_done_too(started, tmp_path)
    assert sorted(_reports(tmp_path / "results")) == sorted([uids["hangs"], after])


def _last_study_is_done_too(node: Node, tmp_path: Path) -> str:
    """Whatever the workers went through, the next study is done; return its UID."""
    folder, uid = phantom(tmp_path / "sent", "after")
    assert dcmsend(node.dicom_port, folder).returncode == 0
    wait_until(lambda: uid in studies(node) and studies(node)[uid]["state"] == "REPORTED", 120, "the next study", 0.5)
    wait_until(lambda: not _owed(node), 60, "all deliveries", 0.5)
    return uid


def _owed(node: Node) -> int:
    return sum(one["deliveries"]["pending"] for one in studies(node).values())


def _reports(folder: Path) -> list[str]:
    """The study of every SR that was delivered: the answers, and one notice for each study that was given up."""
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.rglob("*.dcm")]
    return [str(one.StudyInstanceUID) for one in files if one.Modality == "SR"]
