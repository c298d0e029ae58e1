"""The configuration of a MONAI Bundle as it was published, made ready to be given arrays instead of files.

What reads and writes files is left out; the device and the folder are the node's; everything else runs as written.
A bundle's configuration and scripts are code: only what the operator has accepted gets here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from monai.bundle.config_parser import ConfigParser
from monai.transforms.compose import Compose
from monai.transforms.transform import MapTransform, Randomizable

from dicom_node.core.errors import ModelUnavailable

#: Entries that exist while a network is trained or measured, and in no study.
TRAINING_KEYS = frozenset({"label", "labels", "seg"})

_NAMES = ("inference.json", "inference.yaml", "inference.yml")
_READS_FILES = re.compile(r"^LoadImage")
_WRITES_FILES = re.compile(r"^(Save|Write)|Saver|Writer")
#: Arguments that published bundles still pass and that MONAI has dropped because they meant nothing any more.
_DROPPED_ARGUMENTS = {"SwinUNETR": ("img_size",)}
_FIXED_CUDA = re.compile(r"torch\.device\(\s*(['\"])cuda(:\d+)?\1\s*\)")


@dataclass(frozen=True, slots=True)
class Loading:
    """How the bundle's own first transform would have read its files, so that arrays can come in that form.

    `keys` are the entries it reads (`None`: the bundle reads no files and is given channels, rows, columns);
    `channel_first` whether it puts the channel in front itself; `channel_dim` where a following
    EnsureChannelFirst is told to find it; `meta_dicts` whether each entry gets a second one with what its file said;
    `column_first` whether pictures come as (columns, rows), as MONAI's
    readers give them; `dictionary` whether the transforms work on dictionaries.
    """

    keys: tuple[str, ...] | None = None
    channel_first: bool = False
    channel_dim: int | str | None = None
    expects_channel: bool = False
    meta_dicts: bool = False
    column_first: bool = True
    dictionary: bool = True


@dataclass(slots=True)
class BundleConfig:
    """A parsed bundle. `get` makes an object of it once; the bundle's own modules are visible meanwhile."""

    folder: Path
    parser: ConfigParser
    loading: Loading
    metadata: Mapping[str, Any]
    _own_modules: dict[str, ModuleType] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return the object the configuration defines under a name, `None` when it defines none."""
        return self.parser.get_parsed_content(name) if name in self.parser else None

    def mentions(self, word: str) -> bool:
        """Tell whether the configuration names something, whatever the case."""
        return word.lower() in json.dumps(self.parser.get(), default=str).lower()

    @contextmanager
    def own_modules(self) -> Iterator[None]:
        """Let `scripts.…` mean this bundle's scripts: every bundle calls its package so, and one process runs many."""
        others = _take_modules(self.folder, ours=False)
        sys.modules.update(self._own_modules)
        sys.path.insert(0, str(self.folder))
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            yield
        finally:
            sys.dont_write_bytecode = writes_bytecode
            sys.path.remove(str(self.folder))
            self._own_modules = _take_modules(self.folder, ours=True)
            sys.modules.update(others)


def read_config(folder: Path, device: str) -> BundleConfig:
    """Read `configs/inference.json` or `.yaml` and `configs/metadata.json`. Raises `ModelUnavailable` for neither."""
    paths = [folder / "configs" / name for name in _NAMES]
    path = next((one for one in paths if one.is_file()), None)
    if path is None:
        raise ModelUnavailable(f"Bundle {folder} has no configs/{' or '.join(_NAMES)}. Restore the bundle.")
    content = dict(ConfigParser.load_config_file(str(path)))
    metadata = _metadata(folder)
    _settle(content, folder, device)
    loading = _loading(content)
    _leave_out_files(content)
    return BundleConfig(folder, ConfigParser({**content, "_meta_": metadata}), loading, metadata)


def transforms_of(composed: Any) -> tuple[Any, ...]:
    """Return the single transforms of a Compose, or the one callable there is."""
    if composed is None:
        return ()
    if not isinstance(composed, Compose):
        return (composed,)
    flat: Any = composed.flatten()  # type: ignore[no-untyped-call]
    return tuple(flat.transforms)


def require_certain(composed: Any) -> None:
    """Raise `ModelUnavailable` for steps that draw what they do by lot, as in training: a study must be answered the
    same way each time."""
    drawing = [type(one).__name__ for one in transforms_of(composed) if isinstance(one, Randomizable)]
    if drawing:
        raise ModelUnavailable(
            f"{', '.join(dict.fromkeys(drawing))} of the bundle draws by lot what it does, so that one study is "
            "answered otherwise each time. It belongs to training: remove it from preprocessing and postprocessing."
        )


def allow_absent(composed: Any, present: frozenset[str], absent: frozenset[str]) -> None:
    """Let transforms work on the keys there are where others, labels for instance, exist in training only."""
    for one in transforms_of(composed):
        # Scripts of strangers inherit from MapTransform and may never call its constructor.
        keys = frozenset(map(str, getattr(one, "keys", ()))) if isinstance(one, MapTransform) else frozenset()
        if keys & absent or (keys & present and keys - present):
            one.allow_missing_keys = True


def _metadata(folder: Path) -> Mapping[str, Any]:
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelUnavailable(f"{path} is not readable as JSON ({error}). Restore the bundle.") from error
    return found if isinstance(found, dict) else {}


def _settle(content: dict[str, Any], folder: Path, device: str) -> None:
    """Put in what the node decides: where the bundle lies, where it computes, and that nothing is downloaded."""
    content["bundle_root"] = str(folder)
    if "device" in content:
        content["device"] = f"$torch.device('{device}')"
    for holder, key, value in _entries(content):
        if isinstance(value, str) and value.startswith("$"):
            holder[key] = _FIXED_CUDA.sub(f"torch.device('{device}')", value)
        elif key == "pretrained" and value is True:
            holder[key] = False  # the card's weights replace them; a node downloads nothing
        for dropped in _DROPPED_ARGUMENTS.get(_class_name(value), ()):
            value.pop(dropped, None)


def _leave_out_files(content: dict[str, Any]) -> None:
    for _, _, value in _entries({"": content}):
        name = _class_name(value)
        if _READS_FILES.search(name) or _WRITES_FILES.search(name):
            value["_disabled_"] = True


def _loading(content: dict[str, Any]) -> Loading:
    """Say how the first transform reads. Lists of transforms may stand anywhere and be joined by an expression."""
    transforms = [value for _, _, value in _entries(content) if _class_name(value)]
    readers = [one for one in transforms if _READS_FILES.search(_class_name(one))]
    parser = ConfigParser(content)
    readers = [one for one in readers if not _resolved(parser, one.get("_disabled_", False))]
    if not readers:
        return Loading()
    reader = readers[0]
    named = _resolved(parser, reader.get("keys", "image"))
    keys = tuple(key for key in ((named,) if isinstance(named, str) else named) if key not in TRAINING_KEYS)
    following = next((one for one in transforms if _class_name(one).startswith("EnsureChannelFirst")), None)
    return Loading(
        keys=keys or ("image",),
        channel_first=_resolved(parser, reader.get("ensure_channel_first", False)) is True,
        channel_dim=_resolved(parser, following.get("channel_dim")) if following else None,
        expects_channel=following is not None,
        meta_dicts=_resolved(parser, reader.get("image_only", True)) is False,
        column_first=_resolved(parser, reader.get("reverse_indexing", True)) is not False,
        dictionary=_class_name(reader) != "LoadImage",
    )


def _resolved(parser: ConfigParser, value: Any) -> Any:
    """Return a literal or what a reference or expression stands for."""
    if isinstance(value, list):
        return [_resolved(parser, one) for one in value]
    if isinstance(value, str) and value.startswith("@"):
        return parser.get_parsed_content(value[1:])
    if isinstance(value, str) and value.startswith("$"):
        parser["_asked_"] = value
        return parser.get_parsed_content("_asked_")
    return value


def _entries(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Walk all of a configuration: container, key or index, value."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, below in pairs:
        yield value, key, below
        yield from _entries(below)


def _class_name(value: Any) -> str:
    target = value.get("_target_") if isinstance(value, dict) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def _take_modules(folder: Path, *, ours: bool) -> dict[str, ModuleType]:
    """Remove from the loaded modules those of the folder, or those of the same names from elsewhere; return them."""
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    names |= {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    taken = {}
    for name in [one for one in sys.modules if one.partition(".")[0] in names]:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", []))]
        if any(place.startswith(str(folder) + "/") for place in places) == ours:
            taken[name] = sys.modules.pop(name)
    return taken
