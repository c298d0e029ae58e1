"""What a card says that cannot be or has no effect is refused before anything of the model runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dicom_node.governance.verify import verify_folder
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.cards.contradictions import contradictions
from dicom_node.inference.cards.written_bundle import read_written
from tests.support.models.model_folders import CLASSES, write_card

SEGMENT = """
[[segment]]
value = 1
key = "liver"
label = "Liver"
type = "liver"
"""
UNION = (
    SEGMENT
    + """
[[segment]]
values = [1, 2]
key = "both"
label = "Both"
type = "liver"
"""
)
CHANNELS = '[output]\nchannels = "overlapping"\n'
THRESHOLD = "[parameters]\nthreshold = 0.3\n"


def problems(folder: Path, runtime: str, task: str, more: str, top: str = "") -> list[str]:
    return list(contradictions(load_card(write_card(folder, runtime, task=task, more=more, top=top))))


def bundle(
    folder: Path,
    *,
    outputs: int = 2,
    after: Sequence[dict[str, Any]] = (),
    keys: object = "image",
    channels: object = 1,
) -> Path:
    """Write the configuration of a bundle that is read and never run."""
    config = {
        "out": outputs,
        "keys": keys,
        "network_def": {"_target_": "SegResNet", "in_channels": 1, "out_channels": "@out"},
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged", "keys": "@keys"}]},
        "postprocessing": {"_target_": "Compose", "transforms": list(after)},
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    about = {"network_data_format": {"inputs": {"image": {"num_channels": channels}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("task", "more", "told"),
    [
        ("segmentation", SEGMENT + THRESHOLD + '[output]\nactivation = "softmax"\n', "where the strongest class holds"),
        ("segmentation", SEGMENT + THRESHOLD + '[output]\nchannels = "exclusive"\n', 'channels = "overlapping"'),
        ("segmentation", SEGMENT + THRESHOLD, "on numbers of classes"),
        ("segmentation", SEGMENT + "[parameters]\ntemperature = 2\n", "temperature has no effect on a segmentation"),
        ("regression", CLASSES + THRESHOLD, "threshold has no effect on a regression"),
        ("regression", CLASSES + "[parameters]\nthreshold-first = 0.3\n", "threshold-first has no effect"),
        ("classification", CLASSES + "[parameters]\nthreshold-third = 0.3\n", "those are first, second"),
        ("segmentation", UNION + CHANNELS + "[parameters]\nthreshold-both = 0.3\n", "those are liver"),
        ("segmentation", SEGMENT + "[parameters]\nthreshold-liver = 0.3\n", "on numbers of classes"),
        ("regression", SEGMENT, r"add one for each of its outputs"),
        ("segmentation", CLASSES, r"without \[\[segment\]\]"),
    ],
)
def test_a_key_without_effect_is_told_with_what_to_write(tmp_path: Path, task: str, more: str, told: str) -> None:
    (problem,) = problems(tmp_path / "model", "torchscript", task, more)

    assert re.search(told, problem)


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("segmentation", SEGMENT + THRESHOLD + '[output]\nactivation = "sigmoid"\n'),
        ("segmentation", SEGMENT + THRESHOLD + '[output]\nchannels = "overlapping"\n'),
        ("segmentation", SEGMENT),
        ("segmentation", UNION + CHANNELS + "[parameters]\nthreshold-liver = 0.3\n"),
        ("classification", CLASSES + "[parameters]\nthreshold = 0.3\nthreshold-second = 0.7\n"),
        ("classification", CLASSES + "[parameters]\nthreshold = 0.3\ntemperature = 2\n"),
        ("lung-density", "[parameters]\nthreshold = 4\n"),
    ],
)
def test_a_card_whose_every_key_counts_is_taken(tmp_path: Path, task: str, more: str) -> None:
    assert problems(tmp_path / "model", "torchscript", task, more) == []


SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
SIGMOID = {"_target_": "monai.transforms.Activationsd", "keys": "pred", "sigmoid": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False]}
THRESHOLDED = {"_target_": "AsDiscrete", "threshold": 0.5}


@pytest.mark.parametrize(
    ("written", "more", "told"),
    [
        ({"outputs": 1, "after": [SOFTMAX]}, SEGMENT, "same answer for every image"),
        ({"outputs": 1, "after": [ARGMAX]}, SEGMENT, "needs sigmoid"),
        ({"after": [SOFTMAX, ARGMAX]}, SEGMENT + THRESHOLD, "decides itself"),
        ({"after": [SIGMOID, THRESHOLDED]}, SEGMENT + "[parameters]\nthreshold-liver = 0.3\n", "decides itself"),
        ({"keys": ["t1", "t2"], "after": [SOFTMAX]}, SEGMENT, "the bundle reads t1, t2"),
        ({"channels": 4, "after": [SOFTMAX]}, SEGMENT, "has 4 channels"),
    ],
)
def test_what_the_files_of_a_bundle_tell_against_its_card_is_refused(
    tmp_path: Path, written: dict[str, Any], more: str, told: str
) -> None:
    (problem,) = problems(bundle(tmp_path / "model", **written), "monai-bundle", "segmentation", more)

    assert told in problem
    points = {point.name: point for point in verify_folder(tmp_path / "model")}
    assert not points["answer"].ok
    assert told in points["answer"].text


@pytest.mark.parametrize(
    "written",
    [
        {"outputs": 1, "after": [SIGMOID]},
        {"after": [SIGMOID]},
        {"after": [SIGMOID, THRESHOLDED]},
        {"keys": ["image", "label"], "after": [SIGMOID]},
        {"outputs": "$1 + 0", "after": [SOFTMAX]},
        {"keys": "$@names", "after": [SIGMOID]},
        {"channels": "4", "after": [SIGMOID]},
    ],
)
def test_nothing_is_refused_for_what_is_not_written_out(tmp_path: Path, written: dict[str, Any]) -> None:
    more = SEGMENT + (THRESHOLD if SOFTMAX not in written["after"] else "")

    assert problems(bundle(tmp_path / "model", **written), "monai-bundle", "segmentation", more) == []


def test_a_configuration_in_yaml_is_read_too(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the inference extra")
    folder = bundle(tmp_path / "model", outputs=1, after=[SOFTMAX])
    path = folder / "configs" / "inference.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()

    assert read_written(folder).network_outputs == 1
    assert read_written(folder).says("Activations", "softmax")


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 5000])
def test_a_configuration_that_cannot_be_read_tells_nothing(tmp_path: Path, text: str) -> None:
    folder = bundle(tmp_path / "model")
    (folder / "configs" / "inference.json").write_text(text)

    assert read_written(folder).image_keys == ()
    assert read_written(folder).network_outputs is None


def test_a_temperature_or_preparation_that_a_bundle_never_reads_is_refused(tmp_path: Path) -> None:
    more = CLASSES + '[output]\nactivation = "sigmoid"\n[preprocessing]\nmean = [0.5]\n'

    told = problems(bundle(tmp_path / "model", after=[SIGMOID]), "monai-bundle", "classification", more)

    assert ["[output] activation" in told[0], "[preprocessing]" in told[1], len(told)] == [True, True, 2]


@pytest.mark.parametrize(
    ("given", "modalities", "named"),
    [
        ("volume", ["CT", "US"], "US"),
        ("volume", ["MR", "CR"], "CR"),
        ("image", ["CR", "ES"], "ES"),
        ("image", ["SR"], "SR"),
        ("volume", ["CT", "MR"], ""),
        ("image", ["CR", "DX", "MG", "US"], ""),
    ],
)
def test_a_modality_on_which_a_model_could_never_run_is_refused(
    tmp_path: Path, given: str, modalities: list[str], named: str
) -> None:
    more = CLASSES + f"[[accepts]]\nmodality = {json.dumps(modalities)}\n"
    folder = write_card(tmp_path / "model", "torchscript", top=f'input = "{given}"', more=more)

    (point,) = (point for point in verify_folder(folder) if point.name == "images")

    assert point.ok == (not named)
    assert not named or f"names {named}," in point.text


def test_steps_that_draw_by_lot_are_found_wherever_they_are_written(tmp_path: Path) -> None:
    bundle(tmp_path)
    path = tmp_path / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["flip"] = {"_target_": "monai.transforms.RandFlipd", "keys": "image", "prob": 0.5}
    config["off"] = {"_target_": "RandZoomd", "keys": "image", "_disabled_": True}
    config["train"] = {"_target_": "Compose", "transforms": [{"_target_": "RandAffined", "keys": "image"}]}
    config["steps"] = ["@flip", "@off", "@steps"]
    config["preprocessing"]["transforms"] += [{"_target_": "Compose", "transforms": "@steps"}]
    path.write_text(json.dumps(config))

    assert read_written(tmp_path).random_steps == ("RandFlipd",)
    told = problems(tmp_path, "monai-bundle", "segmentation", SEGMENT)
    assert any("RandFlipd of the bundle's inference draws by lot" in one for one in told)
