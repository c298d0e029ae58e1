"""A model that measures each image once, so that whoever reads its result can count the images it is about."""

from __future__ import annotations

import pydicom

from dicom_node.analysis import Analysis, Finding, Measurement, NotAnalysable, codes
from dicom_node.inference.model_run import ModelRun

CARD = """
name = "counting"
version = "1.0.0"
manufacturer = "DICOM AI Node Project"
runtime = "python"
entry_point = "tests.acceptance.counting_model:analyse"
task = "measurement"
intended_use = "To tell results apart in tests."
limits = "It measures nothing of a patient."
calibrated = false
[[accepts]]
modality = "CT"
"""
FEWEST_IMAGES = 4


def analyse(run: ModelRun) -> Analysis:
    """Give a finding with one number for every image; of fewer than `FEWEST_IMAGES` it says nothing."""
    if len(run.images) < FEWEST_IMAGES:
        raise NotAnalysable("TOO_FEW_SLICES", f"There are {len(run.images)} images.")
    sources = tuple(pydicom.dcmread(image.path) for image in run.images)
    findings = tuple(
        Finding(
            key=f"image-{place}", label=f"Image {place}", code=codes.LUNG, site=codes.LUNG,
            measurements=(
                Measurement(codes.ATTENUATION_COEFFICIENT, float(place), codes.HOUNSFIELD_UNIT, codes.MEAN),
            ),
        )
        for place, _ in enumerate(sources, start=1)
    )  # fmt: skip
    return Analysis(model=run.identity, sources=sources, findings=findings)
