"""What a model brings that runs, named one by one: whoever accepts it is to have read it. Nothing of it is run here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.digest import folder_files

_CONFIGURED = frozenset({".json", ".yaml", ".yml"})
_COMPILED = frozenset({".so", ".dll", ".dylib", ".pyd", ".exe"})
#: Of what a bundle's configuration makes by name, what is no code of strangers.
_LIBRARIES = (
    "monai.networks.", "monai.transforms.", "monai.inferers.", "monai.data.", "monai.handlers.", "monai.engines.",
    "monai.apps.", "monai.losses.", "monai.metrics.", "torch.nn.", "torch.optim.", "torch.utils.data.",
)  # fmt: skip
#: A line of YAML whose value is an expression, or which names what is made.
_YAML_CODE = re.compile(r"[\"']?\$|_target_\s*:")
#: What a weights file is, by runtime, where it is more than numbers.
_PROGRAMS = {
    "torchscript": "a TorchScript program: it runs when it is read and when it is asked, and can ask for files",
    "torch-export": "an exported program: a graph of torch's own operators",
    "onnx": "an ONNX program: a graph of operators of ONNX Runtime",
}
_NONE = "none: its weights are read as data and run by the node's own code"


def code_of(card: ModelCard) -> list[str]:
    """Return a line for every expression, script and program of a model; one that says so where there is none."""
    return [*_programs(card), *_beside_the_node(card), *_in_folder(card.folder)] or [_NONE]


def _programs(card: ModelCard) -> Iterator[str]:
    if card.weights_file is not None and card.runtime in _PROGRAMS:
        yield f"{card.weights_file.name}: {_PROGRAMS[card.runtime]}"
    if card.server is not None:
        yield "none on this machine: it runs on the server that its card names"


def _beside_the_node(card: ModelCard) -> Iterator[str]:
    if card.entry_point:
        yield f"Python: {card.entry_point}"
    yield from (f"Python: module {module}" for module in card.modules)


def _in_folder(folder: Path) -> Iterator[str]:
    try:
        files = list(folder_files(folder))
    except ModelUnavailable:  # told by the point that looks at the files
        return
    for name, path in files:
        if path.suffix == ".py":
            lines = len(path.read_text(encoding="utf-8", errors="replace").splitlines())
            yield f"{_shown(name)}: Python, {lines} lines"
        elif path.suffix in _COMPILED:
            yield f"{_shown(name)}: compiled code"
        elif path.suffix in _CONFIGURED:
            yield from (f"{_shown(name)}: {_shown(one)}" for one in _expressions(path))


def _expressions(path: Path) -> Iterator[str]:
    """Return what a configuration has evaluated (``$…``) or made by name, but for MONAI's and torch's own parts."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".json":
        yield from (line.strip() for line in text.splitlines() if _YAML_CODE.search(line) and not _is_ours(line))
        return
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _coded(content, "")


def _is_ours(line: str) -> bool:
    return line.partition("_target_")[2].lstrip(" :'\"").startswith(_LIBRARIES)


def _coded(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _coded(one, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _coded(one, f"{place}[{number}]")
    elif isinstance(value, str) and _runs(value, place):
        yield f"{place} = {value}"


def _runs(text: str, place: str) -> bool:
    made = place.rpartition(".")[2] == "_target_" and "." in text and not text.startswith(_LIBRARIES)
    return text.startswith("$") or made


def _shown(text: str) -> str:
    """Return text as it may be shown: it comes from strangers, and could move a cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
