"""What a bundle may bring along and what is refused: weights that could run code, scripts of its own, odd configs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.__main__ import main  # noqa: E402
from dicom_node.cli.parser import make_parser  # noqa: E402
from dicom_node.core.errors import ModelUnavailable  # noqa: E402
from dicom_node.inference.cards.card import TASK_INPUTS, load_card  # noqa: E402
from dicom_node.inference.prediction import ModelInput  # noqa: E402
from dicom_node.inference.runtimes.monai_bundle.model import WantedAnswer, load, open_bundle  # noqa: E402
from dicom_node.inference.runtimes.weights import read_state  # noqa: E402
from dicom_node.inference.trial import TrialOptions, phantom, try_bundle  # noqa: E402
from tests.support.models import zoo_bundles  # noqa: E402


class RunsCode:
    """Unpickling it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _touch, (str(self.path),)


def _touch(path: str) -> None:
    Path(path).touch()


def with_weights(model: Path, content: object) -> Path:
    """Put pickled weights in place of the safetensors and name them in the card, digest and all."""
    weights = model / "models" / "model.pt"
    torch.save(content, weights)
    card = model / "model_card.toml"
    old = hashlib.sha256((model / "models" / "model.safetensors").read_bytes()).hexdigest()
    new = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(card.read_text().replace("model.safetensors", "model.pt").replace(old, new))
    return model


def test_a_pickle_that_would_run_code_is_refused_and_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    model = with_weights(zoo_bundles.segmenter(tmp_path / "evil"), {"weight": RunsCode(trace)})

    with pytest.raises(ModelUnavailable, match="could run code"):
        load(load_card(model), "cpu")

    assert not trace.exists()
    torch.load(model / "models" / "model.pt", weights_only=False)
    assert trace.exists(), "the file is not the trap it should be"


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    model = with_weights(zoo_bundles.segmenter(tmp_path / "whole"), torch.nn.Linear(2, 2))

    with pytest.raises(ModelUnavailable, match="Save the state dict alone"):
        load(load_card(model), "cpu")


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": torch.tensor(3)}])
def test_a_state_dict_is_taken_alone_or_in_a_checkpoint(tmp_path: Path, wrap: Callable[[object], object]) -> None:
    model = with_weights(zoo_bundles.segmenter(tmp_path / "plain"), wrap(zoo_bundles.two_levels()))

    (prediction,) = load(load_card(model), "cpu").predict([phantom((1, 8, 40, 44))])

    assert prediction.labels is not None
    assert prediction.labels.shape == (8, 40, 44)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x02garbage"])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_damaged_weights_file_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelUnavailable, match=name):
        read_state(tmp_path / name)


def test_a_file_without_a_state_dict_is_told(tmp_path: Path) -> None:
    torch.save({"optimizer": {"lr": 0.1}}, tmp_path / "model.pt")

    with pytest.raises(ModelUnavailable, match="hold no state dict"):
        read_state(tmp_path / "model.pt")


def test_bundles_whose_scripts_have_the_same_name_do_not_meet(tmp_path: Path) -> None:
    first, second = (zoo_bundles.detector(tmp_path / name) for name in ("first", "second"))
    script = second / "scripts" / "boxes.py"
    script.write_text(script.read_text().replace("[0.1, 0.8]", "[0.1, 0.6]"))
    loaded = [load(load_card(model), "cpu") for model in (first, second)]
    given = phantom((1, 16, 40, 44))
    brightest = ModelInput(values=given.values * 2.0, affine_lps_mm=given.affine_lps_mm)

    # In turns: each must keep finding its own scripts after the other has run.
    best = [model.predict([brightest])[0].boxes[0].score for model in (*loaded, *loaded)]

    assert best == pytest.approx([0.8, 0.6, 0.8, 0.6])
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_bundle_that_fails_tells_what_its_code_said(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "odd")
    path = model / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["preprocessing"]["transforms"].append(
        {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: 1 / len(x.shape[9:])"}
    )
    path.write_text(json.dumps(config))

    with pytest.raises(ModelUnavailable, match="ZeroDivisionError: division by zero"):
        load(load_card(model), "cpu").predict([phantom((1, 8, 40, 44))])


def test_a_result_that_lies_elsewhere_is_never_given(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "shifted", before=[zoo_bundles.RAS])
    path = model / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["postprocessing"]["transforms"].append(
        {"_target_": "Flipd", "keys": "pred", "spatial_axis": 0}  # after the inverse: turned round on the images
    )
    path.write_text(json.dumps(config))

    with pytest.raises(ModelUnavailable, match="lies elsewhere in the patient"):
        load(load_card(model), "cpu").predict([phantom((1, 8, 40, 44))])


def test_an_answer_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "named")
    path = model / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["postprocessing"]["transforms"] += [
        {"_target_": "CopyItemsd", "keys": "pred", "names": "type_map"},
        {"_target_": "SelectItemsd", "keys": "type_map"},
    ]
    path.write_text(json.dumps(config))

    with pytest.raises(ModelUnavailable, match="leaves no 'pred' but type_map"):
        load(load_card(model), "cpu").predict([phantom((1, 8, 40, 44))])

    card = model / "model_card.toml"
    card.write_text(card.read_text() + '[output]\nname = "type_map"\n')
    (prediction,) = load(load_card(model), "cpu").predict([phantom((1, 8, 40, 44))])
    assert prediction.labels is not None
    assert prediction.labels.max() == 2


def test_classes_brought_back_one_by_one_are_those_brought_back_together(tmp_path: Path) -> None:
    steps = [zoo_bundles.RAS, zoo_bundles.RESAMPLED]
    model, state = zoo_bundles.segmenter(tmp_path / "many", before=steps), zoo_bundles.two_levels()
    state["weight"], state["bias"] = state["weight"] / 50, state["bias"] / 50  # soft borders: near ties everywhere
    given = phantom((1, 12, 40, 44))
    one_by_one, together = (
        open_bundle(model, "cpu", WantedAnswer(task="segmentation", explain_method=method), state).predict([given])[0]
        for method in ("", "probability")
    )

    assert one_by_one.labels is not None
    assert together.probabilities is not None
    assert one_by_one.probabilities is None
    assert np.array_equal(one_by_one.labels, together.labels)
    assert np.array_equal(one_by_one.labels, together.probabilities.argmax(axis=0))
    assert len(np.unique(one_by_one.labels)) == 3


def test_a_network_that_gives_no_numbers_gives_no_mask(tmp_path: Path) -> None:
    model, state = zoo_bundles.segmenter(tmp_path / "nan"), zoo_bundles.two_levels()
    state["bias"][1] = float("nan")

    with pytest.raises(ModelUnavailable, match="not-a-number"):
        open_bundle(model, "cpu", WantedAnswer(task="segmentation"), state).predict([phantom((1, 8, 40, 44))])


@pytest.mark.parametrize("method", ["grad-cam", "attention-rollout"])
def test_a_way_to_explain_that_does_not_fit_the_task_is_refused(tmp_path: Path, method: str) -> None:
    card = zoo_bundles.SEGMENTS + f'[explain]\nmethod = "{method}"\n'
    model = zoo_bundles.segmenter(tmp_path / "wrong", card=card)

    with pytest.raises(ModelUnavailable, match=f"by {method}, but by probability"):
        load(load_card(model), "cpu")


def test_occlusion_shows_the_half_a_class_rests_on(tmp_path: Path) -> None:
    model = zoo_bundles.classifier(tmp_path / "halves")
    card = model / "model_card.toml"
    card.write_text(card.read_text() + '[explain]\nmethod = "occlusion"\n')
    picture = np.full((1, 60, 90), 0.2, np.float32)
    picture[0, :, :30] = 0.4

    explanation = load(load_card(model), "cpu").explain(ModelInput(values=picture), 0)

    assert explanation is not None
    assert explanation.map.shape == (60, 90)
    assert explanation.map[:, :30].mean() > 1.5 * explanation.map[:, 50:].mean()


def test_a_feature_pyramid_needs_no_torchvision_and_keeps_the_names_of_published_weights() -> None:
    from monai.apps.detection.networks.retinanet_network import resnet_fpn_feature_extractor  # noqa: PLC0415
    from monai.networks.nets.resnet import resnet10  # noqa: PLC0415

    from dicom_node.inference.runtimes.monai_bundle.running_code import stand_in_for_torchvision  # noqa: PLC0415

    stand_in_for_torchvision()
    backbone = resnet10(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    extractor = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)

    maps = extractor(torch.zeros(1, 1, 32, 32, 16))

    assert [tuple(one.shape[2:]) for one in maps.values()] == [(8, 8, 8), (4, 4, 4), (2, 2, 2)]
    names = set(extractor.state_dict())
    assert {"body.conv1.weight", "body.layer2.0.conv1.weight", "fpn.inner_blocks.0.weight"} <= names
    assert not any(name.startswith("body.layer3") for name in names)


def test_trying_a_bundle_needs_no_card_and_says_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, broken = zoo_bundles.segmenter(tmp_path / "good"), zoo_bundles.segmenter(tmp_path / "broken")
    for model in (good, broken):
        (model / "model_card.toml").unlink()
    config = broken / "configs" / "inference.json"
    config.write_text(config.read_text().replace("torch.nn.Conv3d", "torch.nn.Conv9d"))
    command = ["models", "try", str(good), str(broken), "--task", "segmentation", "--shape", "1,8,40,44", "--json"]

    status = main(command)

    rows = json.loads(capsys.readouterr().out)
    assert status == 1
    assert [row["runs"] for row in rows] == ["yes", "no"]
    said = "on 8x40x44 voxels; channels exclude each other (known from the argmax of its postprocessing), channel 0"
    assert said in rows[0]["result or reason"]
    assert "Conv9d" in rows[1]["result or reason"]


def test_the_task_that_a_card_names_need_not_be_named_again(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "carded")
    (model / "configs" / "metadata.json").unlink()

    carded = try_bundle(model, TrialOptions(shape=(1, 8, 40, 44)))
    (model / "model_card.toml").unlink()
    bare = try_bundle(model, TrialOptions(shape=(1, 8, 40, 44)))

    assert (carded.task, carded.problem) == ("segmentation", "")
    assert "name it by --task" in bare.problem


def test_every_task_that_a_card_may_name_can_be_tried() -> None:
    for task in TASK_INPUTS:
        assert make_parser().parse_args(["models", "try", "FOLDER", "--task", task]).task == task


def test_pictures_without_a_position_are_segmented_too(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "flat")
    path = model / "configs" / "inference.json"
    config = json.loads(
        path.read_text().replace("Conv3d", "Conv2d").replace('"a_min": -200, "a_max": 300', '"a_min": 0, "a_max": 1')
    )
    config["inferer"] = {"_target_": "SimpleInferer"}
    config["preprocessing"]["transforms"].insert(2, {"_target_": "Resized", "keys": "image", "spatial_size": [64, 128]})
    path.write_text(json.dumps(config))
    state = {
        name: value.reshape(-1, 1, 1, 1) if value.ndim > 1 else value
        for name, value in zoo_bundles.two_levels().items()
    }
    picture = np.zeros((1, 50, 120), np.float32)
    picture[0, 10:20, 60:110] = 1.0

    (prediction,) = open_bundle(model, "cpu", WantedAnswer(task="segmentation"), state).predict(
        [ModelInput(values=picture)]
    )

    assert prediction.labels is not None
    found = np.argwhere(prediction.labels[0] == 2)
    assert prediction.labels.shape == (1, 50, 120)
    assert found.min(axis=0).tolist() == pytest.approx([10, 60], abs=2)
    assert found.max(axis=0).tolist() == pytest.approx([19, 109], abs=2)
