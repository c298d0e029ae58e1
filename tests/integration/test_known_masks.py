"""Golden studies with known masks and places: how far a model is from them is told, and too far keeps it from live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.__main__ import main
from dicom_node.analysis.answer import Analysis
from dicom_node.config.running import InferenceSettings
from dicom_node.core.errors import SettingsError
from dicom_node.governance.golden import GoldenOutcome, load_cases, run_golden
from dicom_node.governance.known_masks import keep, of_segmentation, overlaps, read
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import BALL_CENTRE_MM, OBLIQUE, series_of

HEAD = 'name = "{name}"\n[study]\nfolder = "study"\n[expect]\nstate = "DONE"\n'
SEGMENT = '[[expect.segment]]\nkey = "{key}"\nfile = "{file}"\nnumber = {number}\ndice = {dice}\n'
BOX = '[[expect.box]]\nkey = "nodule"\ncenter_mm = {center}\nwithin_mm = 3\n'


def with_study(model: Path) -> tuple[Path, list[Dataset], Analysis]:
    """Put a study into the golden folder of a model; also return its answer with the true masks."""
    datasets, truth = series_of(OBLIQUE)
    study = model / "golden" / "study"
    answer = run_model(request_for(datasets, model, study))
    assert isinstance(answer, Analysis)
    kinds = np.stack([truth[str(one.SOPInstanceUID)] for one in answer.sources])
    segments = tuple(replace(one, mask=kinds == value) for value, one in enumerate(answer.segments, start=1))
    return model / "golden", datasets, replace(answer, segments=segments)


def write_masks(answer: Analysis, model: Path, datasets: list[Dataset], path: Path, work: Path) -> None:
    context = request_for(datasets, model, work).context
    (segmentation,) = (one.dataset for one in write_objects(answer, context) if one.kind.value == "SEG")
    path.write_bytes(to_part10(segmentation))


def outcomes_of(model: Path, pictures: Path | None = None) -> dict[str, GoldenOutcome]:
    with ModelProbe(load_card(model), InferenceSettings(device="cpu")) as asker:
        return {one.file: one for one in run_golden(load_card(model), {}, asker, pictures)}


def test_how_far_a_mask_is_from_a_known_one_is_told_and_decides(tmp_path: Path) -> None:
    model = zoo_bundles.segmenter(tmp_path / "shapes", before=[zoo_bundles.RAS])
    golden, datasets, true = with_study(model)
    shifted = replace(true, segments=tuple(replace(one, mask=np.roll(one.mask, 2, axis=2)) for one in true.segments))
    for name, answer in (("true", true), ("shifted", shifted)):
        write_masks(answer, model, datasets, golden / f"{name}.dcm", tmp_path / name)
        expected = "".join(
            SEGMENT.format(key=key, file=f"{name}.dcm", number=number, dice=0.99)
            for number, key in enumerate(("block", "ball"), start=1)
        )
        (golden / f"{name}.toml").write_text(HEAD.format(name=name) + expected)

    found = outcomes_of(model, tmp_path / "pictures")

    assert found["true.toml"].differences == []
    assert list(found["true.toml"].told)[:2] == [f"{key}: Dice 1.0000 with its known mask" for key in ("block", "ball")]
    told = " ".join(found["true.toml"].told)
    assert "channel 0 of 3 is background" in told
    assert "44x40x24 voxels of 1.8x2x2.5 mm, axes to right, front, head, with values of 0 to 1" in told
    assert len(found["shifted.toml"].differences) == 2
    assert all("overlaps its known mask by a Dice of 0." in one for one in found["shifted.toml"].differences)
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert {name.partition("-")[0] for name in drawn} == {"true", "shifted"}
    with Image.open(tmp_path / "pictures" / drawn[0]) as picture:
        assert picture.size[0] > 300
    masks = read(keep({"block": of_segmentation(golden / "shifted.dcm", 1)}, tmp_path / "kept.npz"))
    assert overlaps(shifted, masks) == {"block": 1.0}
    assert overlaps(replace(true, segments=()), masks) == {"block": 0.0}


def test_how_far_a_box_is_from_its_known_place_is_told_and_decides(tmp_path: Path) -> None:
    model = zoo_bundles.detector(tmp_path / "boxes")
    golden, _, _ = with_study(model)
    elsewhere = [BALL_CENTRE_MM[0] + 20, *BALL_CENTRE_MM[1:]]
    (golden / "here.toml").write_text(HEAD.format(name="here") + BOX.format(center=list(BALL_CENTRE_MM)))
    (golden / "there.toml").write_text(HEAD.format(name="there") + BOX.format(center=elsewhere))

    found = outcomes_of(model)

    assert found["here.toml"].differences == []
    assert any("mm from where it is known to be" in one for one in found["here.toml"].told)
    (difference,) = found["there.toml"].differences
    assert "expected 3 mm at most" in difference


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SEGMENT.format(key="liver", file="a.dcm", number=1, dice=0.9), "the card does not name"),
        (SEGMENT.format(key="ball", file="a.dcm", number=1, dice=0.9), "file does not exist"),
        (SEGMENT.format(key="ball", file="a.dcm", number=1, dice=1.5), "dice must be the smallest"),
        ('[[expect.segment]]\nkey = "ball"\ndice = 0.9\n', "one of them"),
        (BOX.format(center=[1, 2]), "center_mm must hold 3 numbers"),
        (BOX.format(center=[1, 2, 3]).replace("3\n", "0\n"), "within_mm must be"),
    ],
)
def test_a_golden_study_that_cannot_hold_is_refused_when_it_is_read(tmp_path: Path, text: str, complaint: str) -> None:
    model = zoo_bundles.segmenter(tmp_path / "shapes")
    (model / "golden" / "study").mkdir(parents=True)
    (model / "golden" / "case.toml").write_text(HEAD.format(name="case") + text)

    with pytest.raises(SettingsError, match=complaint):
        load_cases(load_card(model))


def test_what_is_no_segmentation_is_told_as_such(tmp_path: Path) -> None:
    datasets, _ = series_of(OBLIQUE)
    datasets[0].save_as(tmp_path / "image.dcm", enforce_file_format=True)

    with pytest.raises(SettingsError, match="no binary segmentation"):
        of_segmentation(tmp_path / "image.dcm", 1)
    with pytest.raises(SettingsError, match="no binary segmentation"):
        of_segmentation(tmp_path / "missing.dcm", 1)


def test_trying_a_model_shows_what_it_understood_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = zoo_bundles.SEGMENTS.replace("plausible_ml = { max = 1000 }", "")
    model = zoo_bundles.segmenter(tmp_path / "shapes", before=[zoo_bundles.RAS], card=card)
    odd = zoo_bundles.segmenter(tmp_path / "odd", card=zoo_bundles.SEGMENTS + "[parameters]\nthreshold = 0.3\n")

    status = main(["models", "try", str(model), str(odd), "--json", "--pictures", str(tmp_path / "pictures")])

    told = capsys.readouterr().out
    assert status == 1
    assert "Block: " in told
    assert "channels exclude each other (known from the argmax of its postprocessing), channel 0 of 3 is" in told
    assert "[parameters] threshold has no effect" in told
    assert list((tmp_path / "pictures" / "shapes").glob("first-run-*.png"))
