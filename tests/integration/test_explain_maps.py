"""Maps that need no network in the test: attention rollout, probabilities of voxels, hot regions, resampling."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.inference.explain.maps import (
    on_source,
    probability_map,
    strongest_slices,
    uncertainty_map,
    unit_range,
)
from dicom_node.inference.explain.methods import attention_rollout


def attending(patch: int, *, tokens: int = 17, heads: int = 2) -> NDArray[np.float64]:
    """Attention in which every token looks at one patch of 16 behind a class token."""
    weights = np.full((heads, tokens, tokens), 0.01)
    weights[:, :, 1 + patch] = 1.0
    return weights / weights.sum(axis=-1, keepdims=True)


def test_rollout_points_at_the_patch_that_the_class_token_looks_at() -> None:
    heat = attention_rollout([attending(6)] * 3, grid=(4, 4), shape=(64, 64), has_class_token=True)

    assert heat.shape == (64, 64)
    assert np.unravel_index(int(heat.argmax()), heat.shape)[0] // 16 == 1
    assert heat[16:32, 32:48].mean() > 5 * heat[32:, :16].mean()


def test_rollout_follows_attention_through_the_layers() -> None:
    """The class token looks at patch 0 in the last layer; patch 0 has its content from patch 15 in the first."""
    passed_on = np.tile(np.eye(17), (2, 1, 1))
    passed_on[:, 1, :] = 0.0
    passed_on[:, 1, 16] = 1.0
    heat = attention_rollout([passed_on, attending(0)], grid=(4, 4), shape=(4, 4), has_class_token=True)
    assert heat[3, 3] > 0.3
    assert heat[3, 3] > 3 * heat[1, 1]


def test_rollout_without_class_token_takes_the_mean_over_patches() -> None:
    weights = np.full((16, 16), 0.01)
    weights[:, 9] = 1.0
    heat = attention_rollout([weights], grid=(4, 4), shape=(4, 4), has_class_token=False)
    assert int(heat.argmax()) == 9


def test_rollout_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="patches do not fit"):
        attention_rollout([np.eye(16)], grid=(4, 4), shape=(8, 8), has_class_token=True)
    with pytest.raises(ValueError, match="keeps them"):
        attention_rollout([], grid=(4, 4), shape=(8, 8), has_class_token=True)


def test_the_probability_map_is_the_class_and_uncertainty_is_highest_where_classes_are_equal() -> None:
    probabilities = np.zeros((2, 3, 4, 4), np.float32)
    probabilities[1, 1, 2, 2], probabilities[1, 2, 0, 0] = 1.0, 0.5
    probabilities[0] = 1.0 - probabilities[1]

    assert np.array_equal(probability_map(probabilities, 1), probabilities[1])
    doubt = uncertainty_map(probabilities)
    assert np.unravel_index(int(doubt.argmax()), doubt.shape) == (2, 0, 0)
    assert doubt[2, 0, 0] == pytest.approx(1.0)
    assert doubt[1, 2, 2] == pytest.approx(0.0, abs=1e-6)
    assert strongest_slices(probabilities[1], 5) == (1, 2)
    with pytest.raises(ValueError, match="class 2"):
        probability_map(probabilities, 2)


def test_a_map_is_laid_on_the_whole_source() -> None:
    cells = np.zeros((4, 8), np.float32)
    cells[1, 6] = 1.0
    heat = on_source(cells, (400, 1600))
    rows, columns = (np.average(np.arange(n), weights=heat.sum(axis=a)) for n, a in ((400, 1), (1600, 0)))
    assert rows == pytest.approx(149.5, abs=1.0)
    assert columns == pytest.approx(1299.5, abs=1.0)
    with pytest.raises(ValueError, match="2 dimensions"):
        on_source(cells, (3, 4, 5))


def test_a_map_without_support_stays_empty_and_broken_values_count_as_none() -> None:
    assert not unit_range(np.full((3, 3), -2.0, np.float32)).any()
    assert unit_range(np.array([[np.nan, 2.0, np.inf]], np.float32)).tolist() == [[0.0, 1.0, 0.0]]
