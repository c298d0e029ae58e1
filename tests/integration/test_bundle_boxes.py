"""Boxes of bundles lie exactly on a lesion of known place, however the network writes them and the series lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.analysis.answer import Analysis
from dicom_node.inference.runner import run_model
from tests.support.models import known_answers as known
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import PLACES, series_of

#: Postprocessing, whether whole numbers are centres of voxels, and whether the network writes centre and size.
WRITTEN = {
    "corners, to the world": ([known.CLIPPED, known.TO_WORLD, known.TO_CENTRE], True, False),
    "centre, to corners, to the world": ([known.TO_CORNERS, known.CLIPPED, known.TO_WORLD], True, True),
    "centre, to standard and back": ([known.TO_STANDARD, known.TO_WORLD, known.TO_CENTRE], True, True),
    "centre, to corners": ([known.TO_CORNERS, known.CLIPPED], False, True),
    "corners": ([known.CLIPPED], False, False),
}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("corners, to the world", "oblique"),
        ("corners, to the world", "axial, rows reversed"),
        ("centre, to corners, to the world", "sagittal"),
        ("centre, to standard and back", "coronal"),
        ("centre, to corners", "axial, columns reversed"),
        ("corners", "oblique"),
    ],
)
def test_a_box_has_the_edges_of_the_lesion(tmp_path: Path, written: str, name: str) -> None:
    after, at_centres, as_centre = WRITTEN[written]
    model = known.known_detector(tmp_path / "model", after=after, at_centres=at_centres, as_centre=as_centre)
    datasets, truth = series_of(PLACES[name])

    found = run_model(request_for(datasets, model, tmp_path / "study"))

    assert isinstance(found, Analysis), found.message
    slices, rows, columns = np.nonzero(np.stack([truth[str(source.SOPInstanceUID)] for source in found.sources]) == 2)
    nodule = next(finding for finding in found.findings if finding.key == "nodule-1")
    assert nodule.region is not None
    x, y = np.array(nodule.region.points_xy_px).T
    assert [x.min(), x.max()] == pytest.approx([columns.min(), columns.max() + 1], abs=1e-3)
    assert [y.min(), y.max()] == pytest.approx([rows.min(), rows.max() + 1], abs=1e-3)
    extents_mm = np.array([np.ptp(one) + 1 for one in (slices, rows, columns)]) * PLACES[name].spacing_zyx_mm
    assert nodule.measurements[0].value == pytest.approx(extents_mm.max(), abs=0.05)
