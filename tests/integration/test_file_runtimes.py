"""TorchScript, exported programs and ONNX graphs: real files, run through the adapter and through the plain library."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.prediction import Load, LoadedModel, ModelInput
from dicom_node.inference.runtimes import exported, torchscript
from dicom_node.inference.runtimes import onnx as onnx_runtime
from tests.support.models.model_folders import card_of
from tests.support.models.tiny_networks import (
    IMAGE_24,
    SIZE,
    classifier,
    plain_probabilities,
    save_exported,
    save_onnx_classifier,
    save_script,
    segmenter,
)

SOFTMAX = IMAGE_24 + '\n[output]\nactivation = "softmax"\n'
EXAMPLE = torch.zeros(2, 1, SIZE, SIZE)


def images(count: int = 3) -> list[ModelInput]:
    random = np.random.default_rng(5)
    return [ModelInput(values=random.random((1, 40, 56), dtype=np.float32)) for _ in range(count)]


def script_card(folder: Path, more: str = SOFTMAX) -> ModelCard:
    folder.mkdir()
    return card_of(folder, "torchscript", save_script(classifier(), folder / "model.ts"), more)


def exported_card(folder: Path, more: str = SOFTMAX) -> ModelCard:
    folder.mkdir()
    return card_of(folder, "torch-export", save_exported(classifier(), EXAMPLE, folder / "model.pt2"), more)


def onnx_card(folder: Path, more: str = SOFTMAX + 'name = "logits"\n') -> ModelCard:
    folder.mkdir()
    return card_of(folder, "onnx", save_onnx_classifier(classifier(), folder / "model.onnx"), more)


KINDS = [(script_card, torchscript.load), (exported_card, exported.load), (onnx_card, onnx_runtime.load)]
NAMES = ["torchscript", "torch-export", "onnx"]


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_a_batch_gets_the_probabilities_that_the_plain_library_gives(
    make: Callable[[Path], ModelCard], load: Load, tmp_path: Path
) -> None:
    model = load(make(tmp_path / "model"), "cpu")
    given = images()

    found = model.predict(given)

    assert model.batch_limit == 4
    assert model.size_bytes > 600
    for one, prediction in zip(given, found, strict=True):
        assert prediction.scores is not None
        assert prediction.scores == pytest.approx(plain_probabilities(classifier(), one.values[0]), abs=1e-5)
    assert np.ptp([prediction.scores[0] for prediction in found if prediction.scores is not None]) > 1e-3


def test_onnx_runtime_itself_says_the_same_as_torch(tmp_path: Path) -> None:
    path = save_onnx_classifier(classifier(), tmp_path / "model.onnx")
    batch = np.random.default_rng(3).random((2, 1, SIZE, SIZE), dtype=np.float32)

    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["logits"], {"image": batch})

    assert found == pytest.approx(classifier()(torch.from_numpy(batch)).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_the_temperature_of_the_card_softens_the_probabilities(
    make: Callable[[Path, str], ModelCard], load: Load, tmp_path: Path
) -> None:
    output = 'name = "logits"\n' if load is onnx_runtime.load else ""
    plain = load(make(tmp_path / "plain", SOFTMAX + output), "cpu")
    soft = load(make(tmp_path / "soft", SOFTMAX + output + "\n[parameters]\ntemperature = 50.0\n"), "cpu")

    scores = [model.predict(images(1))[0].scores for model in (plain, soft)]

    assert scores[0] is not None
    assert scores[1] is not None
    assert abs(scores[1][0] - 0.5) < abs(scores[0][0] - 0.5)
    assert scores[1].sum() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_occlusion_shows_the_only_place_that_holds_anything(
    make: Callable[[Path, str], ModelCard], load: Load, tmp_path: Path
) -> None:
    output = 'name = "logits"\n' if load is onnx_runtime.load else ""
    model = load(make(tmp_path / "model", SOFTMAX + output + '\n[explain]\nmethod = "occlusion"\n'), "cpu")
    values = np.full((1, 48, 72), 0.5, np.float32)
    values[0, 30:42, 6:18] = np.random.default_rng(9).random((12, 12))
    one = ModelInput(values=values)
    scores = model.predict([one])[0].scores
    assert scores is not None

    found = [model.explain(one, index) for index in (0, 1)]

    assert all(explanation is not None and explanation.map.shape == (48, 72) for explanation in found)
    # Two outputs of a softmax: what lowers one raises the other, so one map at least has a place.
    best = max((e.map for e in found if e is not None), key=np.max)
    row, column = np.unravel_index(int(best.argmax()), best.shape)
    assert best.max() == pytest.approx(1.0, abs=0.05)
    assert 24 <= row < 48
    assert column < 24


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_without_a_method_in_the_card_nothing_is_explained(
    make: Callable[[Path], ModelCard], load: Load, tmp_path: Path
) -> None:
    assert load(make(tmp_path / "model"), "cpu").explain(images(1)[0], 0) is None


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_a_method_the_runtime_cannot_do_is_refused_when_the_model_is_loaded(
    make: Callable[[Path, str], ModelCard], load: Load, tmp_path: Path
) -> None:
    card = make(tmp_path / "model", SOFTMAX + '\n[explain]\nmethod = "grad-cam"\nlayer = "0"\n')

    with pytest.raises(ModelUnavailable, match="cannot explain this task by grad-cam"):
        load(card, "cpu")


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_an_input_of_the_wrong_size_says_which_key_to_correct(
    make: Callable[[Path, str], ModelCard], load: Load, tmp_path: Path
) -> None:
    wrong = SOFTMAX.replace("batch = 4", "batch = 4\nchannels = 3")
    model = load(make(tmp_path / "model", wrong), "cpu")

    with pytest.raises(ModelUnavailable, match=r"size, channels and batch of \[preprocessing\]"):
        model.predict(images(1))


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_altered_weights_are_refused(make: Callable[[Path], ModelCard], load: Load, tmp_path: Path) -> None:
    card = make(tmp_path / "model")
    assert card.weights_file is not None
    card.weights_file.write_bytes(card.weights_file.read_bytes() + b"\0")

    with pytest.raises(ModelUnavailable, match="sha256"):
        load(card, "cpu")


@pytest.mark.parametrize(("make", "load"), KINDS, ids=NAMES)
def test_a_card_without_preprocessing_is_refused(
    make: Callable[[Path, str], ModelCard], load: Load, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match=r"no \[preprocessing\]"):
        load(make(tmp_path / "model", ""), "cpu")


BOX = (slice(1, 4), slice(3, 12), slice(14, 22))


def box_volume() -> ModelInput:
    mask = np.zeros((8, 20, 24), np.float32)
    mask[BOX] = 1.0
    return ModelInput(values=mask[None], affine_lps_mm=np.diag([1.0, 1.0, 3.0, 1.0]))


def scripted_segmentation(folder: Path, network: torch.nn.Module, output: str) -> LoadedModel:
    folder.mkdir()
    more = f'\n[preprocessing]\norientation = "RAS"\nspacing_mm = [1.0, 1.0, 1.0]\n{output}'
    path = save_script(network, folder / "model.ts")
    return torchscript.load(card_of(folder, "torchscript", path, more, task="segmentation"), "cpu")


def test_a_scripted_segmentation_lies_on_the_right_voxels(tmp_path: Path) -> None:
    output = '\n[output]\nactivation = "softmax"\n[explain]\nmethod = "probability"\n'
    found = scripted_segmentation(tmp_path / "model", segmenter(3), output).predict([box_volume()])[0]

    assert found.labels is not None
    assert found.probabilities is not None
    assert found.probabilities.shape == (2, 8, 20, 24)
    assert np.allclose(found.probabilities.sum(axis=0), 1.0, atol=1e-5)
    assert np.array_equal(found.labels, box_volume().values[0].astype(np.uint8))


def test_independent_classes_have_no_background_channel(tmp_path: Path) -> None:
    # Its first channel is high outside of the box, its second one inside.
    output = '\n[output]\nactivation = "sigmoid"\n[explain]\nmethod = "probability"\n'
    found = scripted_segmentation(tmp_path / "model", segmenter(3), output).predict([box_volume()])[0]
    strict = '\n[output]\nactivation = "sigmoid"\n[parameters]\nthreshold = 0.99999\n'
    unsure = scripted_segmentation(tmp_path / "strict", segmenter(3), strict).predict([box_volume()])[0]

    assert found.masks is not None
    assert found.probabilities is not None
    inside = box_volume().values[0].astype(bool)
    assert [np.array_equal(found.masks[value], mask) for value, mask in ((1, ~inside), (2, inside))] == [True, True]
    assert found.probabilities.shape == (3, 8, 20, 24)
    assert found.probabilities[2][BOX].min() > 0.99
    assert unsure.masks is not None
    assert not any(mask[1, 3].any() for mask in unsure.masks.values())
    assert unsure.probabilities is None


class Levels(torch.nn.Module):
    """A channel for each of two levels, or for the first: logits, or after a sigmoid of its own."""

    def __init__(self, count: int, steepness: float, activated: bool) -> None:
        super().__init__()
        self.count = count
        self.steepness = steepness
        self.activated = activated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.cat([x - 0.3, x - 0.6], dim=1)[:, : self.count] * self.steepness
        return torch.sigmoid(found) if self.activated else found


def test_a_structure_in_another_keeps_its_own_mask(tmp_path: Path) -> None:
    output = '\n[output]\nactivation = "sigmoid"\n'
    values = np.zeros((1, 8, 20, 24), np.float32)
    values[0, 2:6, 4:14, 6:18] = 0.5
    values[0, 3:5, 6:10, 8:12] = 1.0

    model = scripted_segmentation(tmp_path / "model", Levels(2, 50.0, False), output)
    (found,) = model.predict([ModelInput(values=values, affine_lps_mm=np.eye(4))])

    assert found.masks is not None
    assert np.array_equal(found.masks[1], values[0] > 0.3)
    assert np.array_equal(found.masks[2], values[0] > 0.6)


@pytest.mark.parametrize(
    ("network", "output", "told"),
    [
        (Levels(2, 50.0, False), "", r"\[output\] channels = "),
        (Levels(2, 50.0, True), "[parameters]\nthreshold = 0.3", r"\[output\] channels = "),
        (Levels(2, 50.0, False), '[output]\nchannels = "overlapping"', 'activation = "sigmoid"'),
        (Levels(1, 3.7, False), "", "holds no numbers of classes"),
        (Levels(1, 50.0, False), '[output]\nactivation = "softmax"', "Use sigmoid"),
        (Levels(2, 50.0, False), '[output]\nactivation = "softmax"\n[parameters]\nthreshold = 0.3', "has no effect"),
    ],
    ids=["logits", "in-network sigmoid", "logits as chances", "one logit", "one softmax", "threshold of a softmax"],
)
def test_a_card_that_would_silently_answer_wrong_is_refused_with_the_key_to_correct(
    tmp_path: Path, network: torch.nn.Module, output: str, told: str
) -> None:
    model = scripted_segmentation(tmp_path / "model", network, f"\n{output}\n")

    with pytest.raises(ModelUnavailable, match=told):
        model.predict([box_volume()])


def test_the_card_has_an_in_network_sigmoid_held_against_its_threshold(tmp_path: Path) -> None:
    output = '\n[output]\nchannels = "overlapping"\n[parameters]\nthreshold = 0.9\n'
    # Sigmoid of 0.7 * 5 is 0.97, of 0.4 * 5 is 0.88.
    model = scripted_segmentation(tmp_path / "model", Levels(2, 5.0, True), output)

    (found,) = model.predict([replace(box_volume(), affine_lps_mm=np.eye(4))])

    assert found.masks is not None
    assert np.array_equal(found.masks[1], box_volume().values[0] > 0.5)
    assert not found.masks[2].any()


def test_a_classifier_of_one_output_under_softmax_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    card = card_of(folder, "torchscript", save_script(classifier(1), folder / "model.ts"), SOFTMAX)

    with pytest.raises(ModelUnavailable, match="Use sigmoid"):
        torchscript.load(card, "cpu").predict(images(1))


def test_outputs_that_keep_axes_of_one_place_are_explained_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    unflattened = torch.nn.Sequential(*classifier(), torch.nn.Unflatten(1, (2, 1, 1)))
    explained = SOFTMAX + '[explain]\nmethod = "occlusion"\n'
    card = card_of(folder, "torchscript", save_script(unflattened, folder / "model.ts"), explained)

    explanation = torchscript.load(card, "cpu").explain(images(1)[0], 0)

    assert explanation is not None
    assert explanation.map.shape == (40, 56)


def test_a_network_that_gives_classes_itself_is_taken_at_its_word(tmp_path: Path) -> None:
    class Classes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x > 0.5).long() * 3

    found = scripted_segmentation(tmp_path / "model", Classes(), "").predict([box_volume()])[0]

    assert found.labels is not None
    assert np.array_equal(found.labels, 3 * box_volume().values[0].astype(np.uint8))


def test_images_of_different_sizes_are_run_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    card = card_of(
        folder, "torchscript", save_script(classifier(), folder / "model.ts"), "\n[preprocessing]\nbatch = 4\n"
    )
    given = [ModelInput(values=np.full((1, 20 + n, 30), 0.5, np.float32)) for n in range(3)]

    assert [one.scores is not None and one.scores.size for one in torchscript.load(card, "cpu").predict(given)] == [
        2
    ] * 3


def test_a_segmentation_of_an_image_has_one_slice(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_exported(segmenter(2), torch.zeros(2, 1, 32, 32), folder / "model.pt2")
    more = '\n[preprocessing]\nsize = [32, 32]\n[output]\nactivation = "softmax"\n'
    card = card_of(folder, "torch-export", path, more, task="segmentation", top='input = "image"')
    values = np.zeros((1, 64, 96), np.float32)
    values[0, 16:48, 24:48] = 1.0

    found = exported.load(card, "cpu").predict([ModelInput(values=values)])[0]

    assert found.labels is not None
    assert found.labels.shape == (1, 64, 96)
    # The border is known to one pixel of the network, 2 x 3 of the image.
    assert found.labels[0, 18:46, 27:45].all()
    assert not found.labels[0, :14].any()
    assert not found.labels[0, :, 51:].any()


def test_an_output_that_is_no_map_is_refused_for_a_segmentation(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_script(classifier(), folder / "model.ts")
    card = card_of(folder, "torchscript", path, IMAGE_24, task="segmentation", top='input = "image"')

    with pytest.raises(ModelUnavailable, match="needs 4 dimensions"):
        torchscript.load(card, "cpu").predict(images(1))


def test_a_task_that_differs_from_network_to_network_is_left_to_bundles(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    card = card_of(folder, "torchscript", save_script(classifier(), folder / "model.ts"), "", task="detection")

    with pytest.raises(ModelUnavailable, match="MONAI bundle"):
        torchscript.load(card, "cpu")


def test_an_answer_that_is_no_number_is_refused(tmp_path: Path) -> None:
    network = classifier()
    with torch.no_grad():
        network[4].bias.fill_(float("nan"))
    folder = tmp_path / "model"
    folder.mkdir()
    card = card_of(folder, "torchscript", save_script(network, folder / "model.ts"), SOFTMAX)

    with pytest.raises(ModelUnavailable, match="not-a-number"):
        torchscript.load(card, "cpu").predict(images(1))


@pytest.mark.parametrize("load", [torchscript.load, exported.load, onnx_runtime.load], ids=NAMES)
def test_a_file_of_something_else_is_refused(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.bin"
    path.write_bytes(b"no network at all" * 20)

    with pytest.raises(ModelUnavailable, match=r"model\.bin"):
        load(card_of(folder, "onnx", path, SOFTMAX), "cpu")


class _Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def _with_entry(source: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy an archive with further or changed files; names without their first folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, changes.pop(name.partition("/")[2], old.read(name)))
        for name, content in changes.items():
            new.writestr(f"{root}/{name}", content)
    return target


def _pickled(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((_Trap(path),), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda trap: {"data/sample_inputs/model.pt": _pickled(trap)},
        lambda trap: {"data/weights/model.pt": _pickled(trap)},
        lambda trap: {"data/constants/opaque_obj_0": pickle.dumps(_Trap(trap))},
        lambda _: {"data/aotinductor/model/model.so": b"\x7fELF"},
        lambda trap: {
            "data/constants/model_constants_config.json": json.dumps(
                {"config": {"c": {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
            ).encode(),
            "data/constants/tensor_0": _pickled(trap),
        },
    ],
    ids=["example-inputs", "old-weights", "opaque-object", "compiled", "pickled-constant"],
)
def test_an_exported_program_that_could_run_code_is_refused_and_runs_none(
    change: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    folder, trap = tmp_path / "model", tmp_path / "touched"
    folder.mkdir()
    clean = save_exported(classifier(), EXAMPLE, tmp_path / "clean.pt2")
    card = card_of(folder, "torch-export", _with_entry(clean, folder / "model.pt2", change(trap)), SOFTMAX)

    with pytest.raises(ModelUnavailable, match=r"model\.pt2"):
        exported.load(card, "cpu")
    assert not trap.exists()


def test_an_onnx_file_that_keeps_weights_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load(save_onnx_classifier(classifier(), tmp_path / "whole.onnx"))
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="data.bin", size_threshold=0)

    with pytest.raises(ModelUnavailable, match="another file"):
        onnx_runtime.load(card_of(folder, "onnx", folder / "model.onnx", SOFTMAX), "cpu")


def test_a_tensor_the_graph_does_not_have_is_told_with_those_it_has(tmp_path: Path) -> None:
    card = onnx_card(tmp_path / "model", SOFTMAX + 'name = "answer"\n')

    with pytest.raises(ModelUnavailable, match="takes image and gives mean, logits"):
        onnx_runtime.load(card, "cpu")
