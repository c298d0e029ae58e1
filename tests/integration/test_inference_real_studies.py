"""Real studies of every odd kind through the models: an answer or a coded refusal, never a crash."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.misc import is_dicom

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import SourceFile
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.support.needs import real_data
from tests.support.studies.data_factories import request_for_files, toy_bundle

LUNG_DENSITY = SHIPPED_MODELS / "ct-lung-density"

#: pydicom tells about values real scanners wrote against the rules; here they are the point.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def _source(path: Path) -> SourceFile:
    if not is_dicom(path):
        return SourceFile(path=path, sop_instance_uid="0", series_instance_uid="0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = dcmread(path, stop_before_pixels=True)
        uids = [str(header.get(keyword)) for keyword in ("SOPInstanceUID", "SeriesInstanceUID")]
    return SourceFile(path=path, sop_instance_uid=uids[0], series_instance_uid=uids[1])


def _run(paths: list[Path], model: Path, folder: Path) -> Analysis | NotAnalysed:
    return run_model(request_for_files([_source(path) for path in paths], model, folder))


def test_the_first_acquisition_of_a_real_chest_ct_is_measured(tmp_path: Path) -> None:
    answer = _run(sorted(real_data("ct_chest_rider_64slices").iterdir()), LUNG_DENSITY, tmp_path)

    assert isinstance(answer, Analysis)
    assert len(answer.sources) == 47
    assert {str(source.AcquisitionNumber) for source in answer.sources} == {"1"}
    assert answer.notes[0] == (
        "The images form 3 stacks: acquisition 1 (47 slices), acquisition 2 (10 slices), acquisition 3 (7 slices)."
    )
    assert any("1 slice(s) share a position with it (-212.3 mm)" in note for note in answer.notes)


def test_the_sides_of_a_real_chest_are_right_and_the_effusion_is_no_lung(tmp_path: Path) -> None:
    answer = _run(sorted(real_data("ct_chest_rider_64slices").iterdir()), LUNG_DENSITY, tmp_path)

    assert isinstance(answer, Analysis)
    volumes_ml = {finding.key: finding.measurements[0].value for finding in answer.findings}
    # The right pleural space of this patient is filled; read on the overlay by eye when the test was written.
    assert 1400 < volumes_ml["left-lung"] < 1650
    assert 180 < volumes_ml["right-lung"] < 350
    left, right = (segment.mask.nonzero()[2].mean() for segment in answer.segments)
    assert left > right
    assert answer.partial
    assert "Contrast medium was given; it raises lung density." in answer.notes
    assert any(note.startswith("Less aerated lung than usual in an adult (2 to 8 l): 1.77 l.") for note in answer.notes)
    assert any(note.startswith("The right lung holds 241 ml of air, far less than the other:") for note in answer.notes)
    # The next acquisition, which shares a position with this one, shows about 15 ml more of it.
    told = "The left lung reaches the first slice; about 18 ml of it are outside the scan and not counted."
    assert told in answer.notes


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("gantrytilting*", {"TOO_FEW_SLICES"}),
        ("sliceincrement*", {"TOO_FEW_SLICES"}),
        ("S1000*", {"LOCALIZER_ONLY"}),
        ("S4010*", {"LOCALIZER_ONLY"}),
    ],
)
def test_odd_geometry_is_declined_with_its_reason(pattern: str, reason: set[str], tmp_path: Path) -> None:
    answer = _run(sorted(real_data("odd_geometry").glob(pattern)), LUNG_DENSITY, tmp_path)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason in reason


@pytest.mark.parametrize(
    "folder",
    [
        "odd_geometry",
        "odd_encoding",
        "cxr",
        "charset",
        "derived_objects_ref",
        "mammo_ct_sc_wg04",
        "mr_9_transfer_syntaxes",
        "mr_brain_t1_enhanced_xa30",
        "mr_brain_t1sag_prisma_35slices",
        "us_multiframe_and_colour",
    ],
)
def test_no_real_object_crashes_a_model(folder: str, tmp_path: Path) -> None:
    paths = sorted(path for path in real_data(folder).rglob("*") if path.is_file())
    bundle = toy_bundle(tmp_path / "toy")

    for model in (LUNG_DENSITY, bundle):
        for offered in (paths, *([path] for path in paths)):
            answer = _run(offered, model, tmp_path / "out")
            assert isinstance(answer, Analysis | NotAnalysed)
            assert isinstance(answer, Analysis) or answer.reason.isupper()


@pytest.mark.parametrize("name", ["gdcm-CR-MONO1-10-chest.dcm", "RG1_J2KI"])
def test_a_real_chest_radiograph_is_classified_with_saliency_on_its_pixels(name: str, tmp_path: Path) -> None:
    answer = _run([real_data("cxr") / name], toy_bundle(tmp_path / "toy"), tmp_path)

    assert isinstance(answer, Analysis)
    source = answer.sources[0]
    assert answer.saliencies[0].map.shape == (source.Rows, source.Columns)
    assert np.isfinite(answer.saliencies[0].map).all()
