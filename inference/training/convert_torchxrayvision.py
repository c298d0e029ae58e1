"""Makes a model folder of a published TorchXRayVision DenseNet-121 checkpoint: safetensors and a card.

    python -m dicom_node.inference.training.convert_torchxrayvision CHECKPOINT FOLDER [--weights all]

Neither torchxrayvision nor torchvision is needed, and nothing in the checkpoint is run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import pickle
import re
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from monai.networks.nets.densenet import DenseNet121
from safetensors.torch import save_file
from torch import _utils

from dicom_node.core.codes import LUNG, PRIVATE_SCHEME
from dicom_node.core.entities import Code
from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import CARD_NAME
from dicom_node.inference.runtimes.torchxrayvision import OPERATING_POINTS, OUTPUTS

_log = logging.getLogger(__name__)
_LAYER = re.compile(r"(denselayer\d+)\.(norm|relu|conv)")

_TOP = """\
name = {name}
version = {version}
manufacturer = "Cohen et al., TorchXRayVision"
runtime = "torchxrayvision"
task = "classification"
intended_use = "Decision support: {count} findings on one frontal chest radiograph of an adult, to order a reading \
list. Not verified for clinical use, not a medical device, no substitute for a reading."
limits = "DenseNet-121 trained on public sets of adult radiographs whose labels were mostly taken from reports by \
programs. Scores are stretched so that each finding's operating point is 0.5; they are no probabilities. Only the \
middle square of the image is seen. The terms of the sets it was trained on apply."
calibrated = false
rank = ["-instances"]

[[accepts]]
modality = ["CR", "DX"]

[gate]
age_years = {{ min = 18, or_absent = true }}

[weights]
file = "model.safetensors"
sha256 = "{sha256}"

[parameters]
threshold = 0.5

[explain]
method = "grad-cam"
layer = "class_layers.relu"
"""
_FINDING = """
[[finding]]
key = {key}
label = {label}
output_index = {index}
code = {code}
site = {site}
"""


def convert(checkpoint: Path, folder: Path, points: Sequence[float], *, weights_name: str) -> Path:
    """Write weights and card into `folder`; returns it. `points` are the operating points in the order of `LABELS`.

    Raises `ModelUnavailable` when the checkpoint is not that network.
    """
    state = renamed(read_tensors(checkpoint))
    _check(state, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_file({**state, OPERATING_POINTS: torch.tensor(points, dtype=torch.float32)}, weights)
    (folder / CARD_NAME).write_text(_card(points, weights, weights_name), encoding="utf-8")
    return folder


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors the names MONAI has for them; those of older layouts and extra buffers are left out."""
    return {
        _LAYER.sub(r"\1.layers.\2", name).replace("classifier.", "class_layers.out."): value.contiguous()
        for name, value in state.items()
        if name.startswith(("features.", "classifier."))
    }


def _check(state: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    expected = DenseNet121(spatial_dims=2, in_channels=1, out_channels=OUTPUTS).state_dict()
    wrong = sorted(
        name
        for name in {*expected, *state}
        if name not in expected or name not in state or expected[name].shape != state[name].shape
    )
    if wrong:
        raise ModelUnavailable(
            f"Checkpoint {checkpoint} is not a DenseNet-121 with one channel and {OUTPUTS} findings: {len(wrong)} "
            f"tensors differ, first {wrong[0]}."
        )


def _card(points: Sequence[float], weights: Path, weights_name: str) -> str:
    known = [(index, label) for index, label in enumerate(LABELS) if not math.isnan(points[index])]
    top = _TOP.format(
        name=json.dumps(f"torchxrayvision-{weights_name}".replace("_", "-")),
        version=json.dumps("1.0"),
        count=len(known),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    findings = (
        _FINDING.format(
            key=json.dumps(one.key),
            label=json.dumps(one.label),
            index=index,
            code=_toml(one.code),
            site=_toml(one.site),
        )
        for index, one in known
    )
    return top + "".join(findings)


def _toml(code: Code) -> str:
    value, scheme, meaning = (json.dumps(text) for text in (code.value, code.scheme, code.meaning))
    return f"{{ value = {value}, scheme = {scheme}, meaning = {meaning} }}"


def main(arguments: list[str] | None = None) -> None:
    """Convert one checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Make a model folder of a TorchXRayVision checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="the published .pt file")
    parser.add_argument("folder", type=Path, help="model folder to write")
    parser.add_argument("--weights", choices=sorted(PUBLISHED_POINTS), default="all", help="which published set it is")
    options = parser.parse_args(arguments)
    points = PUBLISHED_POINTS[options.weights]
    convert(options.checkpoint, options.folder, points, weights_name=options.weights)
    _log.info("Model written to %s: %d findings.", options.folder, sum(not math.isnan(one) for one in points))


if __name__ == "__main__":
    main()


# --- the tensors of a pickled module, without running its code -------------------------------------------------------

_REAL: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _utils._rebuild_parameter,
}


class Shell:
    """Stands for an object of any class but a tensor; `state` is what the pickle would have given it."""

    state: Mapping[str, Any]

    def __new__(cls, *_: object, **__: object) -> Shell:
        shell = super().__new__(cls)
        shell.state = {}
        return shell

    def __init__(self, *_: object, **__: object) -> None:
        """Take anything and do nothing with it."""

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, Mapping) else {}


class TensorUnpickler(pickle.Unpickler):
    """Finds tensors and their containers, and shells for everything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        real = _REAL.get((module_name, global_name))
        if real is not None:
            return real
        if module_name == "torch" and isinstance(dtype := getattr(torch, global_name, None), torch.dtype):
            return dtype
        return type(global_name, (Shell,), {})


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return parameters and buffers of the pickled module, by their dotted names, on the CPU.

    Raises `ModelUnavailable` for a file that is no checkpoint of `torch.save`, or holds no module.
    """
    _check_kind(path)
    restricted = SimpleNamespace(__name__="tensor_pickle", Unpickler=TensorUnpickler, load=_load)
    try:
        with warnings.catch_warnings():
            # Old files carry the source of their classes, which torch would compare with the shells.
            warnings.filterwarnings("ignore", "Couldn't retrieve source code", UserWarning)
            found = torch.load(path, map_location="cpu", pickle_module=restricted, weights_only=False)
        tensors = dict(_tensors(found, ""))
    except (pickle.UnpicklingError, RuntimeError, TypeError, ValueError, AttributeError, EOFError, KeyError) as error:
        raise ModelUnavailable(
            f"Checkpoint {path} cannot be read as tensors ({type(error).__name__}). Is it the file as it was published?"
        ) from error
    if not tensors:
        raise ModelUnavailable(f"Checkpoint {path} holds no tensors of a network.")
    return tensors


def _load(stream: Any, **arguments: Any) -> Any:
    return TensorUnpickler(stream, **arguments).load()


def _check_kind(path: Path) -> None:
    """Refuse the formats that torch would hand to another reader."""
    if not path.is_file():
        raise ModelUnavailable(f"There is no checkpoint {path}. Give the path of the downloaded file.")
    if tarfile.is_tarfile(path):
        raise ModelUnavailable(f"Checkpoint {path} is in the format of torch before 0.2, which is not read.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise ModelUnavailable(f"Checkpoint {path} is a TorchScript file. Use runtime torchscript for it.")


def _tensors(found: object, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Walk a module's shell, or a state dict."""
    if isinstance(found, Mapping):
        yield from ((str(name), value) for name, value in found.items() if isinstance(value, torch.Tensor))
    if not isinstance(found, Shell):
        return
    for table in ("_parameters", "_buffers"):
        for name, value in found.state.get(table, {}).items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value.detach()
    for name, child in found.state.get("_modules", {}).items():
        yield from _tensors(child, f"{prefix}{name}.")


# --- the findings ----------------------------------------------------------------------------------------------------
#
# Order and operating points: torchxrayvision 1.x, `datasets.default_pathologies` and `models.model_urls` (Apache-2.0).
# SCT = SNOMED CT, DCM = DICOM PS3.16 Annex D. Where no public code was found with certainty, the project's own scheme.

_HEART = Code("80891009", "SCT", "Heart")
_PLEURA = Code("3120008", "SCT", "Pleura")
_DIAPHRAGM = Code("5798000", "SCT", "Diaphragm")
_MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
_THORAX = Code("51185008", "SCT", "Chest")


@dataclass(frozen=True, slots=True)
class Label:
    """One output: the name TorchXRayVision gives it, what people read, and its codes."""

    name: str
    label: str
    code: Code
    site: Code

    @property
    def key(self) -> str:
        return self.name.lower().replace("_", "-").replace(" ", "-")


LABELS: tuple[Label, ...] = (
    Label("Atelectasis", "Atelectasis", Code("46621007", "SCT", "Atelectasis"), LUNG),
    Label("Consolidation", "Consolidation", Code("95436008", "SCT", "Lung consolidation"), LUNG),
    Label("Infiltration", "Infiltration", Code("112121", "DCM", "Infiltrate"), LUNG),
    Label("Pneumothorax", "Pneumothorax", Code("36118008", "SCT", "Pneumothorax"), _PLEURA),
    Label("Edema", "Pulmonary edema", Code("19242006", "SCT", "Pulmonary edema"), LUNG),
    Label("Emphysema", "Emphysema", Code("87433001", "SCT", "Pulmonary emphysema"), LUNG),
    Label("Fibrosis", "Fibrosis", Code("51615001", "SCT", "Fibrosis of lung"), LUNG),
    Label("Effusion", "Pleural effusion", Code("60046008", "SCT", "Pleural effusion"), _PLEURA),
    Label("Pneumonia", "Pneumonia", Code("233604007", "SCT", "Pneumonia"), LUNG),
    Label("Pleural_Thickening", "Pleural thickening", Code("PLTHICK", PRIVATE_SCHEME, "Pleural thickening"), _PLEURA),
    Label("Cardiomegaly", "Cardiomegaly", Code("8186001", "SCT", "Cardiomegaly"), _HEART),
    Label("Nodule", "Nodule", Code("786838002", "SCT", "Nodule of lung"), LUNG),
    Label("Mass", "Mass", Code("309529002", "SCT", "Mass of lung"), LUNG),
    Label("Hernia", "Hernia", Code("39839004", "SCT", "Diaphragmatic hernia"), _DIAPHRAGM),
    Label("Lung Lesion", "Lung lesion", Code("52988006", "SCT", "Lesion"), LUNG),
    Label("Fracture", "Fracture", Code("125605004", "SCT", "Fracture of bone"), _THORAX),
    Label("Lung Opacity", "Lung opacity", Code("112033", "DCM", "Abnormal opacity"), LUNG),
    Label(
        "Enlarged Cardiomediastinum",
        "Enlarged cardiomediastinum",
        Code("WIDEMED", PRIVATE_SCHEME, "Enlarged cardiomediastinal silhouette"),
        _MEDIASTINUM,
    ),
)

#: Per published set of weights: the probability that becomes ½. Not a number: the set was not trained for that finding.
PUBLISHED_POINTS: dict[str, tuple[float, ...]] = {
    name: tuple(float(number) for number in numbers.split())
    for name, numbers in {
        "all": """
            0.07422872 0.038290843 0.09814756 0.0098118475 0.023601074 0.0022490358
            0.010060724 0.103246614 0.056810737 0.026791653 0.050318155 0.023985857
            0.01939503 0.042889766 0.053369623 0.035975814 0.20204692 0.05015312
        """,
        "nih": """
            0.039117552 0.0034529066 0.11396341 0.0057298196 0.00045666535 0.0018880932
            0.012037827 0.038744126 0.0037213727 0.014730946 0.016149804 0.054241467
            0.037198864 0.0004403434 nan nan nan nan
        """,
        "pc": """
            0.031012505 0.013347598 0.081435576 0.001262615 0.002587246 0.0035944257
            0.0023071 0.055412333 0.044385884 0.042766232 0.043258056 0.037629247
            0.005658899 0.0091741895 nan 0.026507627 nan nan
        """,
        "chex": """
            0.1988969 0.05710573 nan 0.0531293 0.1435217 nan
            nan 0.27212676 0.07749717 nan 0.19712369 nan
            nan nan 0.09932402 0.09273402 0.3270967 0.10888247
        """,
        "kaggle": """
            nan nan nan nan nan nan
            nan nan 0.13486601 nan nan nan
            nan nan nan nan 0.13511065 nan
        """,
        "mimic_nb": """
            0.08558747 0.011884617 nan 0.0040595434 0.010733786 nan
            nan 0.118761964 0.022924708 nan 0.06358637 nan
            nan nan 0.022143636 0.017476924 0.1258702 0.014020768
        """,
        "mimic_ch": """
            0.09121389 0.010573786 nan 0.005023008 0.003698257 nan
            nan 0.08001232 0.037242252 nan 0.05006329 nan
            nan nan 0.019866971 0.03823637 0.11303808 0.0069147074
        """,
    }.items()
}
