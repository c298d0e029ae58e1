"""What several unit tests share: the chest CT phantom on a coarse grid, made once."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.demo.phantoms import PhantomTruth
from tests.support.studies.data_factories import small_chest_ct


@pytest.fixture(scope="session")
def phantom_study() -> tuple[list[Dataset], PhantomTruth]:
    return small_chest_ct()


@pytest.fixture(scope="session")
def phantom(phantom_study: tuple[list[Dataset], PhantomTruth]) -> list[Dataset]:
    """Slices from feet to head; tests change copies only."""
    return phantom_study[0]


@pytest.fixture(scope="session")
def phantom_truth(phantom_study: tuple[list[Dataset], PhantomTruth]) -> PhantomTruth:
    return phantom_study[1]
