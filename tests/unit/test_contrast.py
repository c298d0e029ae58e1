"""CLAHE makes faint structures visible and invents none; scikit-image's own, where it is there, gives the same."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.sr_writer.pictures.contrast import equalised
from dicom_node.sr_writer.pictures.display import GrayUint8


def _faint_squares() -> GrayUint8:
    """Two squares 6 grays above what is around them, one in a dark half and one in a bright half, with noise."""
    image = np.full((256, 320), 60.0)
    image[:, 160:] = 190
    image[100:140, 60:100] += 6
    image[100:140, 220:260] += 6
    return np.clip(image + np.random.default_rng(1).normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def _step(image: GrayUint8, column: int) -> float:
    """Return by how much a square is brighter than the strip to its left."""
    inside, beside = image[105:135, column + 5 : column + 35], image[105:135, column - 30 : column - 10]
    return float(inside.mean() - beside.mean())


def test_faint_structures_stand_out_in_the_dark_and_in_the_bright() -> None:
    image = _faint_squares()
    raised = equalised(image)
    for column in (60, 220):
        assert 5 < _step(image, column) < 7
        assert _step(raised, column) > 1.8 * _step(image, column)


def test_the_order_of_grays_is_kept_where_tiles_are_alike() -> None:
    image = np.tile(np.arange(32, dtype=np.uint8) * 8, (256, 8))
    raised = equalised(image)
    assert (np.diff(raised[128, :32].astype(int)) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 5), (64, 64)])
@pytest.mark.parametrize("gray", [0, 117, 255])
def test_what_is_flat_stays_flat(shape: tuple[int, int], gray: int) -> None:
    raised = equalised(np.full(shape, gray, np.uint8))
    assert raised.shape == shape
    assert np.ptp(raised) <= 1
    assert abs(int(raised[0, 0]) - gray) <= 4


def test_another_implementation_gives_the_same_picture() -> None:
    exposure = pytest.importorskip("skimage.exposure", reason="scikit-image is of dicom-node[bundles]")
    image = _faint_squares()
    theirs = exposure.equalize_adapthist(image, kernel_size=(32, 40), clip_limit=2 / 256, nbins=256) * 255
    ours = equalised(image)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
