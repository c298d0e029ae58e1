"""Augmentation and perturbations keep the shape of an image and do what their names say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.inference.training import augment, robustness  # noqa: E402


def ramp() -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 224 * 224).reshape(1, 224, 224)


def batch(count: int = 16, size: int = 64) -> torch.Tensor:
    """Chest-like pictures: a bright body on black with two dark lungs, and a little noise."""
    down, across = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    body = 0.7 * ((down - 0.5).abs() < 0.45) * ((across - 0.5).abs() < 0.4)
    lungs = sum(((down - 0.45) / 0.28) ** 2 + ((across - x) / 0.13) ** 2 < 1 for x in (0.3, 0.7))
    torch.manual_seed(7)
    return (body - 0.45 * lungs + 0.02 * torch.randn(count, 1, size, size)).clamp(0, 1)


def test_augmentation_keeps_shape_and_range_and_changes_every_image() -> None:
    torch.manual_seed(5)
    images = batch()
    given = images.clone()
    for _ in range(10):
        varied = augment.varied(images, augment.Strength())
        assert varied.shape == images.shape
        assert varied.min() >= 0.0
        assert varied.max() <= 1.0
        assert ((varied - images).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    assert torch.equal(images, given)


def test_equal_seeds_augment_alike() -> None:
    images = batch()
    torch.manual_seed(3)
    first = augment.varied(images, augment.Strength())
    torch.manual_seed(3)
    again = augment.varied(images, augment.Strength())
    torch.manual_seed(4)
    other = augment.varied(images, augment.Strength())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_chance_of_none_leaves_images_alone_and_of_one_changes_all() -> None:
    images = batch()
    assert torch.equal(augment.sometimes(images, 0.0, augment.negative), images)
    assert torch.equal(augment.sometimes(images, 1.0, augment.negative), 1.0 - images)


def test_no_motion_gives_the_image_and_a_flip_its_mirror_image() -> None:
    still = augment.Motion(rotation_degrees=0.0, shear=0.0, shift=0.0, zoom=0.0, flip=False)
    assert torch.allclose(augment.moved(batch(), still), batch(), atol=1e-4)
    torch.manual_seed(0)
    images = batch(count=1)
    mirrored = augment.Motion(rotation_degrees=0.0, shear=0.0, shift=0.0, zoom=0.0)
    found = [augment.moved(images, mirrored) for _ in range(12)]
    as_is = [torch.allclose(one, images, atol=1e-4) for one in found]
    turned = [torch.allclose(one, images.flip(-1), atol=1e-4) for one in found]
    assert any(as_is)
    assert any(turned)
    assert all(a or b for a, b in zip(as_is, turned, strict=True))


def test_a_tone_curve_keeps_the_order_of_greys() -> None:
    torch.manual_seed(1)
    steps = torch.linspace(0, 1, 64).expand(8, 1, 64, 64)
    toned = augment.toned(steps)
    assert (toned.diff(dim=-1) >= -1e-6).all()
    assert (toned[..., -1] - toned[..., 0] > 0.3).all()


def test_rounding_as_jpeg_does_vanishes_with_its_step() -> None:
    images = batch()
    assert torch.allclose(augment.jpeg_like(images, 1e-5), images, atol=1e-3)
    coarse = augment.jpeg_like(images, 0.5)
    assert 0.001 < (coarse - images).abs().mean() < 0.1


def test_a_border_covers_its_share_of_each_side() -> None:
    framed = robustness.with_border(torch.full((1, 100, 200), 0.5), (0.1, 0.2, 0.05, 0.0), 0.0)
    assert framed[0, :10].max() == 0.0
    assert framed[0, 80:].max() == 0.0
    assert framed[0, :, :10].max() == 0.0
    assert framed[0, 10:80, 10:].min() == 0.5


def test_random_borders_are_uniform_and_leave_the_middle() -> None:
    torch.manual_seed(2)
    images = torch.full((32, 1, 64, 64), 0.4321)
    framed = augment.bordered(images)
    assert (framed[:, :, 24:40, 24:40] == 0.4321).all()
    for one in framed:
        assert len(one[one != 0.4321].unique()) <= 1
    assert (framed != images).flatten(1).any(dim=1).float().mean() > 0.8


def test_standardised_images_have_mean_0_and_deviation_1() -> None:
    found = augment.standardised(batch())
    assert found.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(found.std(dim=(1, 2, 3), correction=0), torch.ones(16), atol=1e-4)
    assert torch.isfinite(augment.standardised(torch.zeros(1, 1, 8, 8))).all()


@pytest.mark.parametrize("name", list(robustness.perturbations()))
def test_every_perturbation_stays_within_the_range_of_values(name: str) -> None:
    image = robustness.perturbations()[name](ramp())
    assert image.shape[0] == 1
    assert image.min() >= 0.0
    assert image.max() <= 1.0


def test_covering_the_centre_leaves_the_margin_and_nothing_else() -> None:
    covered = robustness.without_centre(ramp())
    assert covered[0, 40:180, 40:180].std() < 1e-6
    assert torch.equal(covered[0, :33], ramp()[0, :33])
    assert torch.equal(covered[0, :, 191:], ramp()[0, :, 191:])


def test_the_first_perturbation_is_none_at_all() -> None:
    assert torch.equal(next(iter(robustness.perturbations().values()))(ramp()), ramp())


def test_shadows_are_drawn_into_lungs_and_nowhere_else() -> None:
    images = batch(count=28)
    torch.manual_seed(3)
    changed = robustness.corrupted(images, robustness.lung_prior(images))

    assert changed.images.shape == images.shape
    assert (changed.images - images).abs().amax(dim=(1, 2, 3)).min() > 0.03
    difference = (changed.images - images).abs()
    assert difference[:, :, :, 30:34].mean() < 0.1 * difference[:, :, 20:38, 14:24].mean()
    assert difference[changed.amount == 0].max() < 1e-6


def test_lungs_are_expected_where_the_mean_image_is_dark_inside() -> None:
    prior = robustness.lung_prior(batch())[0, 0]
    assert prior[28, 19] > 0.5
    assert prior[28, 44] > 0.5
    assert prior[28, 32] < 0.2
    assert prior[2, 2] == 0.0
