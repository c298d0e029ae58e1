"""Python functions as models, written into a package of their own and imported as an operator's would be."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_node.analysis.context import AnalysisRequest, SourceFile
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runner import run_model
from dicom_node.inference.runtimes import entry_point
from dicom_node.sr_writer import to_part10
from tests.support.models.model_folders import CLASSES, write_card
from tests.support.results import analysis_examples as examples

PACKAGE = """
import numpy as np
from dicom_node.analysis.answer import Analysis  # noqa: E402
from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.prediction import Prediction

def brightness(inputs, card, device):
    means = [float(one.values.mean()) for one in inputs]
    return [Prediction(scores=np.array([1 - mean, mean], np.float32)) for mean in means]

def bright_voxels(inputs, card, device):
    return [Prediction(labels=(one.values[0] > card.parameters["level"]).astype(np.uint8)) for one in inputs]

def cropped(inputs, card, device):
    return [Prediction(labels=np.zeros((1, 2, 2), np.uint8)) for one in inputs]

def one_for_all(inputs, card, device):
    return [Prediction(scores=np.array([0.5], np.float32))]

def plain_list(inputs, card, device):
    return [[0.5, 0.5] for one in inputs]

def endless(inputs, card, device):
    return [Prediction(scores=np.array([np.inf], np.float32)) for one in inputs]

def silent(run):
    return Analysis(model=run.identity, sources=tuple(image.header for image in run.images), findings=())

def declining(inputs, card, device):
    raise NotAnalysable("NO_CONTRAST", "Nothing to see.")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "site_models.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "site_models", raising=False)
    return "site_models"


def card(tmp_path: Path, function: str, more: str = "", task: str = "classification") -> ModelCard:
    top = f'entry_point = "{function}"'
    return load_card(write_card(tmp_path / "model", "python", task=task, top=top, more=more + CLASSES))


def images(count: int) -> list[ModelInput]:
    return [ModelInput(values=np.full((1, 4, 6), 0.1 * (n + 1), np.float32)) for n in range(count)]


def test_a_function_classifies_images_in_batches(package: str, tmp_path: Path) -> None:
    model = entry_point.load(card(tmp_path, f"{package}:brightness", "\n[preprocessing]\nbatch = 8\n"), "cpu")

    found = model.predict(images(3))

    assert model.batch_limit == 8
    assert [one.scores.tolist() for one in found if one.scores is not None] == [
        pytest.approx([0.9, 0.1]),
        pytest.approx([0.8, 0.2]),
        pytest.approx([0.7, 0.3]),
    ]


def test_a_function_sees_the_parameters_of_its_card(package: str, tmp_path: Path) -> None:
    made = card(tmp_path, f"{package}:bright_voxels", "\n[parameters]\nlevel = 40\n", task="segmentation")
    values = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)

    found = entry_point.load(made, "cpu").predict([ModelInput(values=values)])

    assert found[0].labels is not None
    assert int(found[0].labels.sum()) == 19


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("cropped", r"labels of \(1, 2, 2\) voxels for an input of \(1, 4, 6\)"),
        ("one_for_all", "1 predictions for 2 inputs"),
        ("plain_list", "a list instead of a Prediction"),
        ("endless", "not one list of finite numbers"),
    ],
)
def test_an_answer_that_breaks_its_promise_is_refused(function: str, told: str, package: str, tmp_path: Path) -> None:
    model = entry_point.load(card(tmp_path, f"{package}:{function}"), "cpu")

    with pytest.raises(ModelUnavailable, match=told):
        model.predict(images(2))


def test_a_function_may_decline(package: str, tmp_path: Path) -> None:
    with pytest.raises(NotAnalysable, match="Nothing to see"):
        entry_point.load(card(tmp_path, f"{package}:declining"), "cpu").predict(images(1))


@pytest.mark.parametrize("function", ["site_models:absent", "no_such_package.models:predict"])
def test_a_function_that_is_not_there_is_refused(function: str, package: str, tmp_path: Path) -> None:
    assert package == "site_models"
    with pytest.raises(ModelUnavailable, match="cannot be imported"):
        entry_point.load(card(tmp_path, function), "cpu")


def test_occlusion_shows_what_the_function_looks_at(package: str, tmp_path: Path) -> None:
    made = card(tmp_path, f"{package}:brightness", '\n[explain]\nmethod = "occlusion"\n')
    values = np.zeros((1, 40, 60), np.float32)
    values[0, 4:14, 40:55] = 1.0

    found = entry_point.load(made, "cpu").explain(ModelInput(values=values), 1)

    assert found is not None
    row, column = np.unravel_index(int(found.map.argmax()), found.map.shape)
    assert 4 <= row < 14
    assert 40 <= column < 55


def test_a_function_cannot_promise_what_needs_a_network(package: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot explain this task by grad-cam"):
        entry_point.load(card(tmp_path, f"{package}:brightness", '\n[explain]\nmethod = "grad-cam"\n'), "cpu")


def test_an_answer_without_any_finding_is_an_error_of_the_model(package: str, tmp_path: Path) -> None:
    folder = write_card(tmp_path / "model", "python", task="own", top=f'entry_point = "{package}:silent"', more="")
    image = examples.radiograph()
    path = tmp_path / "image.dcm"
    path.write_bytes(to_part10(image))
    source = SourceFile(path=path, sop_instance_uid=image.SOPInstanceUID, series_instance_uid=image.SeriesInstanceUID)
    request = AnalysisRequest(context=examples.context(), model_dir=folder, files=(source,), out_dir=tmp_path)
    with pytest.raises(ModelUnavailable, match="without any finding"):
        run_model(request)
