"""mr-brain-volumes as the node runs it: what its gate refuses by the header, and what the bundle leaves to check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import NotAnalysed
from dicom_node.demo.head_mr import head_mr_phantom
from dicom_node.demo.mr_series import MrScan
from dicom_node.inference.cards.card import SHIPPED_MODELS, Gate, load_card
from dicom_node.inference.images.card_gate import age_remarks
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runner import run_model
from dicom_node.inference.runtimes.monai_bundle.model import load
from tests.support.studies.data_factories import changed, request_for

MODEL = SHIPPED_MODELS / "mr-brain-volumes"


def declined(images: list[Dataset], folder: Path) -> NotAnalysed:
    answer = run_model(request_for(images, MODEL, folder))
    assert isinstance(answer, NotAnalysed)
    return answer


def setting(keyword: str, value: Any) -> Callable[[Dataset], None]:
    return lambda image: setattr(image, keyword, value)


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (MrScan(age="017Y"), "AGE_OUT_OF_RANGE"),
        (MrScan(description="t2_space", times_ms=(3200.0, 400.0, 0.0)), "NOT_T1_WEIGHTED"),
        (MrScan(description="3D sagittal", times_ms=(8.0, 3.0, 0.0)), "NOT_T1_WEIGHTED"),
        (MrScan(description="T1 MPRAGE +C"), "CONTRAST_MEDIUM"),
    ],
)
def test_the_header_refuses_before_the_network_sees_anything(scan: MrScan, reason: str, tmp_path: Path) -> None:
    assert declined(head_mr_phantom("fruit", scan=scan), tmp_path).reason == reason


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("Modality", "CT", "WRONG_MODALITY"),
        ("ScanningSequence", ["EP", "GR"], "ECHO_PLANAR"),
        ("ImageType", ["DERIVED", "SECONDARY", "MPR"], "DERIVED_ONLY"),
        ("PixelSpacing", [2.4, 2.4], "PIXELS_TOO_LARGE"),
    ],
)
def test_what_is_no_fine_original_mr_is_refused(keyword: str, value: Any, reason: str, tmp_path: Path) -> None:
    assert declined(changed(head_mr_phantom("fruit"), setting(keyword, value)), tmp_path).reason == reason


def test_slices_too_far_apart_and_pixels_of_one_value_are_refused(tmp_path: Path) -> None:
    thick = head_mr_phantom("fruit", scale=1.2, slice_spacing_mm=4.0)
    assert declined(thick, tmp_path / "thick").reason == "SLICES_TOO_FAR_APART"
    assert declined(head_mr_phantom("empty"), tmp_path / "empty").reason == "EMPTY_IMAGE"


def test_an_age_of_an_invalid_form_is_unknown_and_told() -> None:
    header, gate = Dataset(), load_card(MODEL).gate
    header.PatientAge = "040Y"
    assert age_remarks(gate, [header]) == []
    assert age_remarks(Gate(), [Dataset()]) == []

    (told,) = age_remarks(gate, [Dataset()])

    assert told == "The images tell no age, and the model is made for patients from 18 years on."


def test_the_bundle_leaves_every_figure_that_its_card_holds_and_labels_on_the_grid_of_the_images() -> None:
    card = load_card(MODEL)
    values = np.zeros((1, 30, 44, 36), np.float32)
    values[:, 5:25, 8:36, 6:30] = np.random.default_rng(1).uniform(200, 600, (1, 20, 28, 24))
    affine = np.array([[0, 1.5, 0, -20], [1.5, 0, 0, -30], [0, 0, -2.0, 40], [0, 0, 0, 1]])

    (found,) = load(card, "cpu").predict([ModelInput(values=values, affine_lps_mm=affine)])

    assert found.labels is not None
    assert found.labels.shape == (30, 44, 36)
    assert {one.figure for one in card.checks} - set(found.figures) <= {
        "largest-cluster-percent", "tilt-degrees", "smaller-hemisphere-percent", "smaller-nucleus-percent",
    }  # fmt: skip
    inside_ml = np.count_nonzero(found.labels) * 1.5 * 1.5 * 2.0 / 1000
    assert found.figures["total-ml"] == pytest.approx(inside_ml, rel=0.15, abs=0.5)
