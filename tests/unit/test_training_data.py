"""Reading labelled radiographs, and the split that keeps each patient in one set."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dicom_node.inference.training.data import Radiograph, Split, patient_of, read_radiographs, split_by_patient

NAMES = (
    "NORMAL__IM-0270-0001.jpeg",
    "NORMAL__NORMAL2-IM-0981-0001.jpeg",
    "PNEUMONIA__person415_bacteria_1838.jpeg",
    "PNEUMONIA__person415_virus_12.jpeg",
)


def folder_of_images(folder: Path) -> Path:
    for brightness, name in enumerate(NAMES):
        Image.new("RGB", (8, 6), (brightness * 50,) * 3).save(folder / name)
    return folder


def radiographs(images_of_patients: list[tuple[bool, int]]) -> list[Radiograph]:
    return [
        Radiograph(
            name=f"{patient}-{image}",
            patient=f"{'ill' if ill else 'well'}{patient}",
            has_pneumonia=ill,
            pixels=np.zeros((2, 2), dtype=np.uint8),
        )
        for patient, (ill, count) in enumerate(images_of_patients)
        for image in range(count)
    ]


def patients(images: tuple[Radiograph, ...]) -> set[str]:
    return {image.patient for image in images}


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("NORMAL__IM-0270-0001.jpeg", "IM-0270"),
        ("NORMAL__IM-0270-0001-0002.jpeg", "IM-0270"),
        ("NORMAL__NORMAL2-IM-0981-0001.jpeg", "IM-0981"),
        ("PNEUMONIA__person415_bacteria_1838.jpeg", "person415"),
        ("PNEUMONIA__person415_virus_12.jpeg", "person415"),
    ],
)
def test_the_file_name_tells_the_patient(name: str, patient: str) -> None:
    assert patient_of(name) == patient


def test_a_name_without_a_patient_is_refused() -> None:
    with pytest.raises(ValueError, match="does not say label and patient"):
        patient_of("PNEUMONIA__unknown.jpeg")


def test_a_folder_and_its_archive_read_alike(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    folder = folder_of_images(tmp_path / "images")
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(folder, "images")

    from_folder, from_archive = read_radiographs(folder), read_radiographs(tmp_path / "images.tar")

    assert [image.name for image in from_folder] == [image.name for image in from_archive] == sorted(NAMES)
    assert [image.has_pneumonia for image in from_folder] == [False, False, True, True]
    for one, other in zip(from_folder, from_archive, strict=True):
        assert one.pixels.shape == (6, 8)
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="point --data"):
        read_radiographs(tmp_path)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), min_size=1, max_size=60), st.integers(0, 2**32))
def test_no_patient_is_in_two_sets_and_no_image_is_lost(counts: list[tuple[bool, int]], seed: int) -> None:
    images = radiographs(counts)
    split = split_by_patient(images, seed=seed)
    sets = (split.training, split.validation, split.test)

    assert sorted(image.name for chosen in sets for image in chosen) == sorted(image.name for image in images)
    assert sum(len(patients(chosen)) for chosen in sets) == len({image.patient for image in images})


def test_each_set_has_its_share_of_both_labels() -> None:
    split = split_by_patient(radiographs([(True, 3)] * 200 + [(False, 1)] * 100), seed=1)

    def census(images: tuple[Radiograph, ...]) -> tuple[int, int]:
        ill = patients(tuple(image for image in images if image.has_pneumonia))
        return len(ill), len(patients(images) - ill)

    assert (census(split.training), census(split.validation), census(split.test)) == ((140, 70), (30, 15), (30, 15))


def test_the_seed_decides_the_split() -> None:
    images = radiographs([(True, 1)] * 50 + [(False, 1)] * 50)
    first, again, other = (split_by_patient(images, seed=seed) for seed in (1, 1, 2))
    assert names(first) == names(again) != names(other)


def test_the_order_of_reading_does_not_change_the_split() -> None:
    images = radiographs([(True, 1)] * 50 + [(False, 1)] * 50)
    assert names(split_by_patient(images, seed=1)) == names(split_by_patient(reversed(images), seed=1))


def names(split: Split) -> list[set[str]]:
    return [{image.name for image in chosen} for chosen in (split.training, split.validation, split.test)]
