"""What the shipped radiograph model says of images that were taken otherwise than those it knows, on real ones."""

from __future__ import annotations

import copy
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.inference.runner import run_model
from tests.support import needs
from tests.support.studies.data_factories import request_for

MODEL = "cxr-pneumonia"
KNOWN, UNKNOWN = "taken like known images", "unlike known images"


@pytest.fixture(scope="module")
def chest() -> Dataset:
    return chest_radiograph_phantom(rows=224)


def shown(chest: Dataset, pixels: np.ndarray) -> Dataset:
    image = copy.deepcopy(chest)
    image.Rows, image.Columns = pixels.shape
    image.PixelData = np.ascontiguousarray(pixels.astype(np.uint16) * 16).tobytes()
    return image


def remarks(image: Dataset, folder: Path) -> list[str]:
    """Return what the node notes of how an image was taken."""
    answer = run_model(request_for([image], SHIPPED_MODELS / MODEL, folder))
    assert isinstance(answer, Analysis)
    told = [note for note in answer.notes if KNOWN in note or UNKNOWN in note]
    assert len(told) == 1
    return told


def children(count: int) -> list[np.ndarray]:
    archive = needs.real_data("cxr_pneumonia_train_5216.tar")
    with tarfile.open(archive) as images:
        chosen = [member for member in images if member.name.endswith((".jpeg", ".jpg", ".png"))][:: 5216 // count]
        streams = [images.extractfile(member) for member in chosen[:count]]
        return [np.asarray(Image.open(io.BytesIO(one.read())).convert("L")) for one in streams if one is not None]


def framed(pixels: np.ndarray) -> np.ndarray:
    """Return an image of 8 bits with a white frame over 8 % of each side."""
    frame = np.full_like(pixels, 255)
    rows, columns = (slice(round(0.08 * length), -round(0.08 * length)) for length in pixels.shape)
    frame[rows, columns] = pixels[rows, columns]
    return frame


def test_a_framed_picture_is_told_as_unlike_every_known_image_with_the_error_of_its_band(
    chest: Dataset, tmp_path: Path
) -> None:
    told = remarks(shown(chest, framed((chest.pixel_array // 16).astype(np.uint8))), tmp_path)[0]

    looks = load_card(SHIPPED_MODELS / MODEL).looks
    assert looks is not None
    assert UNKNOWN in told
    assert f"off by {100 * looks.calibration_errors[1]:.0f} of 100" in told


def test_children_are_known_and_the_same_in_a_frame_are_not(chest: Dataset, tmp_path: Path) -> None:
    known, unknown = [], []
    for number, pixels in enumerate(children(12)):
        known.append(KNOWN in remarks(shown(chest, pixels), tmp_path / f"{number}")[0])
        unknown.append(UNKNOWN in remarks(shown(chest, framed(pixels)), tmp_path / f"framed-{number}")[0])

    assert sum(known) >= 11
    assert all(unknown)


def test_the_errors_of_the_card_grow_with_the_distance() -> None:
    looks = load_card(SHIPPED_MODELS / MODEL).looks

    assert looks is not None
    assert list(looks.calibration_errors) == sorted(looks.calibration_errors)
    assert looks.calibration_errors[0] < 0.05 < looks.calibration_errors[1]
