"""Input tensors as the card says, and maps back on the source: checked with asymmetric volumes and known places."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.preprocess import bring_back, prepare
from tests.support.campaign import amount

#: An axial stack as most scanners send it: columns to the left, rows to the back, slices upwards.
AXIAL = np.diag([0.8, 0.8, 2.5, 1.0])


def volume(shape: tuple[int, int, int] = (6, 8, 10), affine: np.ndarray = AXIAL) -> ModelInput:
    values = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    return ModelInput(values=values, affine_lps_mm=affine)


def image(rows: int, columns: int) -> ModelInput:
    return ModelInput(values=np.random.default_rng(2).random((1, rows, columns), dtype=np.float32))


def test_an_image_is_stretched_as_pillow_does_it() -> None:
    one = image(60, 90)

    tensor = prepare(one, Preprocessing(size=(24, 32), channels=3)).tensor

    expected = np.asarray(Image.fromarray(one.values[0]).resize((32, 24), Image.Resampling.BILINEAR))
    assert tensor.shape == (3, 24, 32)
    assert np.abs(tensor - expected).max() < 1e-6


def test_window_range_mean_and_deviation_apply_in_this_order() -> None:
    one = ModelInput(values=np.array([[[-2000.0, -1000.0], [-500.0, 5000.0]]], np.float32))
    spec = Preprocessing(window=(-1000.0, 0.0), range=(-1.0, 3.0), mean=(1.0,), std=(2.0,))

    assert prepare(one, spec).tensor.tolist() == [[[-1.0, -1.0], [0.0, 1.0]]]


def test_percentiles_are_taken_from_each_input() -> None:
    one = ModelInput(values=np.arange(101, dtype=np.float32).reshape(1, 1, 101))

    tensor = prepare(one, Preprocessing(percentiles=(10.0, 90.0))).tensor

    assert tensor[0, 0, 10] == 0.0
    assert tensor[0, 0, 50] == pytest.approx(0.5)
    assert tensor[0, 0, 90] == tensor[0, 0, 100] == 1.0


def test_an_image_of_one_value_is_refused_where_contrast_is_needed() -> None:
    with pytest.raises(NotAnalysable) as refusal:
        prepare(ModelInput(values=np.ones((1, 4, 4), np.float32)), Preprocessing(percentiles=(2.0, 98.0)))
    assert refusal.value.reason == "NO_CONTRAST"


def test_padding_keeps_proportions_and_the_way_back_finds_the_place() -> None:
    one = image(40, 80)
    prepared = prepare(one, Preprocessing(size=(32, 32), fit="pad", window=(0.0, 1.0)))

    assert not prepared.tensor[0, :8].any()
    assert not prepared.tensor[0, 24:].any()
    heat = np.zeros((1, 32, 32), np.float32)
    heat[0, 8:16, 0:8] = 1.0
    back = bring_back(heat, prepared.placement)[0]
    assert back.shape == (40, 80)
    assert back[3:17, 3:17].min() > 0.99
    assert back[:, 30:].max() == 0.0


def test_cropping_shows_the_middle_and_what_lies_outside_comes_back_as_nothing() -> None:
    one = image(40, 80)
    prepared = prepare(one, Preprocessing(size=(20, 20), fit="crop"))

    expected = np.asarray(Image.fromarray(one.values[0, :, 20:60]).resize((20, 20), Image.Resampling.BILINEAR))
    assert np.abs(prepared.tensor[0] - expected).max() < 1e-6
    back = bring_back(np.ones((1, 20, 20), np.float32), prepared.placement)[0]
    assert back[:, 20:60].min() == 1.0
    assert back[:, :20].max() == back[:, 60:].max() == 0.0


@pytest.mark.parametrize("letters", ["".join(s) for p in permutations(("LR", "PA", "SI")) for s in product(*p)])
def test_every_orientation_goes_there_and_back(letters: str) -> None:
    one = volume()
    prepared = prepare(one, Preprocessing(dimensions=3, orientation=letters))

    assert np.array_equal(bring_back(prepared.tensor, prepared.placement), one.values)


def test_an_axis_grows_to_the_side_its_letter_names() -> None:
    one = volume()

    left_to_right = prepare(one, Preprocessing(dimensions=3, orientation="RAS")).tensor[0]

    # RAS: axes are x to the right, y to the front, z up; the source is LPS with axes z, y, x.
    assert np.array_equal(left_to_right, one.values[0].transpose(2, 1, 0)[::-1, ::-1, :])


def test_a_sagittal_series_gives_the_same_tensor_as_the_axial_one() -> None:
    axial = volume()
    # The same voxels stored as slices to the right, rows downwards, columns to the back.
    sagittal_values = np.ascontiguousarray(axial.values.transpose(0, 3, 1, 2)[:, ::-1, ::-1, :])
    affine = np.eye(4)
    affine[:3, 0] = (0.0, 0.8, 0.0)
    affine[:3, 1] = (0.0, 0.0, -2.5)
    affine[:3, 2] = (-0.8, 0.0, 0.0)
    spec = Preprocessing(dimensions=3, orientation="SPL", spacing_mm=(1.0, 1.0, 1.0))

    one = prepare(axial, spec).tensor
    other = prepare(ModelInput(values=sagittal_values, affine_lps_mm=affine), spec).tensor

    assert one.shape == other.shape
    assert np.abs(one - other).max() < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(4, 9) for _ in range(3))),
    spacing_mm=st.tuples(*(st.floats(0.5, 3.0) for _ in range(3))),
    letters=st.sampled_from(["SPL", "RAS", "LIA", "IPR"]),
)
def test_a_ramp_comes_back_as_it_was(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], letters: str
) -> None:
    ramp = np.add.outer(np.add.outer(np.arange(shape[0]) * 100.0, np.arange(shape[1]) * 10.0), np.arange(shape[2]))
    affine = np.diag([*spacing_mm[::-1], 1.0])
    spec = Preprocessing(dimensions=3, orientation=letters, spacing_mm=(0.5, 0.5, 0.5))

    prepared = prepare(ModelInput(values=ramp[None].astype(np.float32), affine_lps_mm=affine), spec)
    back = bring_back(prepared.tensor, prepared.placement)[0]

    # Linear interpolation reproduces a plane, but for the outermost voxels where the border value goes on.
    inner = (slice(1, -1),) * 3
    assert np.abs(back - ramp)[inner].max() < 0.05


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations((0, 1, 2)),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    degrees=st.tuples(*(st.floats(-12, 12) for _ in range(3))),
)
def test_however_the_voxels_are_stored_the_network_sees_the_same_and_its_mask_lies_on_the_same(
    order: tuple[int, int, int], flips: tuple[bool, bool, bool], degrees: tuple[float, float, float]
) -> None:
    affine = oblique(degrees) @ AXIAL
    plain = volume(affine=affine)
    stored = as_stored(plain, order, flips)
    spec = Preprocessing(dimensions=3, orientation="LIA", spacing_mm=(1.0, 1.0, 1.0), size=(12, 20, 10), fit="pad")

    one, other = prepare(plain, spec), prepare(stored, spec)

    assert np.abs(one.tensor - other.tensor).max() < 1e-4
    mask = np.zeros((1, 12, 20, 10), np.float32)
    mask[0, 3:7, 5:16, 2:6] = 1.0
    expected = as_stored(ModelInput(values=bring_back(mask, one.placement), affine_lps_mm=affine), order, flips)
    assert np.abs(bring_back(mask, other.placement) - expected.values).max() < 1e-4


def oblique(degrees: tuple[float, float, float]) -> np.ndarray:
    """A rotation about x, then y, then z."""
    turned = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(4)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turned = step @ turned
    return turned


def as_stored(one: ModelInput, order: tuple[int, ...], flips: tuple[bool, ...]) -> ModelInput:
    """The same voxels with other axes first and some axes counted from their other end."""
    assert one.affine_lps_mm is not None
    values = one.values.transpose(0, *(axis + 1 for axis in order))
    # Columns of the affine belong to array axes from the last to the first.
    columns = [one.affine_lps_mm[:, 2 - axis].copy() for axis in order]
    origin = one.affine_lps_mm[:, 3].copy()
    for axis, flipped in enumerate(flips):
        if flipped:
            origin += columns[axis] * (values.shape[axis + 1] - 1)
            columns[axis] = -columns[axis]
            values = np.flip(values, axis + 1)
    affine = np.stack([*columns[::-1], origin], axis=1)
    return ModelInput(values=np.ascontiguousarray(values), affine_lps_mm=affine)


def test_a_volume_larger_than_the_network_is_refused_and_not_cut() -> None:
    spec = Preprocessing(dimensions=3, orientation="SPL", spacing_mm=(1.0, 1.0, 1.0), size=(8, 8, 8), fit="pad")

    with pytest.raises(NotAnalysable) as refusal:
        prepare(volume(), spec)
    assert refusal.value.reason == "VOLUME_TOO_LARGE"


def test_a_padded_volume_lies_in_the_middle_and_comes_back() -> None:
    one = volume()
    spec = Preprocessing(dimensions=3, orientation="SPL", spacing_mm=(2.5, 0.8, 0.8), size=(10, 12, 16), fit="pad")

    prepared = prepare(one, spec)

    assert np.abs(prepared.tensor[:, 2:8, 2:10, 3:13] - one.values).max() < 1e-5
    assert np.abs(bring_back(prepared.tensor, prepared.placement) - one.values).max() < 1e-5


#: Most networks see images of a few hundred pixels; sizes in the thousands are for the campaign.
LARGEST = amount(700, campaign=3000)


@pytest.mark.campaign
@settings(max_examples=amount(100, campaign=200), deadline=None)
@given(
    rows=st.integers(2, LARGEST),
    columns=st.integers(2, LARGEST),
    fit=st.sampled_from(["stretch", "pad", "crop"]),
    size=st.tuples(st.integers(8, 64), st.integers(8, 64)),
)
def test_every_size_of_image_fits_every_size_of_network(
    rows: int, columns: int, fit: str, size: tuple[int, int]
) -> None:
    # What is narrower than a pixel of the network is not seen by it.
    assume(max(rows, columns) <= 4 * min(rows, columns))
    one = ModelInput(values=np.full((1, rows, columns), 0.5, np.float32))

    prepared = prepare(one, Preprocessing(size=size, fit=fit, window=(0.0, 1.0)))

    assert prepared.tensor.shape == (1, *size)
    assert set(np.unique(prepared.tensor.round(5))) <= {0.0, 0.5}
    assert prepared.tensor.max() == 0.5
    assert bring_back(prepared.tensor, prepared.placement).shape == (1, rows, columns)


def test_a_coarse_output_covers_the_same_field_of_view() -> None:
    prepared = prepare(image(64, 64), Preprocessing(size=(32, 32)))
    coarse = np.zeros((1, 8, 8), np.float32)
    coarse[0, 4:, :] = 1.0

    back = bring_back(coarse, prepared.placement, nearest=True)[0]

    assert not back[:32].any()
    assert back[32:].all()


def test_what_is_not_of_the_kind_the_card_says_is_refused() -> None:
    with pytest.raises(NotAnalysable, match="3-D"):
        prepare(volume(), Preprocessing(size=(8, 8)))
    with pytest.raises(NotAnalysable, match="have 3"):
        prepare(ModelInput(values=np.zeros((3, 4, 4), np.float32)), Preprocessing())
    with pytest.raises(NotAnalysable, match="no position"):
        prepare(ModelInput(values=np.zeros((1, 4, 4, 4), np.float32)), Preprocessing(dimensions=3, orientation="SPL"))
