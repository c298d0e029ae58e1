"""Explanations of networks: they point at what decides, and they change when the weights do (Adebayo et al. 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.core.errors import ModelUnavailable  # noqa: E402
from dicom_node.demo.phantoms import chest_radiograph_phantom  # noqa: E402
from dicom_node.inference.explain.methods import (  # noqa: E402
    grad_cam,
    grad_cam_plus_plus,
    occlusion,
)
from dicom_node.inference.training import bundle_folder  # noqa: E402

CAMS = pytest.mark.parametrize("explain", [grad_cam, grad_cam_plus_plus])


class TwoSquares(torch.nn.Module):
    """Output 0 sums what is bright, output 1 what is dark; weights made by hand, so the right map is known."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.relu(self.features(image), inplace=True).mean((2, 3))


def two_squares() -> torch.Tensor:
    """An image (1, 1, 32, 32): 1 in the upper left square, -1 in the lower right one, 0 elsewhere."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., 4:12, 4:12] = 1.0
    image[..., 20:28, 20:28] = -1.0
    return image


@pytest.fixture(scope="module")
def shipped() -> torch.nn.Module:
    return bundle_folder.trained_network(bundle_folder.SHIPPED)


@pytest.fixture(scope="module")
def prepared() -> torch.Tensor:
    pixels = chest_radiograph_phantom().pixel_array.astype(np.float32)
    preprocessing = bundle_folder.definitions(bundle_folder.SHIPPED).get_parsed_content("preprocessing")
    image = torch.from_numpy(pixels / pixels.max())[None]
    return torch.as_tensor(preprocessing({"image": image})["image"])[None]


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The network with its last block and its classifier drawn anew."""
    torch.manual_seed(seed)
    other = bundle_folder.definitions(bundle_folder.SHIPPED).get_parsed_content("network_def")
    fresh = other.state_dict()
    other.load_state_dict(
        {k: fresh[k] if k.startswith(("features.bodies.0.6", "heads")) else v for k, v in network.state_dict().items()}
    )
    return other.eval()


def untrained(seed: int) -> torch.nn.Module:
    """The network as it is before training."""
    torch.manual_seed(seed)
    return bundle_folder.definitions(bundle_folder.SHIPPED).get_parsed_content("network_def").eval()


@CAMS
@pytest.mark.parametrize(("output_index", "square"), [(0, slice(8, 24)), (1, slice(40, 56))])
def test_a_cam_points_at_the_square_that_decides(explain: Any, output_index: int, square: slice) -> None:
    heat = explain(TwoSquares().eval(), two_squares(), layer="features", output_index=output_index, shape=(64, 64))

    assert heat.shape == (64, 64)
    assert float(heat.max()) == 1.0
    assert heat[square, square].sum() / heat.sum() > 0.9


@CAMS
def test_a_cam_takes_volumes(explain: Any) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()
    ).eval()
    heat = explain(network, torch.rand(1, 1, 8, 8, 8), layer="0", output_index=2, shape=(10, 20, 30))

    assert heat.shape == (10, 20, 30)
    assert np.isfinite(heat).all()


@CAMS
def test_a_cam_leaves_the_network_as_it_was(explain: Any, shipped: torch.nn.Module, prepared: torch.Tensor) -> None:
    with torch.no_grad():
        before = shipped(prepared)
        explain(shipped, prepared, layer="features", output_index=1, shape=(64, 64))
        assert torch.equal(before, shipped(prepared))
    assert not any(module._forward_hooks for module in shipped.modules())


@CAMS
def test_a_great_logit_does_not_break_a_cam(explain: Any) -> None:
    heat = explain(TwoSquares().eval(), two_squares() * 1e4, layer="features", output_index=0, shape=(32, 32))
    assert np.isfinite(heat).all()
    assert heat[4:12, 4:12].min() == 1.0


@CAMS
@pytest.mark.parametrize(("layer", "output_index"), [("layer9", 0), ("features", 2), ("heads.0.3", 0)])
def test_a_wrong_layer_or_output_is_named(
    explain: Any, layer: str, output_index: int, shipped: torch.nn.Module, prepared: torch.Tensor
) -> None:
    with pytest.raises(ModelUnavailable, match=r"model card"):
        explain(shipped, prepared, layer=layer, output_index=output_index, shape=(64, 64))


@pytest.mark.parametrize(("explain", "alike_at_most"), [(grad_cam, 0.4), (grad_cam_plus_plus, 0.75)])
def test_randomised_weights_change_the_cam(
    explain: Any, alike_at_most: float, shipped: torch.nn.Module, prepared: torch.Tensor
) -> None:
    """Grad-CAM++ keeps more of the image than Grad-CAM: its weights have one sign. So the mean of the maps of several
    untrained members shows the image again, and one member is asked."""

    def map_of(network: Any) -> NDArray[np.float32]:
        asked = network if explain is grad_cam else network.alone(0)
        return explain(asked, prepared, layer="features", output_index=1, shape=(128, 128))

    alike = [_rank_correlation(map_of(shipped), map_of(untrained(seed))) for seed in range(8)]
    assert np.median(alike) < alike_at_most


def test_occlusion_points_at_the_square_that_decides() -> None:
    network = TwoSquares().eval()
    for output_index, square in ((0, slice(2, 14)), (1, slice(18, 30))):
        heat = occlusion(_score_of(network), two_squares()[0].numpy(), output_index=output_index)
        assert heat.shape == (32, 32)
        assert heat[square, square].sum() / heat.sum() > 0.8


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # scripts stay in use long after torch left them
def test_occlusion_serves_a_scripted_network_and_agrees_with_the_module() -> None:
    network = TwoSquares().eval()
    scripted = torch.jit.trace(network, two_squares())
    image = two_squares()[0].numpy()
    assert np.allclose(occlusion(_score_of(scripted), image), occlusion(_score_of(network), image))


def test_randomised_weights_change_the_occlusion_map(shipped: torch.nn.Module, prepared: torch.Tensor) -> None:
    image = prepared[0].numpy()
    maps = [occlusion(_score_of(network), image, output_index=1) for network in (shipped, randomised(shipped, 1))]
    assert _rank_correlation(*maps) < 0.8


def _score_of(network: Any) -> Any:
    def score(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return network(torch.from_numpy(batch)).numpy()

    return score


def _rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's; a map that is the same everywhere says nothing about another one."""
    if not (first.any() and second.any()):
        return 0.0
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)
