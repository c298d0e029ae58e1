"""Where heat maps lie is told by lungs that are found without labels: drawn chests have lungs that are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dicom_node.inference.training import bundle_folder
from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.lung_fields import LungAtlas, LungFields, agreement, plain_lung_fields
from dicom_node.inference.training.saliency import chosen, main, shares, table

Bools = NDArray[np.bool_]
Gray = NDArray[np.uint8]
ROWS_PX, COLUMNS_PX = 224, 200
Y, X = np.meshgrid(np.arange(ROWS_PX), np.arange(COLUMNS_PX), indexing="ij")


def ellipse(row: float, column: float, half_rows: float, half_columns: float) -> Bools:
    inside: Bools = ((Y - row) / half_rows) ** 2 + ((X - column) / half_columns) ** 2 <= 1
    return inside


def chest(random: np.random.Generator, *, white_base: bool = False) -> tuple[Gray, Bools]:
    """Return a drawn chest, and where its lungs are. With a white base the lower third of the right lung is dense."""
    down, across, size = random.integers(-8, 9), random.integers(-6, 7), random.uniform(0.9, 1.1)
    middle = COLUMNS_PX / 2 + across
    right, left = (ellipse(105 + down, middle + side, 62 * size, 28 * size) for side in (-44 * size, 44 * size))
    image = np.full((ROWS_PX, COLUMNS_PX), 5.0)
    image[ellipse(125 + down, middle, 130, 92)] = 150
    image[right | left] = 70
    if white_base:
        image[right & (125 + down < Y)] = 150
    for rib in range(20, 220, 18):
        image[(np.abs(Y - rib) < 3) & (image > 40)] += 25
    smooth = ndimage.gaussian_filter(image, 2) + random.normal(0, 4, image.shape)
    return np.clip(smooth, 0, 255).astype(np.uint8), right | left


def dice(found: Bools, true: Bools) -> float:
    shown = ndimage.zoom(true.astype(float), np.divide(found.shape, true.shape), order=1) >= 0.5
    return float(2 * (found & shown).sum() / (found.sum() + shown.sum()))


@pytest.fixture(scope="module")
def atlas() -> LungAtlas:
    random = np.random.default_rng(1)
    return LungAtlas([chest(random)[0] for _ in range(16)])


def test_lungs_that_show_plainly_are_found() -> None:
    image, lungs = chest(np.random.default_rng(5))
    found = plain_lung_fields(image)
    assert found is not None
    assert dice(found.lungs, lungs) > 0.85
    assert not (found.lungs & found.between).any()
    assert found.between[64, 64], "the heart lies between"


def test_lungs_that_disease_has_whitened_are_found_by_chests_that_look_alike(atlas: LungAtlas) -> None:
    image, lungs = chest(np.random.default_rng(9), white_base=True)
    plain = plain_lung_fields(image)
    fields = atlas.fields(image)
    assert dice(fields.lungs, lungs) > 0.85
    assert agreement(fields, fields) == 1.0
    assert plain is None or dice(plain.lungs, lungs) < dice(fields.lungs, lungs)


def test_an_image_without_lungs_shows_none_plainly_and_too_few_make_no_atlas() -> None:
    noise = np.random.default_rng(2).integers(90, 110, size=(200, 200), dtype=np.uint8)
    assert plain_lung_fields(noise) is None
    assert plain_lung_fields(np.full((64, 64), 117, np.uint8)) is None
    with pytest.raises(ValueError, match="0 of 3 chests show their lungs plainly"):
        LungAtlas([noise] * 3)


def test_shares_of_a_map_are_those_of_where_it_was_put() -> None:
    lungs, between = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    lungs[10:50, 5:25] = lungs[10:50, 40:60] = True
    between[10:50, 25:40] = True
    heat = np.zeros((64, 64), np.float32)
    heat[20, 10], heat[20, 30], heat[60, 60] = 1.0, 0.5, 0.5

    found = shares(heat, LungFields(lungs, between))

    assert (found.in_lungs, found.between_lungs, found.elsewhere) == pytest.approx((0.5, 0.25, 0.25))
    assert (found.peak_in_lungs, found.peak_between_lungs) == (1.0, 0.0)
    assert found.lungs_of_image == pytest.approx(1600 / 4096)


def radiograph(patient: str, number: int, *, ill: bool) -> Radiograph:
    return Radiograph(name=f"{patient}-{number}", patient=patient, has_pneumonia=ill, pixels=np.zeros((8, 8), np.uint8))


def test_one_image_of_each_patient_is_asked_about_and_none_of_them_is_in_the_atlas() -> None:
    images = [radiograph(f"P{patient}", number, ill=patient % 3 > 0) for patient in range(30) for number in range(3)]
    asked, others = chosen(images, 12, seed=4)
    assert len(asked) == len({one.patient for one in asked}) == 12
    assert all(one.has_pneumonia for one in asked)
    assert not {one.patient for one in asked} & {one.patient for one in others}
    assert any(not one.has_pneumonia for one in others)
    again = [one.name for one in chosen(images, 12, seed=4)[0]]
    assert again == [one.name for one in asked]
    assert [one.name for one in chosen(images, 12, seed=5)[0]] != again


def test_the_table_says_on_how_many_images_it_stands() -> None:
    one = {"value": 0.413, "low": 0.39, "high": 0.43}
    names = ("in_lungs", "between_lungs", "elsewhere", "peak_in_lungs", "peak_between_lungs", "lungs_of_image")
    masks = {"images": 70, "dice_median": 0.871, "dice_5th_percentile": 0.77}
    told = table({"asked": 400, "present": 390, "shares": dict.fromkeys(names, one), "masks": masks})
    assert "390 images called present, of 400 with pneumonia" in told
    assert told.count("| 41 % | 39 %–43 % |") == len(names)
    assert "On the 70 that show their lungs plainly" in told
    assert "Dice of 0.87 (median; 5th percentile 0.77)" in told


def bundle_that_calls_from(threshold: str, folder: Path) -> Path:
    """Return a copy of the shipped bundle with another threshold."""
    shutil.copytree(bundle_folder.SHIPPED, folder)
    card = folder / "model_card.toml"
    text = card.read_text(encoding="utf-8")
    shipped = next(line for line in text.splitlines() if line.startswith("threshold = "))
    card.write_text(text.replace(shipped, f"threshold = {threshold}"), encoding="utf-8")
    return folder


def test_the_script_writes_its_figures_into_the_readme_of_a_bundle(tmp_path: Path) -> None:
    random, data = np.random.default_rng(3), tmp_path / "data"
    data.mkdir()
    for number in range(24):
        name = f"PNEUMONIA__person{number}_virus_1.png" if number % 2 else f"NORMAL__IM-{number:04}-0001.png"
        Image.fromarray(chest(random)[0]).save(data / name)
    asked = ["--data", str(data), "--patients", "5"]

    bundle = bundle_that_calls_from("1e-9", tmp_path / "any")
    main([*asked, "--bundle", str(bundle), "--write"])
    assert "| 5 images called present, of 5 with pneumonia |" in (bundle / "README.md").read_text(encoding="utf-8")

    with pytest.raises(ValueError, match="None of the 5 images is called present"):
        main([*asked, "--bundle", str(bundle_that_calls_from("1.0", tmp_path / "none"))])
