"""Case 30, the models' half: a malicious checkpoint or a wrong digest is refused, and no code of it ever runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.governance.admission import environment
from dicom_node.index.database import Database
from dicom_node.index.decided.model_decisions import Decision, DecisionKind, add_decision
from dicom_node.inference.cards.card import load_card
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import toy_bundle

pytestmark = pytest.mark.timeout(600)

FINISHED = {"REPORTED", "NOT_ANALYSED", "FAILED"}


class Touch:
    """Makes a file when it is unpickled; an attacker would do worse."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._marker,)


def poison(folder: Path, marker: Path) -> None:
    """Replace the weights by a pickle that runs code, and have the card name its digest."""
    weights = pickle.dumps({"state_dict": Touch(marker)})
    (folder / "models" / "model.pt").write_bytes(weights)
    card = (folder / "model_card.toml").read_text(encoding="utf-8")
    before, _, after = card.partition("[weights]\n")
    rest = after.partition("[parameters]")[2]
    named = f'file = "models/model.pt"\nsha256 = "{hashlib.sha256(weights).hexdigest()}"\n'
    (folder / "model_card.toml").write_text(f"{before}[weights]\n{named}[parameters]{rest}", encoding="utf-8")


def bewitch(folder: Path, marker: Path) -> None:
    """Put an expression into the configuration that runs code as soon as it is parsed."""
    path = folder / "configs" / "inference.json"
    inference = json.loads(path.read_text(encoding="utf-8"))
    inference["network_def"]["in_channels"] = f"$__import__('pathlib').Path({str(marker)!r}).touch() or 1"
    path.write_text(json.dumps(inference), encoding="utf-8")


def command(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dicom_node", *words, "--config", str(node.config)]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)


def send(node: Node, folder: Path, seed: str) -> str:
    image = chest_radiograph_phantom(seed, rows=128)
    folder.mkdir(exist_ok=True)
    path = folder / f"{seed}.dcm"
    image.save_as(path, enforce_file_format=True)
    argv = [sys.executable, "-m", "dicom_node", "send", "--to", f"{node.aet}@127.0.0.1:{node.dicom_port}", str(path)]
    subprocess.run(argv, cwd=REPOSITORY, check=True, timeout=120, capture_output=True)
    return str(image.StudyInstanceUID)


def finished(node: Node, study: str) -> dict[str, Any]:
    """Wait for a study's end; return its jobs by route."""
    found: dict[str, Any] = {}

    def done() -> bool:
        with node.api() as api:
            answer = api.get(f"/api/studies/{study}")
        found.update(answer.json() if answer.status_code == 200 else {})
        return bool(found) and found["study"]["state"] in FINISHED

    wait_until(done, 240, f"study {study} to be finished", 0.5)
    return {job["route"]: job for job in found["jobs"]}


def route(model: str) -> dict[str, Any]:
    return {"name": model, "model": model, "quiet_period_s": 1.0, "when": {"modality": "CR"}}


def models(node: Node) -> dict[str, Any]:
    with node.api() as api:
        return dict(api.get("/api/models").raise_for_status().json())


def test_a_malicious_model_is_refused_everywhere_and_the_others_go_on(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    pickled, expressed = tmp_path / "pickle-ran", tmp_path / "expression-ran"
    folder = toy_bundle(tmp_path / "toy")
    poison(folder, pickled)
    bewitch(folder, expressed)
    one = node(start=False, inference={"max_attempts": 1}, route=[route("toy"), route("cxr-pneumonia")])

    added = command(one, "models", "add", str(folder))
    assert added.returncode == 1
    assert "could run code" in added.stdout

    # Somebody copies it there by hand.
    shutil.copytree(folder, one.data_dir / "models" / "toy")
    accepted = command(one, "models", "accept", "toy")
    assert accepted.returncode == 1
    assert "Nothing was accepted" in accepted.stdout

    one.start()
    assert models(one)["toy"]["standing"] == "MODEL_NOT_ACCEPTED"
    one.wait_for_event(lambda event: event.get("event") == "model refused" and event.get("model") == "toy")
    jobs = finished(one, send(one, tmp_path / "images", "first"))

    assert (jobs["toy"]["state"], jobs["toy"]["reason"]) == ("NOT_ANALYSABLE", "MODEL_NOT_ACCEPTED")
    assert jobs["cxr-pneumonia"]["state"] == "DONE"
    assert "models accept toy" in jobs["toy"]["message"]
    assert not pickled.exists()
    assert not expressed.exists()


def test_a_pickle_that_was_accepted_by_force_still_runs_no_code(node: Callable[..., Node], tmp_path: Path) -> None:
    pickled = tmp_path / "pickle-ran"
    one = node(start=False, inference={"max_attempts": 1}, route=[route("toy")])
    folder = toy_bundle(one.data_dir / "models" / "toy")
    poison(folder, pickled)
    one.start()
    decide_by_force(one, folder)

    jobs = finished(one, send(one, tmp_path / "images", "forced"))

    assert (jobs["toy"]["state"], jobs["toy"]["reason"]) == ("FAILED", "ANALYSIS_FAILED")
    assert not pickled.exists()


def decide_by_force(node: Node, folder: Path) -> None:
    """Write acceptance and activation past the command line, which would refuse them."""
    card = load_card(folder)
    about = {"at": datetime.now(UTC), "model": card.name, "version": card.version, "decided_by": "tests"}
    database = Database(f"sqlite:///{node.data_dir / 'node.sqlite'}")
    with database.write() as connection:
        add_decision(connection, Decision(kind=DecisionKind.ACCEPTED, digest=card.folder_digest, **about))
        add_decision(
            connection,
            Decision(kind=DecisionKind.ACTIVATED, digest=card.digest, environment=environment("auto"), **about),
        )
    database.close()


def test_weights_swapped_under_a_running_node_are_refused_and_put_back_are_run(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    pickled = tmp_path / "pickle-ran"
    one = node(start=False, inference={"max_attempts": 1}, route=[route("toy")])
    assert command(one, "models", "add", str(toy_bundle(tmp_path / "toy"))).returncode == 0
    folder = (one.data_dir / "models" / "toy").resolve()
    assert command(one, "models", "accept", "toy").returncode == 0
    assert command(one, "models", "activate", "toy").returncode == 1, "it has no golden studies"
    assert command(one, "models", "activate", "toy", "--without-golden").returncode == 0
    one.start()
    assert finished(one, send(one, tmp_path / "images", "good"))["toy"]["state"] == "DONE"

    weights = folder / "models" / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(pickle.dumps({"state_dict": Touch(pickled)}))
    studies = [send(one, tmp_path / "images", "swapped")]
    swapped = finished(one, studies[0])["toy"]
    assert (swapped["state"], swapped["reason"]) == ("NOT_ANALYSABLE", "MODEL_UNUSABLE")
    assert "sha256" in swapped["message"]

    weights.write_bytes(good)
    poison(folder, pickled)
    studies.append(send(one, tmp_path / "images", "rewritten"))
    rewritten = finished(one, studies[1])["toy"]
    assert (rewritten["state"], rewritten["reason"]) == ("NOT_ANALYSABLE", "MODEL_ALTERED")
    assert models(one)["toy"]["standing"] == "MODEL_ALTERED"
    assert command(one, "doctor").returncode == 1

    shutil.rmtree(folder)
    toy_bundle(folder)
    assert finished(one, send(one, tmp_path / "images", "again"))["toy"]["state"] == "DONE"
    told = command(one, "models", "activate", "toy", "--without-golden", "--rerun").stdout
    assert "2 analyses were not made" in told
    for study in studies:
        done = partial(is_done, one, study)
        wait_until(done, 240, f"study {study} to be analysed after all", 0.5)
    assert not pickled.exists()


def is_done(node: Node, study: str) -> bool:
    with node.api() as api:
        return bool(api.get(f"/api/studies/{study}").json()["jobs"][0]["state"] == "DONE")
