"""`dicom-node models bench` in a process of its own, with a real model and a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "models", "bench", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for number, image in enumerate(small_chest_ct()[0]):
        pydicom.dcmwrite(folder / f"{number}.dcm", image, enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def measured(study: Path) -> dict[str, Any]:
    done = bench("ct-lung-density", "--study", str(study), "--rounds", "3", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_figures_fit_each_other(measured: dict[str, Any]) -> None:
    total_s = sum(measured["warm_s"])

    assert (measured["device"], measured["images"], len(measured["warm_s"])) == ("cpu", 32, 3)
    assert measured["studies_per_s"] == pytest.approx(3 / total_s)
    assert measured["images_per_s"] == pytest.approx(32 * 3 / total_s)
    assert min(measured["warm_s"]) <= measured["study_s"] <= max(measured["warm_s"])


def test_the_stages_make_up_the_study(measured: dict[str, Any]) -> None:
    stages = measured["stages_s"]

    assert {"headers", "objects", "process"} <= set(stages)
    assert all(seconds >= 0 for seconds in stages.values())
    assert 0.5 * min(measured["warm_s"]) < sum(stages.values()) < 1.5 * max(measured["warm_s"])


def test_the_first_study_pays_for_the_process_and_memory_is_real(measured: dict[str, Any]) -> None:
    assert measured["cold_s"] > measured["study_s"]
    assert 50 < measured["peak_mb"] < 8000


def test_a_study_that_the_model_declines_is_no_measurement(study: Path) -> None:
    refused = bench("cxr-pneumonia", "--study", str(study), "--rounds", "1")

    assert refused.returncode == 1
    assert "declined the study" in refused.stderr


def test_a_model_that_is_not_there_is_told() -> None:
    refused = bench("no-such-model")

    assert refused.returncode == 1
    assert "there are: " in refused.stderr
