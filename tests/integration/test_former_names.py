"""Models written for 0.1.0 import the node's modules by names that have moved; they go on working for one version."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.analysis import Analysis
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.cards.own_code import PACKAGE, modules_below
from dicom_node.inference.former_names import FORMER_NAMES
from dicom_node.inference.runner import run_model
from tests.support.docs.model_page import write_example
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import request_for, small_chest_ct

#: The imports of docs/model-card.md in version 0.1.0.
_IMPORTS_OF_0_1_0 = """\
from dicom_node.analysis import Analysis
from dicom_node.codes import ATTENUATION_COEFFICIENT, HOUNSFIELD_UNIT, LUNG, MEAN
from dicom_node.errors import NotAnalysable
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.images.volume import read_volume
from dicom_node.model import Finding, Measurement
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    written = write_example("a Python function", tmp_path / "models")
    folder, modules = written / "ct-mean", written / "site-models"
    now = (modules / "ct_mean.py").read_text(encoding="utf-8")
    then = _IMPORTS_OF_0_1_0 + now[now.index("\n\ndef") :].replace("codes.", "")
    (modules / "ct_mean_of_0_1_0.py").write_text(then, encoding="utf-8")
    card = (folder / "model_card.toml").read_text(encoding="utf-8")
    (folder / "model_card.toml").write_text(card.replace("ct_mean:", "ct_mean_of_0_1_0:"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(modules))
    return folder


def test_a_model_of_the_last_version_runs_and_its_former_names_are_logged(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phantom, _ = small_chest_ct()
    for name in FORMER_NAMES:
        sys.modules.pop(name, None)
    with caplog.at_level(logging.WARNING, logger="dicom_node.inference.former_names"):
        answer = run_model(request_for(phantom, model, tmp_path / "study"))

    assert isinstance(answer, Analysis)
    told = {(record.__dict__["former"], record.__dict__["present"]) for record in caplog.records}
    assert told == {
        ("dicom_node.codes", "dicom_node.core.codes"),
        ("dicom_node.errors", "dicom_node.core.errors"),
        ("dicom_node.model", "dicom_node.core.entities"),
    }
    assert "dicom_node.core.codes" in modules_below(load_card(model).answering_code(), PACKAGE)


def test_a_former_name_is_the_module_under_its_present_name() -> None:
    pytest.importorskip("torch")
    code = (
        "import importlib\n"
        "from dicom_node.inference.former_names import FORMER_NAMES, install_former_names\n"
        "install_former_names()\n"
        "for former, present in FORMER_NAMES.items():\n"
        "    assert importlib.import_module(former) is importlib.import_module(present), former\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_node_itself_knows_only_present_names() -> None:
    code = "import dicom_node.inference.former_names\nimport dicom_node.model"
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY, capture_output=True, text=True)

    assert "ModuleNotFoundError: No module named 'dicom_node.model'" in done.stderr
    assert all(importlib.util.find_spec(present) for present in FORMER_NAMES.values())
