"""The demonstration shows nothing that means nothing: each of its studies has an answer that is known to be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.analysis.answer import NotAnalysed
from dicom_node.cli.demo import is_right, phantoms
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.support.studies.data_factories import request_for


def test_the_radiograph_of_the_demonstration_is_refused_because_it_is_nobodys(tmp_path: Path) -> None:
    ((folder,), _) = phantoms(tmp_path / "studies")
    sent = [dcmread(path) for path in sorted(folder.iterdir())]
    (radiograph,) = [image for image in sent if image.Modality == "CR"]

    for model in ("cxr-pneumonia", "cxr-anomaly"):
        answer = run_model(request_for([radiograph], SHIPPED_MODELS / model, tmp_path / model))
        assert isinstance(answer, NotAnalysed)
        assert answer.reason == "TEST_SUBJECT"


@pytest.mark.parametrize(
    ("modality", "state", "right"),
    [
        ("CT", "REPORTED", True),
        ("CT", "NOT_ANALYSED", False),
        ("CR", "REPORTED", False),
        ("CR", "NOT_ANALYSED", True),
    ],
)
def test_the_demonstration_fails_when_a_phantom_comes_to_another_end(modality: str, state: str, right: bool) -> None:
    assert is_right({"modalities": [modality], "state": state}) is right
