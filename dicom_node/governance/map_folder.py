"""What lies in a folder that is to become a model: a MONAI Bundle, or a MONAI Application Package with one inside.

An application package (MAP) is a container image; unpacked, it has manifests (``app.json``, ``pkg.json``), the program
of the application, and its models (MONAI Deploy, "MONAI Application Package", version 1.0). Only the bundle is taken:
what the program does with studies, the node does itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.core.errors import SettingsError

_MANIFESTS = ("app.json", "pkg.json")
_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
#: Levels below the folder that are looked into: ``opt/holoscan/models/NAME/configs``, and some room.
_DEEPEST = 7
_MOST_TOLD = 8


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """A bundle's folder, its `name` and `version` as its metadata have them ("" where they do not), and what lies
    beside it in a package and is not taken."""

    folder: Path
    name: str
    version: str
    left_out: tuple[str, ...] = ()


def find_bundle(folder: Path) -> FoundBundle:
    """Return the one bundle of a folder. Raises `SettingsError` where there is none, or more than one."""
    if _is_bundle(folder):
        return _told(folder)
    packaged = sorted({path.name for path in _walk(folder) if path.name in _MANIFESTS})
    bundles = [path for path in _walk(folder) if path.is_dir() and _is_bundle(path)]
    if len(bundles) == 1:
        return _told(bundles[0], tuple(_beside(folder, bundles[0])))
    kind = f"an application package ({', '.join(packaged)})" if packaged else "neither a model nor a bundle"
    if bundles:
        names = ", ".join(str(path.relative_to(folder)) for path in bundles)
        raise SettingsError(f"{folder} is {kind} with {len(bundles)} bundles: {names}. Add each by its own folder.")
    scripts = [str(path.relative_to(folder)) for path in _walk(folder) if path.suffix == ".ts"]
    told = f" It has TorchScript files, {', '.join(scripts[:_MOST_TOLD])}: give one with a card of runtime torchscript."
    raise SettingsError(
        f"{folder} is {kind}: no folder in it has a model_card.toml, or configs/metadata.json and "
        f"configs/inference.json.{told if scripts else ''}"
    )


def _is_bundle(folder: Path) -> bool:
    configs = folder / "configs"
    return (configs / "metadata.json").is_file() and any((configs / name).is_file() for name in _CONFIGS)


def _told(folder: Path, left_out: tuple[str, ...] = ()) -> FoundBundle:
    try:
        found: Any = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = {}
    about = found if isinstance(found, dict) else {}
    name, version = (value if isinstance(value := about.get(key), str) else "" for key in ("name", "version"))
    return FoundBundle(folder, name, version, left_out)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder, links to folders not followed."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if len(Path(parent).relative_to(folder).parts) >= _DEEPEST:
            folders.clear()
        yield from (Path(parent, name) for name in (*folders, *sorted(files)))


def _beside(folder: Path, bundle: Path) -> Iterator[str]:
    """Yield what lies in the folder and not in the bundle: the highest folders and files on the way to it."""
    way = bundle.relative_to(folder).parts
    for depth in range(len(way)):
        here = folder.joinpath(*way[:depth])
        for path in sorted(here.iterdir()):
            if path.name != way[depth]:
                yield str(path.relative_to(folder)) + ("/" if path.is_dir() else "")
