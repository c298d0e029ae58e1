"""Golden studies on this machine: the shipped models hold theirs; one that does not hold keeps a model from live."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dicom_node.__main__ import main
from dicom_node.governance.admission import ModelStanding, Standing
from dicom_node.index.decided.model_decisions import Decision, DecisionKind, add_decision
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.cards.folders import survey_models
from dicom_node.inference.workers.precision import multiplies_in_bfloat16
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings
from tests.support.campaign import amount
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import small_chest_ct

_MODEL, _BRAIN = "ct-copy", "mr-brain-volumes"
#: Golden studies of the brain model that need its network, besides the one that every run asks.
_WHOLE_HEADS = ("bottle", "ct-as-mr", "fruit", "geometric-head", "upside-down", "wrong-axes", "wrong-spacing")


def copied(shipped: str, folder: Path) -> Path:
    """Copy a shipped model under the name of a folder, so that nobody has accepted it."""
    shutil.copytree(SHIPPED_MODELS / shipped, folder)
    card = folder / "model_card.toml"
    card.write_text(card.read_text(encoding="utf-8").replace(f'name = "{shipped}"', f'name = "{folder.name}"'))
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of its own, and a copy of a shipped model beside it that nobody has accepted."""
    copied("ct-lung-density", tmp_path / "brought" / _MODEL)
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\nmin_free_mb = 0\n')
    return path


def standing(config: Path, model: str = _MODEL) -> ModelStanding:
    node = Node(load_settings(config))
    card = survey_models(node.settings.models_dirs).cards[model]
    found = node.admission.standing(card)
    node.database.close()
    return found


def run(config: Path, *words: str) -> int:
    return main(["models", *words, "--config", str(config)])


@pytest.mark.parametrize("model", sorted({path.name for path in SHIPPED_MODELS.iterdir() if path.is_dir()} - {_BRAIN}))
def test_a_shipped_model_gives_its_golden_answers_here(
    config: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    assert run(config, "activate", model, "--json") == 0

    outcomes = json.loads(capsys.readouterr().out)
    assert len(outcomes) >= 2
    assert [outcome["differences"] for outcome in outcomes] == [[]] * len(outcomes)
    assert standing(config, model).activated_at is not None


@pytest.mark.campaign
def test_the_brain_model_gives_its_golden_answers_here(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight of its studies are heads through the whole network, ten seconds of a core each. The sample has the one that
    only a network with the right weights answers so: it must find the brain to see that it is cut."""
    brought = copied(_BRAIN, config.parent / "brought" / "brain-copy")
    for name in amount(sample=_WHOLE_HEADS, campaign=()):
        (brought / "golden" / f"{name}.toml").unlink()
    asked = {path.name for path in brought.glob("golden/*.toml")}
    assert run(config, "add", str(brought)) == run(config, "accept", "brain-copy") == 0
    capsys.readouterr()

    assert run(config, "activate", "brain-copy", "--json") == 0

    outcomes = json.loads(capsys.readouterr().out.partition("\n]")[0] + "\n]")
    assert {outcome["file"] for outcome in outcomes} >= asked
    assert "missing-third.toml" in asked
    assert [outcome["differences"] for outcome in outcomes] == [[]] * len(outcomes)
    assert standing(config, "brain-copy").activated_at is not None


def test_a_brought_model_is_added_accepted_and_activated_in_this_order(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = config.parent / "brought" / _MODEL

    assert run(config, "verify", str(brought)) == 0
    assert run(config, "add", str(brought)) == 0
    assert standing(config).standing is Standing.NOT_ACCEPTED
    assert run(config, "activate", _MODEL) == 1
    assert run(config, "accept", _MODEL, "--digest", "0123456789") == 1
    assert standing(config).standing is Standing.NOT_ACCEPTED
    assert run(config, "accept", _MODEL, "--digest", standing(config).folder_digest[:12]) == 0
    assert standing(config).standing is Standing.NOT_ACTIVATED
    assert run(config, "activate", _MODEL) == 0

    live = standing(config)
    assert live.standing is Standing.LIVE
    assert live.accepted_by
    assert run(config, "accept", _MODEL, "--withdraw") == 1
    assert standing(config).standing is Standing.NOT_ACCEPTED
    capsys.readouterr()
    assert run(config, "decisions", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in told] == ["WITHDRAWN", "ACTIVATED", "ACCEPTED"]
    assert {one["decided_by"] for one in told} == {live.accepted_by}


def test_a_model_with_another_answer_than_expected_does_not_go_live(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = config.parent / "brought" / _MODEL
    case = brought / "golden" / "whole-lungs.toml"
    case.write_text(case.read_text(encoding="utf-8").replace("value = 2135", "value = 3135"))
    run(config, "add", str(brought))
    run(config, "accept", _MODEL)

    assert run(config, "activate", _MODEL) == 1

    told = " ".join(capsys.readouterr().out.split())
    assert "expected 3135" in told
    assert standing(config).standing is Standing.NOT_ACTIVATED


def test_a_golden_study_may_be_a_folder_of_images(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brought = config.parent / "brought" / _MODEL
    shutil.rmtree(brought / "golden")
    study = brought / "golden" / "study-1"
    study.mkdir(parents=True)
    slices, truth = small_chest_ct()
    for image in slices:
        image.save_as(study / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    (study / "README.txt").write_text("no image")
    (brought / "golden" / "own.toml").write_text(
        'name = "of our own"\n[study]\nfolder = "study-1"\n[expect]\nstate = "DONE"\n[[expect.finding]]\n'
        'key = "both-lungs"\n[[expect.finding.measurement]]\nlabel = "Volume"\n'
        f"value = {truth.both.volume_ml:.0f}\ntolerance = {truth.both.volume_ml * 0.02:.0f}\n"
    )
    run(config, "add", str(brought))
    run(config, "accept", _MODEL)
    capsys.readouterr()

    assert run(config, "activate", _MODEL, "--json") == 0

    (outcome,) = json.loads(capsys.readouterr().out.partition("\n]")[0] + "\n]")
    assert (outcome["file"], outcome["differences"], outcome["answer"]["state"]) == ("own.toml", [], "DONE")


def test_a_node_that_was_never_started_can_be_asked_without_making_a_database(config: Path) -> None:
    assert run(config, "list") == 0
    assert run(config, "verify") == 0
    assert not (config.parent / "data").exists()


# --- less than float32 ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not multiplies_in_bfloat16(), reason="this processor does not multiply in bfloat16")
def test_a_lower_precision_that_changes_what_is_said_does_not_go_live(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its two outputs are large and lie nearer to each other than two numbers of bfloat16 of that size."""
    weight = torch.stack([torch.full((64,), 300.6 / 64), torch.full((64,), 300.0 / 64)])
    brought_bundle(config, {"1.weight": weight, "1.bias": torch.zeros(2)}, 'precision = "bfloat16"\n')
    capsys.readouterr()

    assert run(config, "activate", "halves", "--without-golden", "--json") == 1

    (outcome,) = json.loads(capsys.readouterr().out)
    told = " ".join(outcome["differences"])
    assert re.search(r"bfloat16 is at most 0\.\d+ from float32, in the probability of \S+; 0.01 is tolerated", told)
    assert standing(config, "halves").standing is Standing.NOT_ACTIVATED


# --- what cannot run is not live -----------------------------------------------------------------------------------


def brought_bundle(config: Path, state: Mapping[str, torch.Tensor], told: str = "") -> None:
    """Add and accept a bundle that compares the halves of a picture, with these weights and no golden study."""
    model = zoo_bundles.classifier(config.parent / "brought" / "halves")
    weights = model / "models" / "model.safetensors"
    card = model / "model_card.toml"
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(dict(state), weights)
    card.write_text(told + card.read_text().replace(before, hashlib.sha256(weights.read_bytes()).hexdigest()))
    assert run(config, "add", str(model)) == 0
    assert run(config, "accept", "halves") == 0


def halves() -> dict[str, torch.Tensor]:
    return {"1.weight": torch.eye(2, 64), "1.bias": torch.zeros(2)}


def test_a_model_without_golden_studies_is_run_once_before_it_is_live(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought_bundle(config, halves())

    assert run(config, "activate", "halves", "--without-golden") == 0

    assert "runs on a phantom" in capsys.readouterr().out
    assert standing(config, "halves").standing is Standing.LIVE


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"renamed.weight": torch.eye(2, 64), "1.bias": torch.zeros(2)}, "renamed.weight"),
        ({"1.weight": torch.eye(2, 64) * float("nan"), "1.bias": torch.zeros(2)}, "not-a-number"),
    ],
    ids=["a renamed key", "damaged weights"],
)
def test_a_model_that_cannot_run_does_not_go_live(
    config: Path, capsys: pytest.CaptureFixture[str], state: Mapping[str, torch.Tensor], told: str
) -> None:
    brought_bundle(config, state)

    assert run(config, "activate", "halves", "--without-golden") == 1

    assert told in capsys.readouterr().out
    assert standing(config, "halves").standing is Standing.NOT_ACTIVATED


def test_a_model_that_answers_otherwise_each_time_does_not_go_live(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = zoo_bundles.classifier(config.parent / "brought" / "halves")
    inference = model / "configs" / "inference.json"
    told = json.loads(inference.read_text())
    told["imports"].append("$import torch")
    noise = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x + torch.rand_like(x)"}
    told["postprocessing"]["transforms"].insert(0, noise)
    inference.write_text(json.dumps(told))
    assert run(config, "add", str(model)) == run(config, "accept", "halves") == 0
    capsys.readouterr()

    assert run(config, "activate", "halves", "--without-golden", "--json") == 1

    (outcome,) = json.loads(capsys.readouterr().out)
    assert "two answers about one study" in outcome["differences"][0]


def test_a_model_that_would_not_be_accepted_any_more_is_not_activated(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was accepted by a node that did not know yet what is wrong with it."""
    brought_bundle(config, halves())
    node = Node(load_settings(config))
    inference = node.settings.own_models_dir / "halves" / "configs" / "inference.json"
    flip = '{"_target_": "RandFlipd", "keys": "image", "prob": 0.5}, {"_target_": "Resized"'
    inference.write_text(inference.read_text().replace('{"_target_": "Resized"', flip))
    card = survey_models(node.settings.models_dirs).cards["halves"]
    at = datetime.now(UTC)
    with node.database.write() as connection:
        add_decision(
            connection, Decision(at=at, kind=DecisionKind.ACCEPTED, model="halves", version=card.version,
                                 decided_by="somebody", digest=card.folder_digest),
        )  # fmt: skip
    node.database.close()

    assert run(config, "activate", "halves", "--without-golden") == 1

    told = capsys.readouterr().out
    assert "RandFlipd" in told
    assert "Nothing was activated" in told
    assert standing(config, "halves").standing is Standing.NOT_ACTIVATED
