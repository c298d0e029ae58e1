"""Hugging Face folders as `save_pretrained` writes them, run by the adapter and by transformers itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes import huggingface
from tests.support.models.model_folders import card_of
from tests.support.needs import REPOSITORY

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import transformers
from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForSemanticSegmentation

SOFTMAX = '\n[output]\nactivation = "softmax"\n'
EXPLAIN = '\n[explain]\nmethod = "{}"\n'
STRETCH: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "rescale_factor": 1 / 255,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
CROPPED = STRETCH | {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 40},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
}
CROP_PERCENT = STRETCH | {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_pct": 0.8,
}


def vision_transformer() -> transformers.PreTrainedModel:
    torch.manual_seed(4)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        num_labels=3,
        initializer_range=0.4,
    )
    return transformers.ViTForImageClassification(config).eval()


def convolutional() -> transformers.PreTrainedModel:
    torch.manual_seed(4)
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], num_labels=3, initializer_range=0.4
    )
    return transformers.ConvNextForImageClassification(config).eval()


def segmenter() -> transformers.PreTrainedModel:
    torch.manual_seed(4)
    config = transformers.SegformerConfig(
        num_labels=3,
        hidden_sizes=[8, 16, 16, 16],
        decoder_hidden_size=16,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        initializer_range=0.3,
    )
    return transformers.SegformerForSemanticSegmentation(config).eval()


def folder_of(folder: Path, network: transformers.PreTrainedModel, processor: dict[str, Any]) -> Path:
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def card(folder: Path, more: str = SOFTMAX, **others: str) -> ModelCard:
    return card_of(folder, "huggingface", folder / "model.safetensors", more, **others)


def image(rows: int = 70, columns: int = 50) -> ModelInput:
    values = np.random.default_rng(6).integers(0, 256, (1, rows, columns)) / 255
    return ModelInput(values=values.astype(np.float32))


def as_picture(one: ModelInput) -> Image.Image:
    return Image.fromarray(np.rint(one.values[0] * 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize(
    ("network", "processor"),
    [(vision_transformer, STRETCH), (vision_transformer, CROPPED), (convolutional, CROP_PERCENT)],
    ids=["vit-stretched", "vit-cropped", "convnext"],
)
def test_a_classifier_says_what_transformers_says(network: Any, processor: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", network(), processor)
    one = image()
    plain = AutoModelForImageClassification.from_pretrained(folder)
    given = AutoImageProcessor.from_pretrained(folder, backend="pil")(as_picture(one), return_tensors="pt")
    with torch.inference_mode():
        expected = torch.softmax(plain(**given).logits[0], dim=0).numpy()

    model = huggingface.load(card(folder), "cpu")

    assert model.predict([one])[0].scores == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.01
    assert model.size_bytes > 10_000
    assert model.explain(one, 0) is None


def test_a_segmentation_agrees_with_transformers_on_the_pixels_of_the_source(tmp_path: Path) -> None:
    settings = STRETCH | {
        "image_processor_type": "SegformerImageProcessor",
        "size": {"height": 64, "width": 64},
        "do_reduce_labels": False,
    }
    folder = folder_of(tmp_path / "model", segmenter(), settings)
    one = image(100, 80)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        outputs = AutoModelForSemanticSegmentation.from_pretrained(folder)(
            **processor(as_picture(one), return_tensors="pt")
        )
    expected = processor.post_process_semantic_segmentation(outputs, target_sizes=[(100, 80)])[0].numpy()

    more = SOFTMAX + EXPLAIN.format("probability")
    model = huggingface.load(card(folder, more, task="segmentation", top='input = "image"'), "cpu")
    found = model.predict([one])[0]

    assert found.labels is not None
    assert found.probabilities is not None
    assert found.labels.shape == (1, 100, 80)
    assert found.probabilities.shape == (3, 1, 100, 80)
    # transformers interpolates logits, the node probabilities: borders may differ by a pixel.
    assert (found.labels[0] == expected).mean() > 0.97
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize(
    ("processor", "shown"), [(STRETCH, slice(0, 64)), (CROPPED, slice(10, 54))], ids=["stretched", "cropped"]
)
def test_attention_rollout_lies_where_the_network_looked(
    processor: dict[str, Any], shown: slice, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), processor)
    model = huggingface.load(card(folder, SOFTMAX + EXPLAIN.format("attention-rollout")), "cpu")

    found = model.explain(image(64, 48), 1)

    assert found is not None
    assert found.method == "Attention rollout"
    assert found.map.shape == (64, 48)
    assert found.map.max() > 0.9
    outside = np.delete(found.map, np.r_[shown], axis=0)
    assert not outside.any()


def test_the_weights_decide_what_attention_shows(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "first", vision_transformer(), STRETCH)
    other = vision_transformer()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    second = folder_of(tmp_path / "second", other, STRETCH)
    maps = []
    for folder in (first, second):
        found = huggingface.load(card(folder, SOFTMAX + EXPLAIN.format("attention-rollout")), "cpu").explain(image(), 0)
        assert found is not None
        maps.append(found.map)

    assert np.abs(maps[0] - maps[1]).mean() > 0.02


def test_occlusion_explains_convolutions(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", convolutional(), CROP_PERCENT)
    found = huggingface.load(card(folder, SOFTMAX + EXPLAIN.format("occlusion")), "cpu").explain(image(), 1)

    assert found is not None
    assert found.map.shape == (70, 50)
    assert found.map.min() >= 0.0
    assert found.map.max() <= 1.0


def test_rollout_of_a_network_without_one_grid_of_patches_is_refused(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "model",
        convolutional(),
        STRETCH | {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    )

    with pytest.raises(ModelUnavailable, match="not for convnext"):
        huggingface.load(card(folder, SOFTMAX + EXPLAIN.format("attention-rollout")), "cpu")


def test_a_processor_that_moves_the_image_elsewhere_gets_no_map(tmp_path: Path) -> None:
    # Values shifted by one half, which no place explains.
    settings = STRETCH | {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True}
    folder = folder_of(tmp_path / "model", vision_transformer(), settings)

    with pytest.raises(ModelUnavailable, match="no map can be laid on it"):
        huggingface.load(card(folder, SOFTMAX + EXPLAIN.format("occlusion")), "cpu")


def test_hounsfield_units_need_a_window(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)
    one = ModelInput(values=np.random.default_rng(1).normal(0, 400, (1, 40, 40)).astype(np.float32))

    with pytest.raises(ModelUnavailable, match="window or percentiles"):
        huggingface.load(card(folder), "cpu").predict([one])
    windowed = huggingface.load(card(folder, "\n[preprocessing]\nwindow = [-1000, 400]\n" + SOFTMAX), "cpu")
    assert windowed.predict([one])[0].scores is not None


def test_settings_that_the_folder_already_holds_may_not_stand_in_the_card_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)

    with pytest.raises(ModelUnavailable, match="may only hold window or percentiles"):
        huggingface.load(card(folder, "\n[preprocessing]\nsize = [64, 64]\n" + SOFTMAX), "cpu")


def test_weights_without_the_head_are_refused_instead_of_guessed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer().vit, STRETCH)

    with pytest.raises(ModelUnavailable, match=r"lack 2 tensors of the network, first classifier\.bias"):
        huggingface.load(card(folder), "cpu")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)
    torch.save(vision_transformer().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match=r"must be model\.safetensors"):
        huggingface.load(card_of(folder, "huggingface", folder / "pytorch_model.bin", SOFTMAX), "cpu")


def test_a_model_that_brings_its_own_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Net"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'touched')!r}).touch()\n")

    with pytest.raises(ModelUnavailable, match="cannot be loaded by transformers"):
        huggingface.load(card(folder), "cpu")
    assert not (tmp_path / "touched").exists()


def test_a_folder_without_its_image_processor_says_what_to_copy(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(ModelUnavailable, match=r"preprocessor_config\.json are not beside"):
        huggingface.load(card(folder), "cpu")


def test_loading_and_running_opens_no_connection_and_needs_no_torchvision(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", vision_transformer(), STRETCH)
    card(folder)
    program = f"""
import socket, sys
def refuse(*_): raise AssertionError("a connection was opened")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy as np
from pathlib import Path
from dicom_node.inference.cards.card import load_card  # noqa: E402
from dicom_node.inference.prediction import ModelInput  # noqa: E402
from dicom_node.inference.runtimes import huggingface
model = huggingface.load(load_card(Path({str(folder)!r})), "cpu")
print(model.predict([ModelInput(values=np.zeros((1, 40, 40), np.float32))])[0].scores.sum())
assert "torchvision" not in sys.modules
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == pytest.approx(1.0, abs=1e-5)
