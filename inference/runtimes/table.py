"""Every runtime in one table: the module that loads its models, what it answers, and what it needs and refuses.

The standard library only, for the node reads cards without torch. Cards, digests, `models verify` and the page on
models derive from it. To add one: docs/how-to/extend.md, "A runtime".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CLASSIFIES = ("classification",)
#: Answers that are a list of numbers or a map of classes; boxes differ too much from network to network.
_TENSORS = ("classification", "regression", "segmentation")
_EVERYTHING = (*_TENSORS, "detection")
_ROOM = "dicom_node.inference.runtimes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One kind of model: `name` is the card's word, `module` has ``load(card, device)`` (`prediction.Load`).

    `tasks` are those of `inference.answers` that it serves, `explains` the words of `[explain] method` beside
    ``probability``; `extra` is what ``pip install dicom-node[…]`` must bring. `weights`, `refuses`: for the page.
    """

    name: str
    module: str
    tasks: tuple[str, ...]
    explains: tuple[str, ...] = ("occlusion",)
    extra: str = ""
    weights: str
    refuses: str
    #: Loading runs nothing of the folder and asks no server, so `models verify` does it before anybody has accepted
    #: the model. Of others that have weights, only these are read.
    verified_by_loading: bool = False


_ALL = (
    Runtime(
        name="monai-bundle",
        module=f"{_ROOM}.monai_bundle.model",
        tasks=_EVERYTHING,
        explains=("grad-cam", "grad-cam++", "occlusion"),
        extra="inference",
        weights="`.safetensors`, or a state dict",
        refuses="pickles, weights that do not fit the network",
    ),
    Runtime(
        name="torchscript",
        module=f"{_ROOM}.torchscript",
        tasks=_TENSORS,
        extra="inference",
        weights="of `torch.jit.save`",
        refuses="what is no TorchScript",
        verified_by_loading=True,
    ),
    Runtime(
        name="torch-export",
        module=f"{_ROOM}.exported",
        tasks=_TENSORS,
        extra="inference",
        weights="`.pt2` of `torch.export.save`",
        refuses="pickled objects and compiled code inside",
        verified_by_loading=True,
    ),
    Runtime(
        name="onnx",
        module=f"{_ROOM}.onnx",
        tasks=_TENSORS,
        extra="onnx",
        weights="`.onnx`, one file",
        refuses="weights kept in other files",
        verified_by_loading=True,
    ),
    Runtime(
        name="huggingface",
        module=f"{_ROOM}.huggingface",
        tasks=_TENSORS,
        explains=("occlusion", "attention-rollout"),
        extra="huggingface",
        weights="`model.safetensors`",
        refuses="pickles, a model's own code, missing tensors",
        verified_by_loading=True,
    ),
    Runtime(
        name="torchxrayvision",
        module=f"{_ROOM}.torchxrayvision",
        tasks=_CLASSIFIES,
        explains=("grad-cam", "grad-cam++", "occlusion"),
        extra="inference",
        weights="`model.safetensors`",
        refuses="other networks, findings that were not trained",
        verified_by_loading=True,
    ),
    Runtime(
        name="python",
        module=f"{_ROOM}.entry_point",
        tasks=_EVERYTHING,
        weights="none, or what the function reads",
        refuses="answers of a wrong shape",
    ),
    Runtime(
        name="open-inference",
        module=f"{_ROOM}.open_inference",
        tasks=_TENSORS,
        weights="none: it is on the server",
        refuses="plain http to another machine",
    ),
)
RUNTIMES: Mapping[str, Runtime] = {one.name: one for one in _ALL}
