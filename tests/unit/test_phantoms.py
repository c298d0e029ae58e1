"""The phantoms are what they claim: deterministic, named PHANTOM, sides as in a patient."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.demo.phantoms import PhantomTruth, chest_radiograph_phantom
from dicom_node.inference.images.pixels import display_values


def test_every_phantom_says_so_where_people_look(phantom: list[Dataset]) -> None:
    for dataset in (phantom[0], chest_radiograph_phantom()):
        assert str(dataset.PatientName).startswith("PHANTOM^")
        assert dataset.PatientID.startswith("PHANTOM-")
        assert dataset.StudyDescription.startswith("PHANTOM")


def test_the_left_lung_lies_on_the_patients_left_and_is_the_smaller(phantom_truth: PhantomTruth) -> None:
    left, right = phantom_truth.left, phantom_truth.right

    assert left.mask_zyx.nonzero()[2].mean() > right.mask_zyx.nonzero()[2].mean()
    assert left.volume_ml < right.volume_ml
    assert left.laa950_percent < right.laa950_percent


def test_the_radiograph_shows_dark_lungs_beside_a_bright_spine() -> None:
    shown = display_values(chest_radiograph_phantom(rows=128), voi=True)

    middle = slice(48, 64)
    assert shown[middle, 30:36].mean() + 0.3 < shown[middle, 62:66].mean()
