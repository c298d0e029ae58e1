"""Each task on the other kind of input: pictures outlined and searched, volumes classified; heat maps upright."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.analysis.answer import Analysis  # noqa: E402
from dicom_node.core.entities import Presence  # noqa: E402
from dicom_node.demo.phantoms import chest_radiograph_phantom  # noqa: E402
from dicom_node.inference.prediction import ModelInput  # noqa: E402
from dicom_node.inference.runner import run_model  # noqa: E402
from dicom_node.inference.runtimes.monai_bundle.model import WantedAnswer, open_bundle  # noqa: E402
from dicom_node.sr_writer import to_part10, write_objects  # noqa: E402
from tests.support.models import zoo_bundles  # noqa: E402
from tests.support.studies.data_factories import renumbered, request_for  # noqa: E402
from tests.support.studies.shapes import Placed, series_of  # noqa: E402
from tests.support.validators import objects as validators  # noqa: E402

CONVOLUTION = (
    "$torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU(), "
    "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())"
)


def changed_config(model: Path, **changes: object) -> Path:
    path = model / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return model


def flat_segmenter(folder: Path) -> Path:
    """A segmenter of pictures: class 1 above 0.4, class 2 above 0.8 of the range."""
    card = zoo_bundles.SEGMENTS.replace('["CT", "MR"]', '["CR", "DX"]').replace(
        'task = "segmentation"', 'task = "segmentation"\ninput = "image"'
    )
    model = zoo_bundles.segmenter(folder, card=card, flat=True)
    config = json.loads((model / "configs" / "inference.json").read_text())
    transforms = config["preprocessing"]["transforms"]
    transforms[2] = {"_target_": "Resized", "keys": "image", "spatial_size": [64, 48], "mode": "nearest"}
    return changed_config(model, preprocessing=config["preprocessing"], inferer={"_target_": "SimpleInferer"})


def picture(name: str, top: int) -> Dataset:
    """A radiograph, dark but for a bright bar of 12 rows from `top` on, over columns 16 to 79."""
    image = renumbered(chest_radiograph_phantom(rows=96), name)
    stored = np.full((96, 96), 100, np.uint16)
    stored[top : top + 12, 16:80] = 3900
    image.PixelData, image.InstanceNumber = stored.tobytes(), top
    return image


def test_a_radiograph_is_outlined_and_the_mask_is_a_valid_object(tmp_path: Path) -> None:
    model = flat_segmenter(tmp_path / "flat")
    request = request_for([picture("a", 10), picture("b", 60)], model, tmp_path / "study")

    answer = run_model(request)

    assert isinstance(answer, Analysis), answer.message
    ball = next(one for one in answer.segments if one.finding_key == "ball")
    assert ball.mask.shape == (1, 96, 96)
    rows, columns = np.nonzero(ball.mask[0])
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([10, 21, 16, 79], abs=2)
    assert any(note.startswith("Only the first of 2 images was outlined") for note in answer.notes)
    assert all(not finding.measurements for finding in answer.findings)
    assert next(finding for finding in answer.findings if finding.key == "block").presence is Presence.ABSENT
    for one in write_objects(answer, request.context):
        path = tmp_path / f"{one.order:02}.dcm"
        path.write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(path, request.files[0].path)


def test_a_volume_is_classified_as_a_whole(tmp_path: Path) -> None:
    card = zoo_bundles.TWO_CLASSES.replace('task = "classification"', 'task = "classification"\ninput = "volume"')
    model = zoo_bundles.classifier(tmp_path / "halves", card=card + "[gate]\ntest_subjects_allowed = true\n")
    config = json.loads((model / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"][2:] = [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
        {"_target_": "Resized", "keys": "image", "spatial_size": [4, 4, 4], "mode": "area"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
    ]
    changed_config(model, preprocessing=config["preprocessing"])
    # Most of the body lies at negative x, the first half of a volume that is turned to LPS.
    for name, place in {"upright": Placed(), "mirrored": Placed(row_direction=(-1, 0, 0))}.items():
        answer = run_model(request_for(series_of(place)[0], model, tmp_path / name))
        assert isinstance(answer, Analysis), answer.message
        chances = {finding.key: finding.probability or 0 for finding in answer.findings}
        assert chances["left-half"] > 0.9
        assert len(answer.sources) == place.shape_zyx[0]


def test_a_box_on_a_picture_has_columns_first_and_slice_nought(tmp_path: Path) -> None:
    model = zoo_bundles.detector(tmp_path / "boxes")
    config = json.loads((model / "configs" / "inference.json").read_text())
    before = config["preprocessing"]["transforms"][:2]
    before.append({"_target_": "Resized", "keys": "image", "spatial_size": [30, 40], "mode": "nearest"})
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
    changed_config(model, network_def=network, preprocessing={"_target_": "Compose", "transforms": before})
    script = model / "scripts" / "boxes.py"
    script.write_text(script.read_text().replace("torch.zeros(3)", "torch.zeros(2)"))
    state = {"weight": torch.ones(1, 1, 1, 1), "bias": torch.zeros(1)}
    values = np.zeros((1, 80, 120), np.float32)
    values[0, 20:30, 80:100] = 1.0

    (found,) = open_bundle(model, "cpu", WantedAnswer(task="detection"), state).predict([ModelInput(values=values)])

    best = found.boxes[0]
    assert (best.low_xyz_px, best.high_xyz_px) == (
        pytest.approx((80, 20, 0), abs=4),
        pytest.approx((100, 30, 1), abs=4),
    )
    assert found.boxes[1].high_xyz_px == pytest.approx((120, 80, 1))


@pytest.mark.parametrize("reads_files", [True, False], ids=["columns first", "rows first"])
def test_a_heat_map_lies_on_what_it_explains_whichever_axis_comes_first(tmp_path: Path, reads_files: bool) -> None:
    model = zoo_bundles.classifier(tmp_path / "cam")
    config = json.loads((model / "configs" / "inference.json").read_text())
    transforms = [{"_target_": "Resized", "keys": "image", "spatial_size": [48, 48]}]
    if reads_files:
        transforms = [*config["preprocessing"]["transforms"][:2], *transforms]
    changed_config(model, network_def=CONVOLUTION, preprocessing={"_target_": "Compose", "transforms": transforms})
    weight = torch.zeros(2, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    state = {"0.weight": weight, "0.bias": torch.zeros(2)}
    values = np.zeros((1, 60, 90), np.float32)
    values[0, 5:15, 60:85] = 1.0
    wanted = WantedAnswer(task="classification", explain_method="grad-cam++", explain_layer="1")

    explanation = open_bundle(model, "cpu", wanted, state).explain(ModelInput(values=values), 0)

    assert explanation is not None
    assert explanation.method == "Grad-CAM++, layer 1"
    rows, columns = np.nonzero(explanation.map > 0.5)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([5, 14, 60, 84], abs=2)
