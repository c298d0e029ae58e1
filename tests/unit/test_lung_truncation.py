"""When the scan lacks only the tip of a lung its volume is told; when it lacks more, it is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.inference.images.volume import Volume
from dicom_node.inference.lungs.segmentation import Lungs
from dicom_node.inference.lungs.truncation import SeenLung, seen_lungs

#: A lung like a cone: 100 cm² at its base, its tip 240 mm above.
HEIGHT_MM, BASE_RADIUS_MM, PIXEL_MM = 240.0, 56.4, 2.0
PIXELS = 64
DISTANCE_MM = PIXEL_MM * np.hypot(*np.meshgrid(np.arange(PIXELS) - 31.5, np.arange(PIXELS) - 31.5))


def cone(cut_mm: float, slice_mm: float) -> NDArray[np.bool_]:
    """Return the slices (z, y, x) from `cut_mm` below the tip to beyond the base."""
    heights_mm = np.arange(cut_mm + slice_mm / 2, HEIGHT_MM, slice_mm)
    inside = [BASE_RADIUS_MM * height / HEIGHT_MM >= DISTANCE_MM for height in heights_mm]
    return np.stack([*inside, np.zeros_like(inside[0])])


def seen(mask: NDArray[np.bool_], slice_mm: float, *, at_side: tuple[bool, bool] = (False, False)) -> SeenLung:
    volume = Volume(
        modality="CT",
        values_zyx=np.zeros(mask.shape, np.int16),
        spacing_zyx_mm=(slice_mm, PIXEL_MM, PIXEL_MM),
        affine_lps_mm=np.eye(4),
        sources=(),
    )
    none = np.zeros_like(mask)
    return seen_lungs(Lungs(mask, none, none, -500.0, at_side), volume)[0]


@pytest.mark.parametrize("slice_mm", [1.0, 2.5, 5.0, 10.0])
@pytest.mark.parametrize("upside_down", [False, True])
def test_a_lung_without_its_tip_is_measured_and_lacks_what_it_lacks(slice_mm: float, upside_down: bool) -> None:
    mask = cone(60.0, slice_mm)
    lung = seen(mask[::-1] if upside_down else mask, slice_mm)
    assert lung.cut_at == (f"the {'last' if upside_down else 'first'} slice",)
    assert not lung.is_truncated
    assert lung.missing_ml == pytest.approx(12.5, abs=6)
    assert lung.remark.endswith(f"about {lung.missing_ml:.0f} ml of it are outside the scan and not counted.")


@pytest.mark.parametrize("slice_mm", [1.0, 2.5, 5.0, 10.0])
@pytest.mark.parametrize("cut_mm", [110.0, 150.0, 200.0])
def test_a_lung_cut_through_has_no_volume(slice_mm: float, cut_mm: float) -> None:
    lung = seen(cone(cut_mm, slice_mm), slice_mm)
    assert lung.is_truncated
    assert lung.remark.startswith("Lungs truncated: volume not reported.")


def test_a_whole_lung_needs_no_remark() -> None:
    lung = seen(cone(0.0, 2.5), 2.5)
    assert (lung.cut_at, lung.is_truncated, lung.remark) == ((), False, "")


def test_a_lung_that_does_not_taper_towards_the_end_is_cut_through() -> None:
    slab = np.repeat((DISTANCE_MM <= BASE_RADIUS_MM)[None], 40, axis=0)
    assert seen(slab, 5.0).is_truncated
    assert seen(cone(60.0, 5.0)[::-1][1:], 5.0).is_truncated, "its base is the end"


def test_what_the_side_of_the_images_cuts_off_is_never_guessed() -> None:
    assert seen(cone(0.0, 2.5), 2.5, at_side=(True, False)).is_truncated
    assert not seen(cone(0.0, 2.5), 2.5, at_side=(False, True)).is_truncated, "the other lung is whole"


def test_a_few_slices_tell_of_no_taper() -> None:
    assert seen(cone(60.0, 5.0)[:2], 5.0).is_truncated
