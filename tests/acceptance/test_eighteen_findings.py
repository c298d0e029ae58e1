"""The 18 findings of TorchXRayVision, end to end: a checkpoint as published becomes a model by the documented commands,
an adult's radiograph is sent, and the report that the PACS gets is read by DCMTK."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.ready.shelf import ready_cards
from tests.peers import dcmtk
from tests.peers.node import Node
from tests.support import needs
from tests.support.models.torchxrayvision_network import save_as_published, untrained
from tests.support.needs import REPOSITORY
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

CARD = "torchxrayvision-all"
#: Most of what random weights say of the phantom lies above it, and some below.
THRESHOLD = 0.735
#: One summary, or more where 18 findings need them; one report; one map for each of the top five.
LEAST_OBJECTS = 7


def command(node: Node, *words: str) -> str:
    argv = [sys.executable, "-m", "dicom_node", *words, "--config", str(node.config)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def adult(folder: Path) -> Path:
    image = chest_radiograph_phantom("eighteen", age="054Y", view="PA")
    image.PatientName, image.PatientID = "DOE^JANE", "EIGHTEEN-1"
    image.StudyDescription, image.SeriesDescription = "Chest PA", "Chest"
    image.save_as(folder / "chest.dcm", enforce_file_format=True)
    return folder / "chest.dcm"


def dumped(report: Path) -> str:
    argv = [needs.tool("dsrdump", "dcmtk"), "+Pc", "-q", str(report)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_published_checkpoint_reports_eighteen_presences_and_five_maps(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    checkpoint, image = save_as_published(untrained(), tmp_path / "densenet.pt"), adult(tmp_path)
    (tmp_path / "pacs").mkdir()
    with dcmtk.running_storescp(tmp_path / "pacs") as pacs:
        one = node(
            start=False,
            destination=[
                {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.port}
            ],
            route=[
                {
                    "name": "chest",
                    "model": CARD,
                    "quiet_period_s": 1.0,
                    "when": {"modality": "CR"},
                    "parameters": {"threshold": THRESHOLD},
                }
            ],
            inference={"require_activation": "none"},
        )
        assert "Licence: Apache-2.0" in command(one, "models", "add", str(checkpoint), "--card", CARD)
        command(one, "models", "accept", CARD)
        one.start()
        assert dcmtk.storescu(one.dicom_port, image).returncode == 0
        pacs.wait_for(LEAST_OBJECTS)

        objects = pacs.datasets()
        report = next(path for path in pacs.files() if pydicom.dcmread(path, stop_before_pixels=True).Modality == "SR")

    validators.assert_readable_sr(report)
    read = dumped(report)
    evaluated = re.findall(r'"Tracking Identifier"\)="([^"]+)"', read)
    assert evaluated == re.findall(r'(?m)^label = "(.+)"$', ready_cards()[CARD])
    presences = re.findall(r'"Presence of property"\)=\([^"]+"(\w+)"\)', read)
    assert len(presences) == 18
    assert set(presences) == {"Present", "Absent"}
    assert read.count("score=uncalibrated") == 18
    scores = [float(score) for score in re.findall(r'"Score of the model"\)="([0-9.]+)"', read)]
    assert presences == ["Present" if score >= 100 * THRESHOLD else "Absent" for score in scores]
    top_five = {name for _, name in sorted(zip(scores, evaluated, strict=True))[-5:]}
    maps = [str(one.DerivationDescription) for one in objects if one.Modality == "OT"]
    drawn = {name for name in evaluated if any(f"Influence map: {name}" in told for told in maps)}
    assert drawn == top_five
