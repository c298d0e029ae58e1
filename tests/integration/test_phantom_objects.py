"""Phantoms against an independent validator of DICOM objects."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.support.needs import tool
from tests.support.studies.data_factories import small_chest_ct


@pytest.mark.parametrize("dataset", [small_chest_ct()[0][4], chest_radiograph_phantom(rows=128)], ids=["CT", "CR"])
def test_dciodvfy_finds_neither_error_nor_warning(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "phantom.dcm"
    dataset.save_as(path, enforce_file_format=True)

    done = subprocess.run([tool("dciodvfy", "dicom3tools"), path], capture_output=True, text=True, check=False)

    told = done.stdout + done.stderr
    assert "Error" not in told
    assert "Warning" not in told
