"""Mammograms through a node: the density card of the Model Zoo on a network of MONAI's own, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.peers import dcmtk
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support import needs
from tests.support.models.zoo_like import breast_density, density_weights
from tests.support.needs import REPOSITORY
from tests.support.studies.mammograms import CC, MLO, mammogram
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

CARD = "breast-density-classification"


def command(node: Node, *words: str) -> str:
    argv = [sys.executable, "-m", "dicom_node", *words, "--config", str(node.config)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def saved(folder: Path, *images: Dataset) -> Path:
    """Save images as one series of one study."""
    folder.mkdir()
    study, series = generate_uid(), generate_uid()
    for number, image in enumerate(images, 1):
        image.PatientName, image.PatientID, image.InstanceNumber = "DOE^JANE", "MAMMO-1", number
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def reports_at(pacs: dcmtk.Receiver) -> list[Path]:
    return [path for path in pacs.files() if pydicom.dcmread(path, stop_before_pixels=True).Modality == "SR"]


def dumped(report: Path) -> str:
    argv = [needs.tool("dsrdump", "dcmtk"), "+Pc", "+Pl", "-q", str(report)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_four_standard_views_are_answered_about_and_a_synthetic_one_and_an_implant_are_not(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    bundle, weights = breast_density(tmp_path / "zoo"), density_weights(tmp_path / "density.pt")
    synthetic = mammogram("L", MLO, ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"])
    views = [mammogram(side, view) for view in (CC, MLO) for side in "LR"]
    screening = saved(tmp_path / "screening", *views, synthetic)
    implants = saved(tmp_path / "implants", mammogram("L", BreastImplantPresent="YES"))
    (tmp_path / "pacs").mkdir()
    with dcmtk.running_storescp(tmp_path / "pacs") as pacs:
        one = node(
            start=False,
            destination=[
                {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.port}
            ],
            route=[{"name": "breast", "model": CARD, "quiet_period_s": 1.0, "when": {"modality": "MG"}}],
            inference={"require_activation": "none"},
        )
        command(one, "models", "add", str(bundle), "--card", CARD, "--weights", str(weights))
        command(one, "models", "accept", CARD)
        one.start()
        assert dcmtk.storescu(one.dicom_port, *sorted(screening.iterdir())).returncode == 0
        assert dcmtk.storescu(one.dicom_port, *sorted(implants.iterdir())).returncode == 0
        wait_until(lambda: len(reports_at(pacs)) == 2, 120, "two reports")
        reports = reports_at(pacs)

    told = {}
    for report in reports:
        validators.assert_readable_sr(report)
        told[str(pydicom.dcmread(report).StudyInstanceUID)] = dumped(report)
    about_views = told[str(views[0].StudyInstanceUID)]
    assert "Left out: image 5, of breast tomosynthesis" in about_views
    assert re.findall(r"Image (\d): (\w+) breast, (\w+) view", about_views) == [
        ("1", "left", "CC"),
        ("2", "right", "CC"),
        ("3", "left", "MLO"),
        ("4", "right", "MLO"),
    ]
    refused = next(text for study, text in told.items() if study != str(views[0].StudyInstanceUID))
    assert "1 with a breast implant" in refused
    assert "Presence of property" not in refused
