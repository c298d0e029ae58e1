"""Studies and models made in code for tests: phantoms turned, flipped, thinned; a small bundle with known weights."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.core.uids import derived_uid
from dicom_node.demo.phantoms import PhantomTruth, chest_ct_phantom

#: Small enough for unit tests, large enough for whole lungs.
SMALL_SLICES, SMALL_ROWS, SMALL_SPACING_MM = 32, 96, 10.0


def small_chest_ct(seed: str = "1") -> tuple[list[Dataset], PhantomTruth]:
    """Make the chest CT phantom on a coarse grid."""
    return chest_ct_phantom(seed, slices=SMALL_SLICES, rows=SMALL_ROWS, slice_spacing_mm=SMALL_SPACING_MM)


def encoded(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """Return the data set as it goes over the wire: no preamble, no file meta information."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, transfer_syntax_uid == ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def flipped_columns(dataset: Dataset) -> Dataset:
    """Return the same anatomy stored with columns reversed (row direction turned round)."""
    turned = copy.deepcopy(dataset)
    across_mm = float(dataset.PixelSpacing[1]) * (dataset.Columns - 1)
    row_direction = np.array(dataset.ImageOrientationPatient[:3], float)
    origin = np.array(dataset.ImagePositionPatient, float) + row_direction * across_mm
    turned.ImagePositionPatient = [float(x) for x in origin]
    turned.ImageOrientationPatient = [*(float(-x) for x in row_direction), *dataset.ImageOrientationPatient[3:]]
    turned.PixelData = np.ascontiguousarray(dataset.pixel_array[:, ::-1]).tobytes()
    return turned


def flipped_rows(dataset: Dataset) -> Dataset:
    """Return the same anatomy stored with rows reversed (column direction turned round), as of a prone patient."""
    turned = copy.deepcopy(dataset)
    down_mm = float(dataset.PixelSpacing[0]) * (dataset.Rows - 1)
    column_direction = np.array(dataset.ImageOrientationPatient[3:], float)
    origin = np.array(dataset.ImagePositionPatient, float) + column_direction * down_mm
    turned.ImagePositionPatient = [float(x) for x in origin]
    turned.ImageOrientationPatient = [*dataset.ImageOrientationPatient[:3], *(float(-x) for x in column_direction)]
    turned.PixelData = np.ascontiguousarray(dataset.pixel_array[::-1]).tobytes()
    return turned


def tilted(datasets: Sequence[Dataset], mm_per_slice: float = 2.0) -> list[Dataset]:
    """Return the slices sheared as by a tilted gantry: each lies further back than the one before."""
    sheared = copy.deepcopy(list(datasets))
    for index, dataset in enumerate(sheared):
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + index * mm_per_slice, z]
    return sheared


def changed(datasets: Iterable[Dataset], change: Callable[[Dataset], None]) -> list[Dataset]:
    """Return copies of the datasets, each after `change`."""
    copies = copy.deepcopy(list(datasets))
    for dataset in copies:
        change(dataset)
    return copies


def renumbered(dataset: Dataset, name: str) -> Dataset:
    """Return a copy with a SOP Instance UID of its own."""
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = derived_uid("test-instance", str(dataset.SOPInstanceUID), name)
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    return other


def request_for(datasets: Iterable[Dataset], model_dir: Path, folder: Path, **parameters: float) -> AnalysisRequest:
    """Write the datasets to `folder` and return the request that has a model analyse them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, dataset in enumerate(datasets):
        path = folder / f"{index:04}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(
            SourceFile(
                path=path,
                sop_instance_uid=str(dataset.SOPInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
            )
        )
    return request_for_files(files, model_dir, folder, **parameters)


def request_for_files(
    files: Iterable[SourceFile], model_dir: Path, folder: Path, **parameters: float
) -> AnalysisRequest:
    """Return the request that has a model analyse stored files."""
    return AnalysisRequest(
        context=ReportContext(
            job_key="0" * 64,
            route_name="test",
            started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
            ae_title="AINODE",
            node_uid=derived_uid("test-node"),
        ),
        model_dir=model_dir,
        files=tuple(files),
        out_dir=folder / "out",
        parameters=parameters,
    )


def toy_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Write a MONAI bundle with a tiny two-class network whose random weights depend on `seed`; return its folder."""
    import torch  # noqa: PLC0415 - only tests of bundles pay for torch
    from monai.networks.nets.densenet import DenseNet  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    definition: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "init_features": 8}
    definition |= {"growth_rate": 4, "block_config": [2, 2], "bn_size": 2}
    torch.manual_seed(seed)
    network = DenseNet(**definition)
    with torch.no_grad():
        # Far apart logits: a fresh network answers one half for everything.
        for weights in network.class_layers[-1].parameters():
            weights.mul_(20.0)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    weights_file = folder / "models" / "model.safetensors"
    save_file(network.state_dict(), weights_file)
    inference = {
        "network_def": {"_target_": "monai.networks.nets.DenseNet", **definition},
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [{"_target_": "monai.transforms.Resized", "keys": "image", "spatial_size": [64, 64]}],
        },
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "postprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [{"_target_": "monai.transforms.Activationsd", "keys": "pred", "softmax": True}],
        },
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    scale = {"inputs": {"image": {"value_range": [0, 1]}}}
    about = {"version": "0.0.1", "monai_version": "1.6.1", "network_data_format": scale}
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    (folder / "model_card.toml").write_text(_TOY_CARD.replace("SHA256", digest))
    return folder


_TOY_CARD = """\
name = "toy"
version = "0.0.1"
manufacturer = "tests"
runtime = "monai-bundle"
task = "classification"
intended_use = "tests"
limits = "random weights"
calibrated = false
[[accepts]]
modality = ["CR", "DX"]
[weights]
file = "models/model.safetensors"
sha256 = "SHA256"
[parameters]
threshold = 0.5
temperature = 1.0
[[finding]]
key = "normal"
label = "Normal"
output_index = 0
code = { value = "17621005", scheme = "SCT", meaning = "Normal" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
[[finding]]
key = "pneumonia"
label = "Pneumonia"
output_index = 1
code = { value = "233604007", scheme = "SCT", meaning = "Pneumonia" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
[explain]
method = "grad-cam"
layer = "class_layers.relu"
"""
