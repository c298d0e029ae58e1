"""What others have reported of bundles and of models around them, from files to masks and boxes; each links the report.

The bundles are small, and their answer on `studies.shapes` is known: by MONAI's own pipeline, or by the true tissue.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the inference extra is not installed")
pytest.importorskip("nibabel", reason="MONAI reads NIfTI with nibabel")

import torch
from safetensors.torch import save_file

from dicom_node.analysis.answer import NotAnalysed
from dicom_node.core.entities import ArtifactKind, Presence
from dicom_node.core.errors import ModelUnavailable
from dicom_node.governance.verify import verify_folder
from dicom_node.inference.runner import run_model
from tests.integration.test_bundle_matrix import EIGHT, Cell, masks_in, study_of, told
from tests.support.models import known_answers as known
from tests.support.models.answered_bundles import monai_answer
from tests.support.models.zoo_bundles import SEGMENTS, JsonObject
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import tissues_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CELL = Cell("reported", "oblique, stored backwards", "CT", "classic")
PLACE = EIGHT[CELL.place]
ONE_SEGMENT = SEGMENTS.partition("[[segment]]\nvalue = 2")[0]
Masks = dict[int, NDArray[np.bool_]]


def outlined(bundle: Path, folder: Path) -> Masks:
    """Return the masks of the SEG that the node writes, on the grid of the body, by segment number."""
    return masks_in(told(CELL, bundle, folder / "study").only(ArtifactKind.SEGMENTATION), PLACE)


def by_monai(bundle: Path, folder: Path) -> NDArray[np.float32]:
    folder.mkdir(exist_ok=True)
    return monai_answer(bundle, PLACE, folder)


def refusal(bundle: Path, folder: Path) -> str:
    with pytest.raises(ModelUnavailable) as refused:
        run_model(request_for(study_of(CELL), bundle, folder / "study"))
    return str(refused.value)


def assert_same(found: Masks, expected: dict[int, NDArray[np.bool_]]) -> None:
    assert sorted(found) == sorted(expected)
    for number, mask in expected.items():
        assert mask.any(), number
        assert np.count_nonzero(found[number] != mask) == 0, number


def edited(bundle: Path, change: Callable[[JsonObject], None]) -> Path:
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return bundle


# --- transforms ------------------------------------------------------------------------------------------------------


def test_a_function_before_the_inverse_leaves_the_mask_where_it_belongs_or_is_named(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/MONAI/issues/8396: Invertd stumbles over an invertible transform before it."""
    function = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 1.0"}
    after = [known.SOFTMAX, function, known.INVERT, known.ARGMAX]
    bundle = known.known_segmenter(tmp_path / "bundle", before=(known.RAS, known.CROPPED), after=after)
    tissue = tissues_of(PLACE)
    assert_same(outlined(bundle, tmp_path), {1: tissue == 1, 2: tissue == 2})


def test_chances_that_a_spline_bends_beyond_one_are_still_chances(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/MONAI/issues/7836: after a cubic inverse, probabilities lay outside 0 to 1."""
    spline = {"_target_": "Spacingd", "keys": "image", "pixdim": [3.1, 3.3, 3.7], "mode": 3}
    card = known.NESTED + '[explain]\nmethod = "probability"\n'
    bundle = known.known_segmenter(
        tmp_path / "bundle", before=(known.RAS, spline), after=[known.SIGMOID, known.INVERT, known.THRESHOLD],
        state=known.levels_state(0.4, 0.8), card=card,
    )  # fmt: skip

    found = told(CELL, bundle, tmp_path / "study")

    monai = by_monai(bundle, tmp_path / "monai")
    assert_same(masks_in(found.only(ArtifactKind.SEGMENTATION), PLACE), {1: monai[0] >= 0.5, 2: monai[1] >= 0.5})
    assert found.answer.saliencies, "a map that was asked for is missing without a word"
    assert all(0.0 <= one.map.min() <= one.map.max() <= 1.0 for one in found.answer.saliencies)


def test_a_lazy_crop_to_multiples_of_ten_is_undone(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/MONAI/issues/6404: the inverse of a lazy CropForeground with k_divisible."""
    crop = {**known.CROPPED, "k_divisible": 10}
    bundle = known.known_segmenter(
        tmp_path / "bundle", before=(known.RAS, known.RESAMPLED, crop), after=[known.INVERT, known.ARGMAX]
    )
    edited(bundle, lambda config: config["preprocessing"].update(lazy=True))
    labels = np.rint(by_monai(bundle, tmp_path / "monai")[0])
    assert_same(outlined(bundle, tmp_path), {1: labels == 1, 2: labels == 2})


def test_a_network_of_slices_is_run_slice_by_slice(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/MONAI/pull/3602: a network of two dimensions on a volume (SliceInferer)."""
    bundle = known.known_segmenter(tmp_path / "bundle", before=(known.RAS,), after=[known.INVERT, known.ARGMAX])

    def flat(config: JsonObject) -> None:
        config["network_def"]["_target_"] = "torch.nn.Conv2d"
        config["inferer"] = {
            "_target_": "SliceInferer", "spatial_dim": 2, "roi_size": [32, 32], "sw_batch_size": 2,
        }  # fmt: skip

    state = known.exclusive_state()
    with_weights(edited(bundle, flat), {**state, "weight": state["weight"][..., 0].contiguous()}, "model.safetensors")
    labels = np.rint(by_monai(bundle, tmp_path / "monai")[0])
    assert_same(outlined(bundle, tmp_path), {1: labels == 1, 2: labels == 2})


def test_a_window_that_a_small_patient_does_not_fill_is_told(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/monai-deploy-app-sdk/issues/591: reflected padding fails on children."""
    bundle = known.known_segmenter(tmp_path / "bundle", after=[known.INVERT, known.ARGMAX])
    edited(bundle, lambda one: one["inferer"].update(roi_size=[96, 96, 96], padding_mode="reflect"))
    answer = run_model(request_for(study_of(CELL), bundle, tmp_path / "study"))
    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "VOLUME_TOO_SMALL"
    assert "its window is 96x96x96" in answer.message


def test_a_preprocessing_that_throws_dice_is_refused_before_a_patient_comes(tmp_path: Path) -> None:
    """https://github.com/oukohou/SSR_Net_Pytorch/issues/18: a random flip left in; the answer changed each time."""
    flip = {"_target_": "RandFlipd", "keys": "image", "prob": 0.5, "spatial_axis": 0}
    bundle = known.known_segmenter(tmp_path / "bundle", before=(known.RAS, flip), after=[known.INVERT, known.ARGMAX])
    wrong = [point for point in verify_folder(bundle) if not point.ok]
    assert any("RandFlipd" in point.text for point in wrong)
    assert "RandFlipd" in refusal(bundle, tmp_path)


# --- what channels, numbers and boxes mean ---------------------------------------------------------------------------


def test_metadata_of_another_network_do_not_move_the_structures_by_one(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/model-zoo/pull/131: the BraTS bundle described other outputs than it has."""
    names = {"0": "background", "1": "whole", "2": "core"}
    bundle = known.known_segmenter(
        tmp_path / "bundle", after=[known.SIGMOID, known.INVERT, known.THRESHOLD], names=names,
        state=known.levels_state(0.4, 0.8), card=ONE_SEGMENT.replace('"block"', '"whole"'),
    )  # fmt: skip
    assert "metadata" in refusal(bundle, tmp_path)


def test_numbers_of_classes_with_gaps_become_segments_one_after_the_other(tmp_path: Path) -> None:
    """https://github.com/ImagingDataCommons/highdicom/issues/316: labels such as 10 and 234 broke what writes SEG."""
    renumber = {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": [1, 2], "target_labels": [10, 234]}
    card = SEGMENTS.replace("value = 1\n", "value = 10\n").replace("value = 2\n", "value = 234\n")
    bundle = known.known_segmenter(tmp_path / "bundle", after=[known.INVERT, known.ARGMAX, renumber], card=card)
    tissue = tissues_of(PLACE)
    assert_same(outlined(bundle, tmp_path), {1: tissue == 1, 2: tissue == 2})


def test_of_two_channels_the_organ_is_reported_and_not_the_air_around_it(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/tutorials/issues/433: the background of a one-hot spleen was saved for it."""
    one_hot = {**known.ONE_HOT, "to_onehot": 2}
    state = {name: values[:2] for name, values in known.exclusive_state().items()}
    bundle = known.known_segmenter(
        tmp_path / "bundle", after=[known.SOFTMAX, known.INVERT, one_hot], state=state, card=ONE_SEGMENT
    )
    assert_same(outlined(bundle, tmp_path), {1: tissues_of(PLACE) > 0})


def test_boxes_in_the_patients_world_of_another_handedness_lie_on_the_lesion(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/model-zoo/pull/167: affine_lps_to_ras of the reader and of the boxes."""
    to_world = {**known.TO_WORLD, "affine_lps_to_ras": True}
    bundle = known.known_detector(
        tmp_path / "bundle", after=[known.CLIPPED, to_world, known.TO_CENTRE], at_centres=True, as_centre=False
    )

    def raw_files(config: JsonObject) -> None:
        reader = config["preprocessing"]["transforms"][0]
        reader.update(reader="ITKReader", affine_lps_to_ras=True)

    ball = np.argwhere(tissues_of(PLACE) == 2)
    low, high = ball.min(axis=0), ball.max(axis=0) + 1
    found = told(CELL, edited(bundle, raw_files), tmp_path / "study")
    nodule = next(one for one in found.answer.findings if one.presence is Presence.PRESENT)
    assert nodule.region is not None
    x, y = np.array(nodule.region.points_xy_px).T
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([low[2], high[2], low[1], high[1]], abs=1e-3)


# --- weights ---------------------------------------------------------------------------------------------------------


def with_weights(bundle: Path, content: Any, name: str = "model.pt") -> Path:
    """Give a bundle other weights, and its card their digest."""
    path, card = bundle / "models" / name, bundle / "model_card.toml"
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    lines = card.read_text().splitlines()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    own = f'weights = {{ file = "models/{name}", sha256 = "{digest}" }}'
    card.write_text("\n".join(own if line.startswith("weights =") else line for line in lines) + "\n")
    return bundle


def test_weights_under_another_name_are_found_or_refused_and_never_left_at_random(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/MONAILabel/issues/1508: a state under "net" left the network as it was made."""
    tissue, state = tissues_of(PLACE), known.exclusive_state()
    bundle = known.known_segmenter(tmp_path / "bundle", after=[known.INVERT, known.ARGMAX])
    other = shutil.copytree(bundle, tmp_path / "other")
    with_weights(bundle, {"net": state, "epoch": 3})
    assert_same(outlined(bundle, tmp_path), {1: tissue == 1, 2: tissue == 2})
    with_weights(other, {"ema": state, "epoch": 3})
    assert "hold no state dict" in refusal(other, tmp_path / "other-study")
