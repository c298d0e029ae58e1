"""Each task on the other kind of input: pictures outlined and searched, volumes classified; heat maps upright."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from safetensors.torch import save_file  # noqa: E402

from dicom_node.analysis.answer import Analysis  # noqa: E402
from dicom_node.core.entities import Presence  # noqa: E402
from dicom_node.core.errors import ModelUnavailable, NotAnalysable  # noqa: E402
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


FLIPPED = {"_target_": "Flipd", "keys": "image", "spatial_axis": 0}
FORGETS = {"_target_": "EnsureTyped", "keys": "image", "track_meta": False}
RECALLS = {"_target_": "EnsureTyped", "keys": "image", "track_meta": True}
RESIZED = {"_target_": "Resized", "keys": "image", "spatial_size": [48, 48]}


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([RESIZED, FORGETS], True),
        ([FLIPPED, FORGETS], False),
        ([FLIPPED, FORGETS, RECALLS], False),
        ([FLIPPED, FORGETS, RECALLS, RESIZED], False),
        ([{"_target_": "Lambdad", "keys": "image", "func": "$lambda x: torch.flip(x, [1])"}, FORGETS], False),
    ],
    ids=["resized", "flipped", "recalled", "recalled and resized", "flipped by a function"],
)
def test_a_heat_map_without_a_sure_place_is_not_drawn(tmp_path: Path, steps: list[object], shown: bool) -> None:
    model = zoo_bundles.classifier(tmp_path / "cam")
    changed_config(model, network_def=CONVOLUTION, preprocessing={"_target_": "Compose", "transforms": steps})
    state = {"0.weight": torch.ones(2, 1, 3, 3), "0.bias": torch.zeros(2)}
    wanted = WantedAnswer(task="classification", explain_method="grad-cam", explain_layer="1")
    values = np.zeros((1, 60, 90), np.float32)
    values[0, 5:15, 60:85] = 1.0

    explanation = open_bundle(model, "cpu", wanted, state).explain(ModelInput(values=values), 0)

    assert (explanation is not None) == shown


@pytest.mark.parametrize("inverts", [True, False])
def test_a_mask_whose_preprocessing_is_forgotten_is_refused_with_the_reason(tmp_path: Path, inverts: bool) -> None:
    model = zoo_bundles.segmenter(tmp_path / "forgets", before=[FLIPPED, FORGETS], inverts=inverts)
    given = ModelInput(values=np.zeros((1, 16, 32, 32), np.float32), affine_lps_mm=np.eye(4))

    with pytest.raises(ModelUnavailable, match="forgets what it did to the image"):
        open_bundle(model, "cpu", WantedAnswer(task="segmentation"), zoo_bundles.two_levels()).predict([given])


def test_a_bundle_of_two_kinds_of_image_says_which_the_study_lacks(tmp_path: Path) -> None:
    model = zoo_bundles.classifier(tmp_path / "two")
    both = ["t1", "t2"]
    joined = {"_target_": "ConcatItemsd", "keys": both, "name": "image"}
    steps = [{"_target_": "LoadImaged", "keys": both}, {"_target_": "EnsureChannelFirstd", "keys": both}, joined]
    changed_config(model, preprocessing={"_target_": "Compose", "transforms": steps})
    network = open_bundle(model, "cpu", WantedAnswer(task="classification"), None)

    with pytest.raises(NotAnalysable, match="t2") as refusal:
        network.predict([ModelInput(values=np.zeros((1, 8, 8), np.float32))])

    assert refusal.value.reason == "CHANNELS_MISSING"


def test_a_probability_just_below_the_threshold_is_told_as_it_is(tmp_path: Path) -> None:
    model = zoo_bundles.classifier(tmp_path / "near")
    state = {"1.weight": torch.zeros(2, 64), "1.bias": torch.tensor([-0.00016, 0.0])}
    save_file(state, model / "models" / "model.safetensors")
    card = model / "model_card.toml"
    digest = hashlib.sha256((model / "models" / "model.safetensors").read_bytes()).hexdigest()
    card.write_text(re.sub('sha256 = "[0-9a-f]*"', f'sha256 = "{digest}"', card.read_text()))

    answer = run_model(request_for([chest_radiograph_phantom(rows=96)], model, tmp_path / "study"))

    assert isinstance(answer, Analysis), answer.message
    near = next(finding for finding in answer.findings if finding.key == "left-half")
    assert near.probability == pytest.approx(1 / (1 + np.exp(0.00016)), abs=1e-7)
    assert near.probability < 0.5
    assert near.presence is Presence.ABSENT
