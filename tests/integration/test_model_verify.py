"""Looking at a model before it is trusted: every format is read as its runtime reads it; nothing of it runs here."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.running import InferenceSettings
from dicom_node.governance.admission import Standing, judge, rule_of
from dicom_node.governance.model_code import code_of
from dicom_node.governance.verify import Point, verify_folder
from dicom_node.index.decided.model_decisions import Decision, DecisionKind
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.sandbox import kernel_rules
from dicom_node.sandbox.confinement import lacking
from tests.acceptance.test_model_files import Touch, bewitch, poison
from tests.integration.test_file_runtimes import exported_card, onnx_card, script_card
from tests.support.models.model_folders import CLASSES, write_card
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import toy_bundle

PYTHON_CARD = 'entry_point = "tests.integration.confined_work:perform"'


def points_of(folder: Path) -> dict[str, Point]:
    return {point.name: point for point in verify_folder(folder)}


@pytest.mark.parametrize("make", [script_card, exported_card, onnx_card])
def test_a_file_of_each_format_loads(make: Callable[[Path], ModelCard], tmp_path: Path) -> None:
    points = points_of(make(tmp_path / "model").folder)

    assert [point for point in points.values() if not point.ok] == []
    assert "loads on the CPU" in points["loading"].text


def test_a_bundle_is_looked_at_and_its_expressions_do_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = toy_bundle(tmp_path / "toy")
    bewitch(folder, marker)

    points = points_of(folder)

    assert [point for point in points.values() if not point.ok] == []
    assert "read without running code" in points["loading"].text
    assert not marker.exists()


def test_all_that_a_bundle_brings_and_that_runs_is_named(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "toy")
    bewitch(folder, tmp_path / "ran")
    config = folder / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["inferer"] = {"_target_": "torch.hub.load", "repo": "x\x1b[2J"}
    content["imports"] = ["$import os\x1b[2J"]
    config.write_text(json.dumps(content))
    (folder / "configs" / "more.yaml").write_text("a:\n  _target_: scripts.net.Net\nb: '$print(1)'\n")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "net.py").write_text("class Net:\n    pass\n")
    (folder / "scripts" / "fast.so").write_bytes(b"\x7fELF")

    told = [point.text for point in verify_folder(folder) if point.name == "code"]

    assert "configs/inference.json: inferer._target_ = torch.hub.load" in told
    assert "configs/inference.json: imports[0] = $import os?[2J" in told
    assert "configs/more.yaml: _target_: scripts.net.Net" in told
    assert "configs/more.yaml: b: '$print(1)'" in told
    assert "scripts/net.py: Python, 2 lines" in told
    assert "scripts/fast.so: compiled code" in told
    assert not any("monai.transforms" in line for line in told)


@pytest.mark.parametrize(("make", "word"), [(script_card, "TorchScript program"), (onnx_card, "ONNX program")])
def test_a_file_that_is_a_program_is_called_one(make: Callable[[Path], ModelCard], word: str, tmp_path: Path) -> None:
    assert word in " ".join(code_of(make(tmp_path / "model")))


def test_a_model_of_weights_alone_is_said_to_bring_no_code(tmp_path: Path) -> None:
    assert code_of(load_card(toy_bundle(tmp_path / "toy"))) == [
        "none: its weights are read as data and run by the node's own code"
    ]


def test_where_models_must_be_confined_and_cannot_be_none_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card(write_card(tmp_path / "model", "python", top=PYTHON_CARD, more=CLASSES))
    must, may = InferenceSettings(confine="require"), InferenceSettings(require_activation="none")
    assert code_points(card, must)["confinement"].ok == (not lacking())

    monkeypatch.setattr(kernel_rules, "landlock_version", lambda: 0)

    assert not code_points(card, must)["confinement"].ok
    assert code_points(card, may)["confinement"].ok
    assert "Landlock" in code_points(card, may)["confinement"].text
    accepted = [decision(card)]
    assert judge(card, accepted, rule_of(must)).standing is Standing.NOT_CONFINED
    assert "require" in judge(card, accepted, rule_of(must)).text
    assert judge(card, accepted, rule_of(may)).standing is Standing.LIVE


def code_points(card: ModelCard, settings: InferenceSettings) -> dict[str, Point]:
    return {point.name: point for point in verify_folder(card.folder, settings.confine)}


def decision(card: ModelCard) -> Decision:
    return Decision(
        at=datetime.now(UTC), kind=DecisionKind.ACCEPTED, model=card.name, version=card.version, decided_by="me",
        digest=card.folder_digest, detail={},
    )  # fmt: skip


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = toy_bundle(tmp_path / "toy")
    poison(folder, marker)

    points = points_of(folder)

    assert points["weights"].ok, "its digest is what the card says"
    assert not points["loading"].ok
    assert "could run code" in points["loading"].text
    assert not marker.exists()


def test_an_exported_program_with_a_pickle_inside_is_refused_unrun(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = exported_card(tmp_path / "model").folder
    weights = folder / "model.pt2"
    with zipfile.ZipFile(weights) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (sample,) = (name for name in members if "sample_inputs" in name)
    members[sample] = pickle.dumps(Touch(marker))
    with zipfile.ZipFile(weights, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    card = folder / "model_card.toml"
    before, _, after = card.read_text().partition('sha256 = "')
    card.write_text(f'{before}sha256 = "{hashlib.sha256(weights.read_bytes()).hexdigest()}"{after[65:]}')

    points = points_of(folder)

    assert points["weights"].ok
    assert not points["loading"].ok, points["loading"]
    assert not marker.exists()


def test_weights_with_another_digest_are_not_even_opened(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "toy")
    (folder / "models" / "model.safetensors").write_bytes(b"other")

    points = points_of(folder)

    assert not points["weights"].ok
    assert "loading" not in points


def test_predicates_and_codes_with_slips_are_told(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "toy")
    card = folder / "model_card.toml"
    text = card.read_text().replace("[[accepts]]", "[[accepts]]\nbody_part_examind = 'CHEST'")
    card.write_text(text.replace("233604007", "233604008"))

    points = points_of(folder)

    assert {name for name, point in points.items() if not point.ok} == {"accepts", "codes"}
    assert "body_part_examined" in points["accepts"].text


def test_looking_at_models_loads_no_torch_into_the_process_that_looks(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "toy")
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from dicom_node.governance.verify import verify_folder\n"
        "from dicom_node.governance import admission, standing\n"
        "points = verify_folder(Path(sys.argv[1]))\n"
        "print(json.dumps([all(p.ok for p in points), sorted({'torch', 'monai', 'onnxruntime'} & set(sys.modules))]))\n"
    )

    told = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=REPOSITORY, check=True, capture_output=True)

    assert json.loads(told.stdout) == [True, []]
