"""A model that outlines a nodule in a CT, measures it, and says where it looked: all that a reader can be shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom

from dicom_node.analysis import Analysis, Finding, Measurement, NotAnalysable, codes
from dicom_node.analysis.answer import Saliency
from dicom_node.core.codes import term_code
from dicom_node.core.entities import Presence, Region
from dicom_node.inference.model_run import ModelRun
from tests.support.results import analysis_examples as examples

NAME = "nodule"
CARD = f"""
name = "{NAME}"
version = "1.0.0"
manufacturer = "DICOM AI Node Project"
runtime = "python"
entry_point = "tests.acceptance.nodule_model:analyse"
task = "measurement"
intended_use = "To be read and reviewed in tests."
limits = "It finds the same nodule in everybody."
calibrated = false
[[accepts]]
modality = "CT"
"""
DIAMETER_MM = 7.0
FEWEST_IMAGES = 4
#: On which image, counted from the feet, the nodule is outlined.
MARKED = 2
_MIDDLE_PX, _RADIUS_PX = 64.0, 10.0


def analyse(run: ModelRun) -> Analysis:
    """Give the nodule, both lungs and a heat map; of fewer than `FEWEST_IMAGES` images nothing can be said."""
    if len(run.images) < FEWEST_IMAGES:
        raise NotAnalysable(
            "TOO_FEW_SLICES", f"The series has {len(run.images)} images; send at least {FEWEST_IMAGES}."
        )
    read = (pydicom.dcmread(image.path) for image in run.images)
    sources = tuple(sorted(read, key=lambda one: float(one.ImagePositionPatient[2])))
    lungs = examples.ct_analysis(sources, histogram=None, key_slices=(), notes=())
    mask = lungs.segments[0].mask
    near, far = int(_MIDDLE_PX - _RADIUS_PX), int(_MIDDLE_PX + _RADIUS_PX)
    mask[:, near:far, near:far] = True  # the middle of every image is masked
    nodule = _nodule(str(sources[MARKED].SOPInstanceUID))
    heat = Saliency(
        finding_key=nodule.key, sop_instance_uid=str(sources[MARKED].SOPInstanceUID), method="Distance",
        map=_nearness(int(sources[MARKED].Rows), int(sources[MARKED].Columns)),
    )  # fmt: skip
    return replace(lungs, model=run.identity, findings=(nodule, *lungs.findings), saliencies=(heat,))


def _nodule(on_image: str) -> Finding:
    near, far = _MIDDLE_PX - _RADIUS_PX, _MIDDLE_PX + _RADIUS_PX
    corners = ((near, near), (far, near), (far, far), (near, far), (near, near))
    return Finding(
        key="nodule", label="Nodule", code=term_code("findings", "lung-nodule"), site=codes.LUNG,
        laterality=codes.RIGHT, presence=Presence.PRESENT, probability=0.8, threshold=0.5,
        measurements=(Measurement(codes.DIAMETER, DIAMETER_MM, codes.MILLIMETER),),
        region=Region(sop_instance_uid=on_image, points_xy_px=corners),
        explanation_key=f"heatmap:nodule:{on_image}",
    )  # fmt: skip


def _nearness(rows: int, columns: int) -> np.ndarray:
    row, column = np.ogrid[:rows, :columns]
    squared_px = (row - _MIDDLE_PX) ** 2 + (column - _MIDDLE_PX) ** 2
    return np.exp(-squared_px / (2 * _RADIUS_PX) ** 2).astype(np.float32)
