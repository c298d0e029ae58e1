"""The ensemble of small networks: the mean over members and mirror images, and one feature map for all of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from monai.networks.nets.resnet import ResNet  # noqa: E402

from dicom_node.inference.ensemble import MirroredEnsemble, member_state  # noqa: E402
from dicom_node.inference.explain.methods import grad_cam  # noqa: E402


def member(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return ResNet("basic", [1, 1, 1, 1], [4, 8, 8, 16], spatial_dims=2, n_input_channels=1, num_classes=2).eval()


def images() -> torch.Tensor:
    torch.manual_seed(9)
    return torch.randn(3, 1, 64, 64)


@torch.no_grad()
def test_the_logits_are_the_mean_over_members_and_mirror_images() -> None:
    members = [member(1), member(2)]
    expected = torch.stack([one(x) for one in members for x in (images(), images().flip(-1))]).mean(dim=0)
    assert torch.allclose(MirroredEnsemble([member(1), member(2)]).eval()(images()), expected, atol=1e-5)


@torch.no_grad()
def test_a_mirrored_image_gets_the_same_answer() -> None:
    ensemble = MirroredEnsemble([member(1), member(2)]).eval()
    assert torch.allclose(ensemble(images()), ensemble(images().flip(-1)), atol=1e-5)


@torch.no_grad()
def test_members_trained_one_by_one_are_put_together() -> None:
    whole, parts = MirroredEnsemble([member(1), member(2)]).eval(), MirroredEnsemble([member(3), member(4)]).eval()
    parts.load_members([whole.member(number).state_dict() for number in (0, 1)])
    assert torch.allclose(whole(images()), parts(images()), atol=1e-6)
    assert torch.allclose(whole.member(1)(images()), member(2)(images()), atol=1e-5)


@torch.no_grad()
def test_a_network_trained_alone_becomes_a_member() -> None:
    ensemble = MirroredEnsemble([member(5)]).eval()
    ensemble.load_members([member_state(member(1).state_dict())])
    assert torch.allclose(ensemble.member(0)(images()), member(1)(images()), atol=1e-6)


@torch.no_grad()
def test_a_logit_is_lowered_in_the_weights_and_the_others_are_not() -> None:
    ensemble = MirroredEnsemble([member(1), member(2)]).eval()
    before = ensemble(images())
    ensemble.subtract(1, 0.75)
    assert torch.allclose(before - ensemble(images()), torch.tensor([0.0, 0.75]).expand(3, 2), atol=1e-5)


def test_one_grad_cam_speaks_for_the_whole_ensemble() -> None:
    """The map of the mirror image is the mirrored map, which a single member does not give."""
    ensemble = MirroredEnsemble([member(1), member(2)]).eval()
    picture = images()[:1]
    here, there = (
        grad_cam(ensemble, x, layer="features", output_index=1, shape=(64, 64)) for x in (picture, picture.flip(-1))
    )
    assert here.max() == 1.0
    assert torch.allclose(torch.from_numpy(here), torch.from_numpy(there[:, ::-1].copy()), atol=1e-4)
