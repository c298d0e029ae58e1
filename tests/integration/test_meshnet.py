"""Weights wrapped as docs/how-to/wrap-weights.md says: its converter makes the weights that ship, and a real head that
is shown turned is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from dicom_node.analysis.answer import NotAnalysed
from dicom_node.demo.mr_series import MrScan, mr_series
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.support.campaign import amount
from tests.support.needs import REPOSITORY, real_data
from tests.support.studies.data_factories import request_for

MODEL = SHIPPED_MODELS / "mr-brain-volumes"
_CONVERTER = re.compile(r"^   ```python convert.py\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
#: Of the real head: the box around the brain, every second sagittal plane.
_BOX, _STEPS = np.s_[54:204:2, 52:200, 26:210], np.array([2.0, 1.0, 1.0, 1.0])
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Weights = dict[str, NDArray[Any]]


def converted(model_json: Path, numbers: Path, folder: Path) -> Weights:
    """Run the converter of the page."""
    page = (REPOSITORY / "docs" / "how-to" / "wrap-weights.md").read_text(encoding="utf-8")
    found = _CONVERTER.search(page)
    assert found is not None
    (folder / "convert.py").write_text(dedent(found[1]), encoding="utf-8")
    made = folder / "models" / "model.safetensors"
    subprocess.run([sys.executable, folder / "convert.py", model_json, numbers, made], check=True)
    return load_file(made)


def as_keras(weights: Weights, folder: Path) -> tuple[Path, Path]:
    """Write weights of torch as TensorFlow.js keeps them: kernels (depth, height, width, in, out), all in one file."""
    listed: list[dict[str, Any]] = []
    numbers = b""
    for layer in sorted({int(name.partition(".")[0]) for name in weights}):
        kernel = np.moveaxis(weights[f"{layer}.weight"], (0, 1), (4, 3))
        for kind, values in (("kernel", kernel), ("bias", weights[f"{layer}.bias"])):
            listed.append({"name": f"conv3d_{layer}/{kind}", "shape": values.shape, "dtype": "float32"})
            numbers += np.ascontiguousarray(values, "<f4").tobytes()
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": ["model.bin"], "weights": listed}]}))
    (folder / "model.bin").write_bytes(numbers)
    return folder / "model.json", folder / "model.bin"


def test_the_converter_of_the_page_makes_the_weights_that_ship(tmp_path: Path) -> None:
    shipped = load_file(MODEL / "models" / "model.safetensors")

    found = converted(*as_keras(shipped, tmp_path), tmp_path)

    assert found.keys() == shipped.keys()
    assert all(np.array_equal(found[name], shipped[name]) for name in shipped)


def test_the_converter_reads_a_network_as_its_project_published_it(tmp_path: Path) -> None:
    source = real_data("weights/brainchop_meshnet_tfjs_mit") / "public__models__model20chan3cls__model.json"
    numbers = source.with_suffix(".bin")

    found = converted(source, numbers, tmp_path)

    assert [found[f"{layer}.weight"].shape for layer in (0, 2, 18)] == [
        (20, 1, 3, 3, 3), (20, 20, 3, 3, 3), (3, 20, 1, 1, 1),
    ]  # fmt: skip
    # The second kernel begins behind 27 x 20 weights and 20 biases; place (depth 2, height 1, width 0), in 3, out 7.
    place = 27 * 20 + 20 + (((2 * 3 + 1) * 3 + 0) * 20 + 3) * 20 + 7
    assert found["2.weight"][7, 3, 2, 1, 0] == np.fromfile(numbers, "<f4")[place]


def upside_down(head: NDArray[Any]) -> NDArray[Any]:
    return head[:, ::-1]


def exchanged(head: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(head, (0, 1, 2), (1, 2, 0))


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shown", amount([exchanged], campaign=[exchanged, upside_down]))
def test_a_real_head_that_is_shown_turned_is_refused(
    shown: Callable[[NDArray[Any]], NDArray[Any]], tmp_path: Path
) -> None:
    """The positions say that it lies as heads do, so that only what the network leaves about its answer can tell."""
    image: Any = nibabel.load(real_data("weights") / "t1_crop.nii.gz")
    values = shown(np.asarray(image.dataobj, np.float32)[_BOX])
    affine = _RAS_TO_LPS @ image.affine * _STEPS
    scan = MrScan(seed="turned", description="t1_mprage_sag_iso")

    found = run_model(request_for(mr_series(values.transpose(2, 1, 0), affine, scan), MODEL, tmp_path))

    assert isinstance(found, NotAnalysed)
    refusals = {"NO_BRAIN", "SCATTERED_OUTLINES", "UNSURE_OUTLINES", "IMPLAUSIBLE_VOLUME", "BRAIN_TRUNCATED"}
    assert found.reason in refusals
