"""DICOM in, findings out, for kinds of model that are no bundle: the same gate and the same answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.errors import ModelUnavailable
from dicom_node.core.outputs.artifact_kinds import OutputSet, SegmentationType
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.images.pixels import display_values, hounsfield_units
from dicom_node.inference.runner import run_model
from tests.support.models.inference_server import Served, serving
from tests.support.models.model_folders import CLASSES, weights_table, write_card
from tests.support.models.tiny_networks import (
    IMAGE_24,
    SIZE,
    classifier,
    plain_probabilities,
    save_exported,
    save_onnx_classifier,
    save_script,
    segmenter,
)
from tests.support.studies.data_factories import flipped_columns, request_for, small_chest_ct

OUTPUT = '\n[output]\nname = "logits"\nactivation = "softmax"\n[explain]\nmethod = "occlusion"\n'
LUNG = """
[preprocessing]
window = [-1500, 500]
orientation = "RAS"
[output]
activation = "softmax"
[[segment]]
value = 1
key = "dense"
label = "Dense tissue"
type = { value = "91723000", scheme = "SCT", meaning = "Anatomical structure" }
"""


@pytest.fixture
def radiograph() -> Dataset:
    return chest_radiograph_phantom(rows=128, age="030Y")


def onnx_folder(folder: Path) -> Path:
    folder.mkdir()
    path = save_onnx_classifier(classifier(), folder / "model.onnx")
    return write_card(folder, "onnx", more=weights_table(path) + IMAGE_24 + OUTPUT + CLASSES)


def test_a_radiograph_is_classified_and_explained_by_an_onnx_graph(radiograph: Dataset, tmp_path: Path) -> None:
    found = run_model(request_for([radiograph], onnx_folder(tmp_path / "model"), tmp_path / "study"))

    assert isinstance(found, Analysis)
    expected = plain_probabilities(classifier(), display_values(radiograph, voi=True))
    assert [one.probability for one in found.findings] == pytest.approx(list(expected), abs=2e-4)
    assert found.saliencies
    assert found.saliencies[0].map.shape == (128, 128)
    assert found.saliencies[0].method == "Occlusion"


def test_a_route_s_temperature_reaches_the_graph(radiograph: Dataset, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model")
    card = folder / "model_card.toml"
    card.write_text(card.read_text().replace("[output]", "[parameters]\ntemperature = 1.0\n\n[output]"))

    answers = [
        run_model(request_for([radiograph], folder, tmp_path / f"study{temperature}", temperature=temperature))
        for temperature in (1.0, 100.0)
    ]

    chances = [one.findings[0].probability for one in answers if isinstance(one, Analysis)]
    assert abs(chances[1] - 0.5) < 0.1 < abs(chances[0] - 0.5)


def test_a_value_is_estimated_by_a_script(radiograph: Dataset, tmp_path: Path) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 100 * x.mean(dim=(1, 2, 3))[:, None]

    folder = tmp_path / "model"
    folder.mkdir()
    path = save_script(Mean(), folder / "model.ts")
    finding = """
[preprocessing]
batch = 2
[[finding]]
key = "age"
label = "Bone age"
unit = { value = "mo", scheme = "UCUM", meaning = "month" }
code = { value = "445518008", scheme = "SCT", meaning = "Age" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
"""
    write_card(folder, "torchscript", task="regression", more=weights_table(path) + finding)

    found = run_model(request_for([radiograph], folder, tmp_path / "study"))

    assert isinstance(found, Analysis)
    (measurement,) = found.findings[0].measurements
    assert measurement.value == pytest.approx(100 * display_values(radiograph, voi=True).mean(), rel=1e-3)
    assert measurement.unit.value == "mo"


@pytest.mark.parametrize("runtime", ["torchscript", "torch-export"])
def test_a_mask_lies_on_the_voxels_however_the_series_is_stored(runtime: str, tmp_path: Path) -> None:
    slices, _ = small_chest_ct()
    stored = [flipped_columns(one) for one in reversed(slices)]
    values = [hounsfield_units(one) for one in stored]
    folder = tmp_path / "model"
    folder.mkdir()
    if runtime == "torchscript":
        path = save_script(segmenter(3), folder / "model.ts")
    else:
        rows, columns = values[0].shape
        path = save_exported(segmenter(3), torch.zeros(2, 1, columns, rows, len(stored)), folder / "model.pt2")
    write_card(folder, runtime, task="segmentation", more=weights_table(path) + LUNG)

    found = run_model(request_for(stored, folder, tmp_path / "study"))

    assert isinstance(found, Analysis)
    expected = {str(one.SOPInstanceUID): hu > -500 for one, hu in zip(stored, values, strict=True)}
    assert found.segments[0].mask.any()
    for source, mask in zip(found.sources, found.segments[0].mask, strict=True):
        assert np.array_equal(mask, expected[str(source.SOPInstanceUID)])


@pytest.mark.parametrize("wanted", ["binary", "fractional"])
def test_probabilities_are_kept_where_a_destination_wants_them(wanted: SegmentationType, tmp_path: Path) -> None:
    slices, _ = small_chest_ct()
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_script(segmenter(3), folder / "model.ts")
    more = weights_table(path) + LUNG.replace("[[segment]]", '[explain]\nmethod = "probability"\n[[segment]]')
    request = request_for(slices, write_card(folder, "torchscript", task="segmentation", more=more), tmp_path / "study")
    sets = (OutputSet(), OutputSet(segmentation=wanted))

    found = run_model(replace(request, context=replace(request.context, output_sets=sets)))

    assert isinstance(found, Analysis)
    (segment,) = found.segments
    if wanted == "binary":
        assert segment.probability_zyx is None
    else:
        assert segment.probability_zyx is not None
        assert np.array_equal(segment.probability_zyx > 0.5, segment.mask)


def test_a_remote_network_answers_for_a_study_and_hears_only_what_the_card_allows(
    radiograph: Dataset, tmp_path: Path
) -> None:
    served = Served(classifier(), [-1, 1, SIZE, SIZE])
    with serving(served) as url:
        server = f'\n[server]\nurl = "{url}"\nmodel = "tiny"\nattributes = ["PatientAge"]\n'
        output = '\n[output]\nname = "answer"\nactivation = "softmax"\n'
        folder = write_card(tmp_path / "model", "open-inference", more=server + IMAGE_24 + output + CLASSES)
        found = run_model(request_for([radiograph], folder, tmp_path / "study"))

    assert isinstance(found, Analysis)
    assert [message["parameters"] for message in served.messages] == [{"PatientAge": "030Y"}]
    told = b"".join(served.requests)
    identifiers = (radiograph.PatientID, str(radiograph.PatientName), radiograph.StudyInstanceUID)
    assert not any(text.encode() in told for text in identifiers)


def test_a_python_function_sees_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices, _ = small_chest_ct()
    (tmp_path / "whole_site_models.py").write_text(
        "import numpy as np\n"
        "from dicom_node.inference.prediction import Prediction\n"
        "def air(inputs, card, device):\n"
        "    return [Prediction(labels=(one.values[0] < -700).astype(np.uint8)) for one in inputs]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    segment = LUNG[LUNG.index("[[segment]]") :]
    top = 'entry_point = "whole_site_models:air"'
    folder = write_card(tmp_path / "model", "python", task="segmentation", top=top, more=segment)

    found = run_model(request_for(slices, folder, tmp_path / "study"))

    assert isinstance(found, Analysis)
    expected = {str(one.SOPInstanceUID): hounsfield_units(one) < -700 for one in slices}
    for source, mask in zip(found.sources, found.segments[0].mask, strict=True):
        assert np.array_equal(mask, expected[str(source.SOPInstanceUID)])


def test_a_study_the_tensor_has_no_room_for_is_declined(tmp_path: Path) -> None:
    slices, _ = small_chest_ct()
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_script(segmenter(3), folder / "model.ts")
    small = LUNG.replace('"RAS"', '"RAS"\nspacing_mm = [1, 1, 1]\nsize = [32, 32, 32]\nfit = "pad"')
    write_card(folder, "torchscript", task="segmentation", more=weights_table(path) + small)

    found = run_model(request_for(slices, folder, tmp_path / "study"))

    assert isinstance(found, NotAnalysed)
    assert found.reason == "VOLUME_TOO_LARGE"


def test_a_damaged_file_stops_the_job_and_says_which(radiograph: Dataset, tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model")
    content = (folder / "model.onnx").read_bytes()[:-200]
    card = folder / "model_card.toml"
    card.write_text(
        card.read_text().replace(
            hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(), hashlib.sha256(content).hexdigest()
        )
    )
    (folder / "model.onnx").write_bytes(content)

    with pytest.raises(ModelUnavailable, match=r"model\.onnx is no ONNX graph"):
        run_model(request_for([radiograph], folder, tmp_path / "study"))
