"""What the files of a MONAI Bundle say of it, read as text: nothing of it runs, and neither torch nor MONAI is loaded.

It is less than the loaded bundle tells (`runtimes.monai_bundle`): an expression (``$…``) is not looked into, and what
is not written as a plain value is not known. So it serves to refuse early, and never to allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
#: Entries that exist while a network is trained or measured, and in no study.
_IN_TRAINING = frozenset({"label", "labels", "seg"})
#: Where networks write how many outputs they have.
_OUTPUTS = ("out_channels", "num_classes")
_PLAIN_NETWORK = re.compile(r"(monai\.networks\.nets\.\w+|torch\.nn\.Conv[23]d)|[A-Z]\w+")
_REFERENCE_PARTS = re.compile(r"::|#")


@dataclass(frozen=True, slots=True)
class WrittenBundle:
    """The configuration and the metadata of a bundle; what cannot be read is empty."""

    config: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def image_keys(self) -> tuple[str, ...]:
        """What it reads images as, each from files of its own; empty where that is not written out."""
        reader = next((one for one in _walk(self.config) if _kind(one).startswith("LoadImage")), {})
        named = self._followed(reader.get("keys", ()))
        keys = [named] if isinstance(named, str) else [self._followed(one) for one in named or ()]
        plain = all(isinstance(key, str) and not key.startswith(("$", "@")) for key in keys)
        return tuple(key for key in keys if key not in _IN_TRAINING) if plain else ()

    @property
    def input_channels(self) -> int | None:
        """How many channels the metadata say that the image has, `None` where they do not."""
        found = self.format_of("inputs", "image").get("num_channels")
        return found if isinstance(found, int) else None

    @property
    def network_outputs(self) -> int | None:
        """How many channels or classes the network gives, `None` where that is not written out."""
        network = self._followed(self.config.get("network_def"))
        if not isinstance(network, dict) or not _PLAIN_NETWORK.fullmatch(str(network.get("_target_"))):
            return None
        found = [self._followed(network[name]) for name in _OUTPUTS if name in network]
        return found[0] if len(found) == 1 and type(found[0]) is int else None

    def says(self, kind: str, argument: str) -> bool:
        """Tell whether a step of the postprocessing, `kind` or its like for dictionaries, is given an argument that is
        neither false nor absent."""
        steps = _walk(self._followed(self.config.get("postprocessing")))
        told = (self._followed(one.get(argument)) for one in steps if re.fullmatch(f"{kind}(d|D|Dict)?", _kind(one)))
        return any(_is_set(one) for one in told)

    @property
    def random_steps(self) -> tuple[str, ...]:
        """The steps around the network that draw what they do by lot (``RandFlipd``), as far as that is written out."""
        parts = [self._followed(self.config.get(name)) for name in ("preprocessing", "postprocessing")]
        steps = [one for one in _walk(parts) if one.get("_disabled_") is not True]
        return tuple(dict.fromkeys(_kind(one) for one in steps if _kind(one).startswith("Rand")))

    def format_of(self, part: str, name: str) -> Mapping[str, Any]:
        """Return an entry of the metadata's `network_data_format`, empty where there is none."""
        found: Any = self.metadata.get("network_data_format")
        for key in (part, name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _followed(self, value: Any) -> Any:
        """Return what a reference (``@network_def::out_channels``) stands for; anything else as it is."""
        for _ in range(8):
            if not isinstance(value, str) or not value.startswith("@"):
                return value
            found: Any = self.config
            for part in _REFERENCE_PARTS.split(value[1:]):
                found = found.get(part) if isinstance(found, Mapping) else None
            value = found
        return None


def read_written(folder: Path) -> WrittenBundle:
    """Read `configs/inference.json` or `.yaml`, and `configs/metadata.json`."""
    paths = [folder / "configs" / name for name in _CONFIGS]
    path = next((one for one in paths if one.is_file()), None)
    return WrittenBundle(_read(path) if path else {}, _read(folder / "configs" / "metadata.json"))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _yaml(text: str) -> object:
    try:
        import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 - of the runtime of bundles, perhaps not here
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return {}


def _walk(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every table at and below a value, those above first."""
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from _walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from _walk(one)


def _kind(table: Mapping[str, Any]) -> str:
    return str(table.get("_target_", "")).rpartition(".")[2]


def _is_set(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_set(one) for one in value)
    return value is not None and value is not False and not (isinstance(value, str) and value.startswith("$"))
