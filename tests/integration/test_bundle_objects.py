"""What bundles of every task find becomes DICOM objects that other programs accept, and a FHIR transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread
from pydicom.dataset import Dataset

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.analysis.answer import Analysis
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import OBLIQUE, series_of
from tests.support.validators import objects as validators

Model = Callable[[Path], Path]


def written(datasets: Sequence[Dataset], model: Path, folder: Path) -> tuple[Analysis, dict[str, list[Path]]]:
    """Analyse, write every object, have it judged; return the answer and the files by kind."""
    request = request_for(datasets, model, folder / "study")
    answer = run_model(request)
    assert isinstance(answer, Analysis), answer.message
    objects = write_objects(answer, request.context)
    bundle = build_bundle(answer, request.context, objects, FhirOptions())
    assert bundle["type"] == "transaction"
    files: dict[str, list[Path]] = {}
    for one in objects:
        path = folder / f"{one.order:02}-{one.kind.value}.dcm"
        path.write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(path, request.files[0].path)
        files.setdefault(one.kind.value, []).append(path)
    validators.assert_consistent(
        [file.path for file in request.files], [path for paths in files.values() for path in paths]
    )
    return answer, files


def test_a_segmentation_of_an_oblique_series_is_where_it_belongs_when_read_back(tmp_path: Path) -> None:
    card = zoo_bundles.SEGMENTS + '[explain]\nmethod = "probability"\n'
    model = zoo_bundles.segmenter(tmp_path / "shapes", before=[zoo_bundles.RAS], card=card)
    datasets, truth = series_of(OBLIQUE)

    answer, files = written(datasets, model, tmp_path)

    segmentation = segread(files["SEG"][0])
    uids = [str(source.SOPInstanceUID) for source in answer.sources]
    for number, value in ((1, 1), (2, 2)):
        read = segmentation.get_pixels_by_source_instance(uids, segment_numbers=[number])[..., 0]
        assert np.array_equal(read.astype(bool), np.stack([truth[uid] for uid in uids]) == value)
    assert {one.method for one in answer.saliencies} == {"Probability"}
    assert len(files["SR"]) == 1


@pytest.mark.parametrize("make", [zoo_bundles.detector], ids=["detection"])
def test_boxes_become_regions_of_a_report(make: Model, tmp_path: Path) -> None:
    answer, files = written(series_of(OBLIQUE)[0], make(tmp_path / "model"), tmp_path)

    report = dcmread(files["SR"][0])
    assert "Nodule 1" in str(report)
    assert answer.findings[0].region is not None
    assert answer.key_slices


@pytest.mark.parametrize("make", [zoo_bundles.classifier, zoo_bundles.regressor], ids=["classification", "regression"])
def test_answers_about_a_radiograph_become_a_report(make: Model, tmp_path: Path) -> None:
    image = chest_radiograph_phantom(rows=96)
    stored = np.zeros((96, 96), np.uint16)
    stored[:24] = 4000
    image.PixelData = stored.tobytes()

    _, files = written([image], make(tmp_path / "model"), tmp_path)

    validators.assert_readable_sr(files["SR"][0])
    assert files["SC"]
