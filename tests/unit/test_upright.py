"""Radiographs stored in any of eight ways: read upright, and what is marked on them lies where they are stored."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.images.radiographs.upright import Turn, stance_of
from dicom_node.inference.prediction import Box
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.pictures.pictures import pictures_of
from tests.support.models.model_folders import write_card
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import request_for

#: Where the bright spot lies on the upright image, (left, top, right, bottom): in a corner that no turn maps on itself.
SPOT = (8, 12, 20, 30)
ROWS, COLUMNS = 96, 72
WAYS = ("L\\F", "R\\F", "L\\H", "R\\H", "F\\L", "F\\R", "H\\L", "H\\R")
MODEL = """
import numpy as np
from dicom_node.inference.prediction import Box, Prediction

def spots(inputs, card, device):
    found = []
    for one in inputs:
        rows, columns = np.nonzero(one.values[0] > 0.95)
        box = Box(0, 0.9, (columns.min(), rows.min(), 0), (columns.max() + 1, rows.max() + 1, 1))
        upright = one.values.shape == (1, 96, 72) and box.low_xyz_px[:2] == (8, 12)
        found.append(Prediction(boxes=(box,), scores=np.array([0.1, 0.9 if upright else 0.1], np.float32)))
    return found

def corner(inputs, card, device):
    return [
        Prediction(scores=np.array([1 - score, score], np.float32))
        for score in (float(one.values[0, 12:30, 8:20].mean()) for one in inputs)
    ]
"""


def upright_radiograph() -> Dataset:
    image = chest_radiograph_phantom(rows=ROWS)
    pixels = np.full((ROWS, COLUMNS), 400, np.uint16)
    left, top, right, bottom = SPOT
    pixels[top:bottom, left:right] = 4095
    return with_pixels(image, pixels)


def with_pixels(image: Dataset, pixels: np.ndarray) -> Dataset:
    changed = copy.deepcopy(image)
    changed.Rows, changed.Columns = pixels.shape
    changed.PixelData = np.ascontiguousarray(pixels).tobytes()
    return changed


def stored(way: str) -> Dataset:
    """Store the upright image so that rows and columns run where `way` says, worked out corner by corner."""
    image = upright_radiograph()
    pixels = image.pixel_array
    row, column = way.split("\\")
    if row in "FH":
        pixels = pixels.T
    pixels = pixels[:, ::-1] if row in "RH" else pixels
    pixels = pixels[::-1] if column in "RH" else pixels
    turned = with_pixels(image, pixels)
    turned.PatientOrientation = [row, column]
    return turned


def bright_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(pixels >= pixels.max())
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def answer(image: Dataset, tmp_path: Path, task: str, function: str, more: str = "") -> Analysis:
    classes = (
        '\n[[finding]]\nkey = "spot"\nlabel = "Spot"\noutput_index = {}\n'
        'code = {{ value = "1", scheme = "99X", meaning = "Spot" }}\nsite = "lung"\n'
    )
    folder = write_card(
        tmp_path / "model",
        "python",
        task=task,
        top=f'entry_point = "turned_models:{function}"\ninput = "image"',
        more=more + classes.format(0 if task == "detection" else 1),
    )
    found = run_model(request_for([image], folder, tmp_path / "files"))
    assert isinstance(found, Analysis), found
    return found


@pytest.fixture(autouse=True)
def _models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "turned_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "turned_models", raising=False)


@pytest.mark.parametrize("way", WAYS)
def test_however_an_image_is_stored_a_model_is_shown_it_upright(way: str) -> None:
    turn = stance_of(stored(way)).turn
    pixels = stored(way).pixel_array

    assert np.array_equal(turn.upright(pixels), upright_radiograph().pixel_array)
    assert np.array_equal(turn.stored(turn.upright(pixels)), pixels)


@pytest.mark.parametrize("way", WAYS)
def test_a_region_of_the_report_lies_on_the_pixels_as_they_are_stored(way: str, tmp_path: Path) -> None:
    image = stored(way)

    found = answer(image, tmp_path, "detection", "spots")

    left, top, right, bottom = bright_box(image.pixel_array)
    (report,) = (one.dataset for one in write_objects(found, examples.context()) if one.kind == "SR")
    (points,) = graphics(report)
    assert (min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2])) == (left, top, right, bottom)


@pytest.mark.parametrize("way", WAYS)
def test_a_heat_map_lies_on_the_pixels_as_they_are_stored(way: str, tmp_path: Path) -> None:
    image = stored(way)

    found = answer(image, tmp_path, "classification", "corner", '\n[explain]\nmethod = "occlusion"\n')

    left, top, right, bottom = bright_box(image.pixel_array)
    (saliency,) = found.saliencies
    assert saliency.map.shape == image.pixel_array.shape
    row, column = np.unravel_index(int(saliency.map.argmax()), saliency.map.shape)
    assert top <= row < bottom
    assert left <= column < right
    picture = next(one for one in pictures_of(found, examples.context()) if one.key.startswith("heatmap:"))
    assert is_hottest_in(picture.rgb, (left + right) / 2 / image.Columns, (top + bottom) / 2 / image.Rows)


def is_hottest_in(rgb: np.ndarray, across: float, down: float) -> bool:
    """Tell whether the colours of the picture lie in the quarter that this place of the image is in."""
    area = rgb[: int(rgb.shape[0] * 0.8), : int(rgb.shape[1] * 0.8)].astype(int)
    rows, columns = np.nonzero(np.ptp(area, axis=2) > 80)
    return bool(
        (columns.mean() < area.shape[1] / 2) == (across < 0.5) and (rows.mean() < area.shape[0] / 2) == (down < 0.5)
    )


def graphics(report: Dataset) -> list[list[float]]:
    """Return the coordinates of every image region of a report."""
    return [[float(value) for value in item.value] for item in report.iterall() if item.keyword == "GraphicData"]


@pytest.mark.parametrize("way", WAYS)
def test_a_turned_image_is_answered_as_the_upright_one_and_told(way: str, tmp_path: Path) -> None:
    found = answer(stored(way), tmp_path, "classification", "spots")

    assert found.findings[0].probability == pytest.approx(0.9)
    told = [note for note in found.notes if "is stored" in note]
    assert len(told) == (way != "L\\F")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"PatientOrientation": None}, "does not say which way it is stored"),
        (
            {"PatientOrientation": None, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            "does not say which way it is stored",
        ),
        ({"PatientOrientation": ["L", "R"]}, "has a PatientOrientation that cannot be used"),
        ({"PatientOrientation": "L"}, "has a PatientOrientation that cannot be used"),
        ({"PatientOrientation": ["X", "Y"]}, "has a PatientOrientation that cannot be used"),
        (
            {"PatientOrientation": ["L", "F"], "ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]},
            "has a PatientOrientation that cannot be used",
        ),
        (
            {"PatientOrientation": None, "FieldOfViewRotation": "90"},
            "does not say which way it is stored (PatientOrientation), though the detector's picture was turned",
        ),
    ],
    ids=str,
)
def test_an_orientation_that_is_not_told_or_of_no_use_is_told(said: dict[str, Any], told: str) -> None:
    image = upright_radiograph()
    for keyword, value in said.items():
        setattr(image, keyword, value)

    stance = stance_of(image)

    assert stance.turn == Turn()
    assert told in stance.remark


@pytest.mark.parametrize(
    ("said", "turn"),
    [
        ({"PatientOrientation": ["LH", "FL"]}, Turn()),
        (
            {"PatientOrientation": ["R", "F"], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            Turn(columns_reversed=True),
        ),
        ({"PatientOrientation": None, "ImageOrientationPatient": [-1, 0, 0, 0, 0, -1]}, Turn(columns_reversed=True)),
        (
            {"PatientOrientation": None, "ImageOrientationPatient": [0, 0.1, -0.99, 1, 0, 0]},
            Turn(exchanged=True),
        ),
        ({"PatientOrientation": ["R", "F"], "FieldOfViewHorizontalFlip": "YES"}, Turn(columns_reversed=True)),
    ],
    ids=str,
)
def test_directions_come_from_letters_or_else_from_vectors(said: dict[str, Any], turn: Turn) -> None:
    image = upright_radiograph()
    for keyword, value in said.items():
        setattr(image, keyword, value)

    assert stance_of(image).turn == turn


def test_a_box_turns_with_its_image() -> None:
    box = Box(0, 0.5, (8, 12, 0), (20, 30, 1))

    turned = Turn(exchanged=True, rows_reversed=True).stored_box(box, (72, 96))

    assert turned.low_xyz_px == (96 - 30, 8, 0)
    assert turned.high_xyz_px == (96 - 12, 20, 1)
