"""Whether a radiograph was taken like those a model knows, from its rim, whatever its window, size and lungs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.familiarity import KnownLooks, familiarity_remark, read_looks, rim_of
from dicom_node.inference.training.looks import known_looks

ERRORS = (0.02, 0.11, 0.15)


def image(kind: int, seed: int, *, side: int = 96) -> np.ndarray:
    """Return an image with one of three kinds of rim: bright above, bright at the sides, dark all around."""
    rng = np.random.default_rng(seed)
    made = 0.5 + 0.02 * rng.standard_normal((side, side))
    edge = side // 7
    if kind == 0:
        made[:edge] += 0.3 + 0.05 * rng.standard_normal()
    elif kind == 1:
        made[:, :edge] += 0.3 + 0.05 * rng.standard_normal()
        made[:, -edge:] += 0.3 + 0.05 * rng.standard_normal()
    else:
        made[-edge:] -= 0.3 + 0.05 * rng.standard_normal()
    return np.clip(made, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def known() -> KnownLooks:
    rims = np.stack([rim_of(image(number % 3, number)) for number in range(240)])
    return known_looks(rims, count=3, seed=1)


def distance(known: KnownLooks, shown: np.ndarray) -> float:
    return float(known.distances(rim_of(shown)[None])[0])


def test_new_images_of_known_looks_are_within_and_of_another_look_beyond(known: KnownLooks) -> None:
    familiar = [distance(known, image(kind, 1000 + kind)) for kind in range(3)]
    framed = image(0, 1)
    framed[:8], framed[-8:], framed[:, :8], framed[:, -8:] = 0, 0, 0, 0

    assert max(familiar) < 1
    assert distance(known, framed) > 1.3
    assert distance(known, 1 - image(1, 5)) > 1.3


def test_window_and_scale_of_the_values_change_nothing() -> None:
    shown = image(1, 3)

    assert np.allclose(rim_of(shown), rim_of(0.2 + 0.5 * shown), atol=1e-4)


def test_more_pixels_change_little(known: KnownLooks) -> None:
    small = image(1, 3, side=256)
    large = np.repeat(np.repeat(small, 5, axis=0), 5, axis=1)

    assert distance(known, large) == pytest.approx(distance(known, small), abs=0.15)


def test_what_is_written_is_read_as_it_was(known: KnownLooks, tmp_path: Path) -> None:
    known.save(tmp_path / "looks.safetensors")

    again = read_looks(tmp_path / "looks.safetensors")

    assert distance(again, image(2, 9)) == distance(known, image(2, 9))


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00" * 64])
def test_looks_that_cannot_be_read_cost_the_model_and_say_so(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "looks.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModelUnavailable, match=r"looks\.safetensors.*Restore the file"):
        read_looks(path)


def test_uncertainty_is_told_and_grows_with_the_distance() -> None:
    told = [familiarity_remark(7, distance, ERRORS) for distance in (0.4, 1.0, 1.29, 1.3, 9.0)]

    assert ["not calibrated here" in one for one in told] == [False, True, True, True, True]
    assert [one.split("off by ")[1].split(" ")[0] for one in told] == ["2", "11", "11", "15", "15"]
    assert all(one.startswith("Image 7: ") for one in told)


def test_equal_rims_are_no_looks() -> None:
    with pytest.raises(ValueError, match="2 radiographs cannot have 3 looks"):
        known_looks(np.zeros((2, 64)), count=3, seed=1)
