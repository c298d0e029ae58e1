"""Thirds of a lung, the score by regions, the adjusted percentile: on lungs whose numbers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.inference.lungs.adjusted import predicted_capacity_ml
from dicom_node.inference.lungs.regions import LungRegions, joined, regions_of


def column(*hu: int, widths: tuple[int, ...] = ()) -> LungRegions:
    """Regions of a lung whose slices, feet first, hold one value each, over so many voxels."""
    widths = widths or (4,) * len(hu)
    values = np.full((len(hu), 1, max(widths)), 40, np.int16)
    mask = np.zeros(values.shape, bool)
    for z, (value, width) in enumerate(zip(hu, widths, strict=True)):
        values[z, 0, :width], mask[z, 0, :width] = value, True
    found = regions_of(values, mask, slice_mm=10.0)
    assert found is not None
    return found


def test_thirds_run_from_head_to_feet() -> None:
    assert [set(third.tolist()) for third in column(-700, -700, -800, -800, -960, -960).thirds_hu] == [
        {-960},
        {-800},
        {-700},
    ]


def test_a_third_is_a_third_of_the_volume_and_not_of_the_height() -> None:
    # A broad base: the three slices above it hold as much as it alone.
    regions = column(-700, -800, -960, -950, -940, widths=(12, 12, 4, 4, 4))

    assert [third.size for third in regions.thirds_hu] == [12, 12, 12]
    assert set(regions.thirds_hu[0].tolist()) == {-960, -950, -940}


def test_the_share_of_each_third_is_told() -> None:
    assert column(-700, -700, -700, -960, -960, -960).shares(-950) == (100.0, 50.0, 0.0)


@pytest.mark.parametrize(
    ("percent", "points"), [(0, 0), (4, 0), (5, 1), (24, 1), (25, 2), (49, 2), (50, 3), (74, 3), (75, 4), (100, 4)]
)
def test_a_level_has_none_to_four_points(percent: int, points: int) -> None:
    values = np.full((3, 1, 100), -800, np.int16)
    values[1, 0, :percent] = -970

    found = regions_of(values, np.ones(values.shape, bool), slice_mm=10.0)

    assert found is not None
    assert found.points(-950) == points


def test_a_level_is_the_middle_of_its_third() -> None:
    regions = column(-700, -960, -700, -700, -970, -700, -700, -980, -700)

    assert [set(level.tolist()) for level in regions.levels_hu] == [{-980}, {-970}, {-960}]


def test_the_thirds_of_two_lungs_are_those_of_both() -> None:
    both = joined((column(-700, -800, -900), column(-701, -801, -901)))

    assert [sorted(set(third.tolist())) for third in both] == [[-901, -900], [-801, -800], [-701, -700]]


def test_a_lung_of_two_slices_has_no_thirds() -> None:
    assert regions_of(np.full((2, 2, 2), -800, np.int16), np.ones((2, 2, 2), bool), slice_mm=5.0) is None


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in ({"PatientSex": "F", "PatientAge": "055Y", "PatientSize": 1.65} | values).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def test_capacity_is_predicted_from_sex_and_height() -> None:
    assert predicted_capacity_ml(header()) == pytest.approx(5100)
    assert predicted_capacity_ml(header(PatientSex="M", PatientSize=1.80)) == pytest.approx(7302)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"PatientSex": "O"}, "Patient's Sex is not told"),
        ({"PatientSex": None}, "Patient's Sex is not told"),
        ({"PatientAge": "080Y"}, "18 to 70 years"),
        ({"PatientAge": None}, "18 to 70 years"),
        ({"PatientSize": None}, "Patient's Size is not told"),
        ({"PatientSize": 165.0}, "Patient's Size is not told"),
        ({"PatientSize": 0.0}, "Patient's Size is not told"),
    ],
)
def test_no_capacity_is_predicted_of_whom_it_was_not_measured(changes: dict[str, object], why: str) -> None:
    said = predicted_capacity_ml(header(**changes))

    assert isinstance(said, str)
    assert why in said
