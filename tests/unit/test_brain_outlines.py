"""Around the network of mr-brain-volumes: how bright a head is made, where it is, sides, and the figures it leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from dicom_node.inference.brain.head import CropToHeadd, HeadBrightnessd, otsu_threshold
from dicom_node.inference.brain.meshnet import MeshNet
from dicom_node.inference.brain.outlines import CutFacesd, Outlinesd, cut_cm2, strongest
from dicom_node.inference.brain.sides import mid_plane
from dicom_node.inference.runtimes.monai_bundle.outputs import FIGURES

#: Class 1 lies in the middle and on both sides, 2 to 4 in pairs.
_STRUCTURES = {
    "mantle": ["two-sided", "hemisphere"],
    "first": ["two-sided", "pair", "nucleus"],
    "second": ["two-sided", "pair", "nucleus"],
    "third": ["two-sided", "pair", "nucleus"],
}
_RIGHT_FROM = 32
#: (left, inferior, anterior) voxels of 2 mm in the patient (RAS), as the network has them.
_LIA = np.array([[-2.0, 0, 0, 60], [0, 0, 2, -70], [0, -2, 0, 50], [0, 0, 0, 1]])


def brain(shape: tuple[int, int, int] = (60, 50, 60), turn_degrees: float = 0.0) -> NDArray[np.uint8]:
    """Return classes on a grid whose first axis grows to the left; turned about the axis from back to front."""
    at = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    labels = (np.square(at / [26, 20, 26]).sum(-1) < 1).astype(np.uint8)
    for value, (aside, down, ahead) in enumerate([(6, 0, 8), (9, 4, -2), (12, -6, -10)], 2):
        for side in (-1, 1):
            labels[np.square((at - [side * aside, down, ahead]) / [3, 3, 4]).sum(-1) < 1] = value
    angle = np.radians(turn_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    middle = (np.array(shape) - 1) / 2
    return affine_transform(labels, turn, middle - turn @ middle, order=0)


def outlined(
    labels: NDArray[np.uint8], affine: NDArray[np.float64] = _LIA
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    logits = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 5).permute(3, 0, 1, 2).float() * 9
    image = MetaTensor(torch.zeros(1, *labels.shape), affine=torch.from_numpy(affine))
    done = Outlinesd("pred", "image", _STRUCTURES, _RIGHT_FROM)({"pred": logits, "image": image})
    return np.asarray(done["pred"])[0].astype(np.uint8), done[FIGURES]


def test_the_bright_part_of_the_head_becomes_one_half_whatever_the_background_and_the_spikes() -> None:
    generator = np.random.default_rng(1)
    values = generator.uniform(0, 20, (1, 40, 40, 40)).astype(np.float32)
    values[:, 10:30, 10:30, 10:30] = generator.uniform(200, 1000, (1, 20, 20, 20))
    values[0, 12, 12, 12] = 60000

    scaled = np.asarray(HeadBrightnessd("image")({"image": MetaTensor(torch.from_numpy(values))})["image"])

    inside = scaled[scaled > otsu_threshold(scaled)]
    assert np.percentile(inside, 90) == pytest.approx(0.5, abs=0.005)


def test_a_volume_of_one_value_is_left_as_it_is() -> None:
    flat = MetaTensor(torch.zeros(1, 8, 8, 8))

    assert np.array_equal(np.asarray(HeadBrightnessd("image")({"image": flat})["image"]), np.zeros((1, 8, 8, 8)))
    assert CropToHeadd("image", 0)({"image": flat})["image"].shape == (1, 8, 8, 8)


def test_the_crop_goes_to_the_largest_bright_piece_and_back() -> None:
    values = np.zeros((1, 50, 40, 60), np.float32)
    values[:, 10:30, 12:32, 20:50] = 100
    values[:, 44:48, 2:6, 2:6] = 100
    crop = CropToHeadd("image", 4)

    done = crop({"image": MetaTensor(torch.from_numpy(values))})

    assert done["image"].shape == (1, 28, 28, 38)
    assert crop.inverse(done)["image"].shape == values.shape


@pytest.mark.parametrize("turn_degrees", [0.0, 15.0, -15.0])
def test_sides_are_right_in_a_head_that_lies_turned_and_off_centre(turn_degrees: float) -> None:
    labels = np.roll(brain(turn_degrees=turn_degrees), 2, axis=0)
    true_left = np.roll(_left_of_turned(labels.shape, turn_degrees), 2, axis=0)

    sided, figures = outlined(labels)

    inside = labels > 0
    wrong = ((sided < _RIGHT_FROM) != true_left) & inside
    assert wrong.sum() < 0.01 * inside.sum()
    assert not wrong[np.isin(labels, [2, 3, 4])].any()
    assert figures["tilt-degrees"] == pytest.approx(abs(turn_degrees), abs=1.0)
    assert figures["paired-structures"] == 3
    assert figures["smaller-nucleus-percent"] > 45


def _left_of_turned(shape: tuple[int, ...], turn_degrees: float) -> NDArray[np.bool_]:
    """Tell what lies on the left of the turned brain: its first axis before it was turned."""
    at = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    angle = np.radians(turn_degrees)
    return at[..., 0] * np.cos(angle) - at[..., 1] * np.sin(angle) > 0


def test_sides_follow_the_patient_and_not_the_order_of_voxels() -> None:
    labels = brain()
    mirrored = _LIA.copy()
    mirrored[0, :] = [2, 0, 0, -58]

    sided, _ = outlined(labels)
    other, _ = outlined(labels[::-1].copy(), mirrored)

    assert np.array_equal(sided, other[::-1])


def test_without_pairs_no_side_is_told() -> None:
    labels = brain()
    labels[labels > 1] = 1

    sided, figures = outlined(labels)

    assert figures["paired-structures"] == 0
    assert sided.max() == 1
    assert mid_plane(labels, [2, 3], _LIA) is None


def test_only_the_largest_cluster_is_kept_and_all_are_counted() -> None:
    labels = brain()
    labels[1:3, 1:3, 1:3] = 2
    labels[-3:-1, 1:3, 1:3] = 1

    sided, figures = outlined(labels)

    assert figures["clusters"] == 3
    assert figures["largest-cluster-percent"] == pytest.approx(100 * (1 - 16 / (labels > 0).sum()), abs=1e-6)
    assert not sided[1:3, 1:3, 1:3].any()
    assert figures["total-ml"] == pytest.approx((sided > 0).sum() * 0.008)


def test_how_sure_the_network_is_comes_from_the_strongest_class_alone() -> None:
    logits = torch.zeros(3, 4, 4, 4)
    logits[1, :2] = float(np.log(2 * 0.9 / 0.1))  # 0.9 against two of 0.05
    logits[2, 2:3] = float(np.log(2 * 0.5 / 0.5))  # 0.5 against two of 0.25

    labels, figures = strongest(logits)

    assert labels[:2].max() == 1
    assert figures["mean-probability"] == pytest.approx((2 * 0.9 + 0.5) / 3)
    assert figures["unsure-percent"] == pytest.approx(100 / 3)


def test_nothing_outlined_leaves_the_figures_of_nothing() -> None:
    _, figures = outlined(np.zeros((20, 20, 20), np.uint8))

    assert (figures["total-ml"], figures["mean-probability"], figures["paired-structures"]) == (0, 0, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_what_reaches_any_outermost_plane_is_measured_there(axis: int, end: int) -> None:
    inside = np.zeros((20, 24, 28), bool)
    inside[5:15, 5:15, 5:15] = True
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    assert cut_cm2(inside, affine) == 0

    face = [slice(5, 15)] * 3
    face[axis] = slice(0, 5) if end == 0 else slice(15, None)
    inside[tuple(face)] = True

    across_mm2 = np.prod(np.delete([2.0, 3.0, 4.0], axis))
    assert cut_cm2(inside, affine) == pytest.approx(100 * across_mm2 / 100)
    labels = MetaTensor(torch.from_numpy(inside[None].astype(np.float32)), affine=torch.from_numpy(affine))
    done = CutFacesd("pred")({"pred": labels, FIGURES: {"clusters": 1.0}})
    assert done[FIGURES] == {"clusters": 1.0, "cut-cm2": cut_cm2(inside, affine)}


def test_meshnet_is_its_convolutions_one_after_the_other() -> None:
    torch.manual_seed(1)
    network = MeshNet(channels=4, classes=3, dilations=[1, 2, 1]).eval()
    plain = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ELU(), torch.nn.Conv3d(4, 4, 3, padding=2, dilation=2),
        torch.nn.ELU(), torch.nn.Conv3d(4, 4, 3, padding=1), torch.nn.ELU(), torch.nn.Conv3d(4, 3, 1),
    )  # fmt: skip
    plain.load_state_dict(network.state_dict())
    image = torch.rand(1, 1, 12, 10, 11)

    with torch.no_grad():
        given, wanted = network(image), plain(image)

    assert given.dtype == torch.float32
    # Processors that multiply in bfloat16 keep some three digits.
    assert torch.allclose(given, wanted, atol=0.02)
    assert image.max() <= 1  # nothing was written into what went in
