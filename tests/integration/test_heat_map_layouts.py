"""`[results] heat_maps`: the site says how heat maps are drawn, and the picture says that its contrast was raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.analysis.written import Picture
from dicom_node.config.settings import Settings
from dicom_node.core.outputs.artifact_kinds import HeatMaps
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.offline import run
from dicom_node.sr_writer.pictures import frame
from dicom_node.sr_writer.pictures.pictures import pictures_of
from tests.support.results import analysis_examples as examples
from tests.support.validators.objects import assert_valid_dicom


def heat_map(heat_maps: HeatMaps, **changes: object) -> Picture:
    analysis = (
        examples.radiograph_analysis(examples.radiograph(**changes)) if changes else examples.radiograph_analysis()
    )
    drawn = pictures_of(analysis, examples.context(heat_maps=heat_maps))
    return next(one for one in drawn if one.key.startswith("heatmap"))


def test_panels_are_drawn_where_the_model_asks_for_an_overlay() -> None:
    overlay, panels = heat_map("overlay"), heat_map("panels")
    assert np.array_equal(overlay.rgb, heat_map("model").rgb)
    assert overlay.rgb.shape[1] < 1.2 * overlay.rgb.shape[0]
    assert panels.rgb.shape[1] > 1.8 * panels.rgb.shape[0]
    assert (overlay.key, overlay.description) == (panels.key, panels.description)


def test_clahe_changes_the_image_below_the_map_and_not_the_map() -> None:
    plain, raised = heat_map("panels"), heat_map("panels_clahe")
    third = plain.rgb.shape[1] * 9 // 32
    rows, inside = slice(plain.rgb.shape[0] // 8, plain.rgb.shape[0] // 2), third // 4
    panels = [
        [one.rgb[rows, n * third + inside : (n + 1) * third - inside].astype(int) for n in range(3)]
        for one in (plain, raised)
    ]
    changed = [float(np.abs(before - after).mean()) for before, after in zip(*panels, strict=True)]
    assert changed[0] > 5
    assert changed[1] == 0
    assert changed[2] > 5


@pytest.mark.parametrize("heat_maps", ["model", "overlay", "panels", "panels_clahe"])
def test_every_picture_says_that_nobody_has_verified_it_and_clahe_is_named(
    heat_maps: HeatMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = frame.Pen.text

    def noting(pen: frame.Pen, xy: tuple[float, float], text: str, *more: object) -> None:
        written.append(text)
        write(pen, xy, text, *more)  # type: ignore[arg-type]

    def noting_right(pen: frame.Pen, xy: tuple[float, float], text: str, *more: object) -> None:
        written.append(text)

    monkeypatch.setattr(frame.Pen, "text", noting)
    monkeypatch.setattr(frame.Pen, "text_right", noting_right)
    heat_map(heat_maps)
    assert any("NOT VERIFIED" in one for one in written)
    assert any("CLAHE" in one for one in written) == (heat_maps == "panels_clahe")


def test_key_slices_are_drawn_with_the_grays_of_the_window() -> None:
    """Values are compared by eye across slices: an equalised one would not compare."""
    analysis = examples.ct_analysis()
    plain, raised = (
        [one.rgb for one in pictures_of(analysis, examples.context(heat_maps=how)) if one.key.startswith("slice:")]
        for how in ("model", "panels_clahe")
    )
    assert plain
    assert all(np.array_equal(one, other) for one, other in zip(plain, raised, strict=True))


def test_the_setting_reaches_the_stored_picture_and_its_uid(tmp_path: Path) -> None:
    """One key for two pictures would give one UID to different pixels."""
    radiograph = chest_radiograph_phantom("panels", rows=256)
    (tmp_path / "images").mkdir()
    radiograph.save_as(tmp_path / "images" / "1.dcm", enforce_file_format=True)

    uids = []
    for how in ("model", "panels_clahe"):
        settings = Settings.model_validate({"results": {"heat_maps": how}})
        (study,) = run("cxr-pneumonia", [tmp_path / "images"], tmp_path / how, settings=settings).studies
        assert study.is_analysed, study
        pictures = [
            dcmread(tmp_path / how / study.folder / one.name) for one in study.artifacts if str(one.kind) == "SC"
        ]
        (heat,) = (one for one in pictures if "Influence map" in one.DerivationDescription)
        uids.append(heat.SOPInstanceUID)
        wide = heat.Columns > 1.8 * heat.Rows
        assert wide == (how == "panels_clahe")
        assert "NOT VERIFIED" in heat.ImageComments
        assert heat.SourceImageSequence[0].ReferencedSOPInstanceUID == radiograph.SOPInstanceUID
        assert heat.pixel_array.shape == (heat.Rows, heat.Columns, 3)
        heat.save_as(tmp_path / f"{how}.dcm", enforce_file_format=True)
        assert_valid_dicom(tmp_path / f"{how}.dcm")
    assert uids[0] != uids[1]
