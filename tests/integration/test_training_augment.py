"""Augmentation and perturbations keep the shape of an image and do what their names say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.inference.training import augment  # noqa: E402


def ramp() -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 224 * 224).reshape(1, 224, 224)


def test_augmentation_keeps_shape_and_type_and_changes_the_image() -> None:
    transform = augment.training_augmentation().set_random_state(5)
    for _ in range(20):
        image = transform({"image": ramp()})["image"]
        assert image.shape == (1, 224, 224)
        assert image.dtype == torch.float32
        assert torch.isfinite(image).all()
        assert not torch.equal(torch.as_tensor(image), ramp())


def test_equal_seeds_augment_alike() -> None:
    first, again, other = (
        augment.training_augmentation().set_random_state(seed)({"image": ramp()})["image"] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_border_covers_its_share_of_each_side() -> None:
    framed = augment.with_border(torch.full((1, 100, 200), 0.5), (0.1, 0.2, 0.05, 0.0), 0.0)
    assert framed[0, :10].max() == 0.0
    assert framed[0, 80:].max() == 0.0
    assert framed[0, :, :10].max() == 0.0
    assert framed[0, 10:80, 10:].min() == 0.5


def test_a_random_border_leaves_the_given_image_alone() -> None:
    image = ramp()
    transform = augment.RandBorderd("image", prob=1.0).set_random_state(2)
    assert not torch.equal(transform({"image": image})["image"], image)
    assert torch.equal(image, ramp())


def test_the_negative_of_the_negative_is_the_image() -> None:
    assert torch.allclose(augment.negative(augment.negative(ramp())), ramp())


def test_a_random_negative_exchanges_bright_and_dark() -> None:
    changed = augment.RandNegatived("image", prob=1.0)({"image": ramp()})["image"]
    assert torch.equal(changed, 1.0 - ramp())


@pytest.mark.parametrize("name", list(augment.perturbations()))
def test_every_perturbation_stays_within_the_range_of_values(name: str) -> None:
    image = augment.perturbations()[name](ramp())
    assert image.shape[0] == 1
    assert image.min() >= 0.0
    assert image.max() <= 1.0


def test_covering_the_centre_leaves_the_margin_and_nothing_else() -> None:
    covered = augment.without_centre(ramp())
    assert covered[0, 40:180, 40:180].std() < 1e-6
    assert torch.equal(covered[0, :33], ramp()[0, :33])
    assert torch.equal(covered[0, :, 191:], ramp()[0, :, 191:])


def test_the_first_perturbation_is_none_at_all() -> None:
    assert torch.equal(next(iter(augment.perturbations().values()))(ramp()), ramp())
