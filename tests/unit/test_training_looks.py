"""Looks of radiographs are told by their rims, and whole looks are held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.looks import folds_by_look, looks_of, rim_features

SIDE_PX = 56
#: Four rooms: what they leave dark, and how bright they expose.
ROOMS = (("left", 40), ("right", 40), ("top", 120), ("none", 200))


def radiograph(room: int, patient: str, random: np.random.Generator, *, ill: bool = False) -> Radiograph:
    dark, grey = ROOMS[room]
    pixels = random.integers(grey, grey + 20, size=(SIDE_PX, SIDE_PX), dtype=np.uint8)
    pixels[14:42, 14:42] = random.integers(0, 255, size=(28, 28), dtype=np.uint8)
    edge = {"left": np.s_[:, :8], "right": np.s_[:, -8:], "top": np.s_[:8], "none": np.s_[:0]}[dark]
    pixels[edge] = 0
    return Radiograph(name=f"{patient}-{room}", patient=patient, has_pneumonia=ill, pixels=pixels)


def department(count: int, seed: int = 0) -> list[Radiograph]:
    random = np.random.default_rng(seed)
    return [radiograph(number % 4, f"P{number // 2}", random, ill=number % 3 == 0) for number in range(count)]


def test_what_lies_inside_the_rim_says_nothing_of_the_look() -> None:
    image: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, size=(SIDE_PX, SIDE_PX), dtype=np.uint8)
    other = image.copy()
    other[10:-10, 10:-10] = 0
    assert np.array_equal(rim_features(image), rim_features(other))
    other[0, 0] ^= 255
    assert not np.array_equal(rim_features(image), rim_features(other))


def test_rooms_are_told_apart_without_a_label() -> None:
    images = department(80)
    looks = looks_of(images, count=4, seed=1)
    rooms = np.arange(80) % 4
    assert all(len(set(looks[rooms == room])) == 1 for room in range(4))
    assert len(set(looks)) == 4
    assert np.array_equal(looks, looks_of(images, count=4, seed=1))


@settings(max_examples=20)
@given(st.integers(16, 60), st.integers(2, 4), st.integers(0, 9))
def test_each_image_is_held_out_once_from_a_network_that_saw_neither_its_look_nor_its_patient(
    count: int, folds: int, seed: int
) -> None:
    images = department(count, seed)
    made = folds_by_look(images, folds=folds, looks=4, seed=seed)
    look_of = dict(zip((one.name for one in images), looks_of(images, count=4, seed=seed), strict=True))
    assert sorted(one.name for fold in made for one in fold.held_out) == sorted(one.name for one in images)
    for fold in made:
        assert not {one.patient for one in fold.training} & {one.patient for one in fold.held_out}
        assert not {look_of[one.name] for one in fold.training} & {look_of[one.name] for one in fold.held_out}


def test_too_few_images_or_looks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 radiographs cannot have 4 looks"):
        looks_of(department(3), count=4, seed=0)
    with pytest.raises(ValueError, match="2 looks cannot be shared out over 3 folds"):
        folds_by_look(department(20), folds=3, looks=2, seed=0)
