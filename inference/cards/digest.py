"""What decides a model's answers, as digests: of its folder (what an operator accepts), and with the code that runs it.

Nothing of a model is imported here, and no parent package of its modules either: a card is read before it is trusted.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.own_code import PACKAGE, exists

#: In the folder, and read by people or by the node's tests of the model; they do not change an answer.
_NOT_DECIDING = ("docs/", "golden/", "metrics.json")


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return every file of a model folder by its name inside, in order.

    Raises `ModelUnavailable` for what could be run or read in place of what was looked at: compiled Python, and
    links that lead out of the folder, where a confined model reads nothing.
    """
    for parent, folders, files in os.walk(folder):
        for name in sorted(folders):
            path = Path(parent, name)
            if name == "__pycache__":
                raise ModelUnavailable(
                    f"{path} holds compiled Python, which could run in place of its source. Delete it."
                )
            if path.is_symlink():
                raise ModelUnavailable(f"{path} is a link to another folder. Put the files themselves there.")
        folders.sort()
        for name in sorted(files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                raise ModelUnavailable(f"{path} is a link out of the model's folder. Put the file itself there.")
            yield path.relative_to(folder).as_posix(), path


def decides(name: str) -> bool:
    """Tell whether a file of a model folder can change its answers."""
    return not (name.startswith((*_NOT_DECIDING, "LICENSE", ".")) or name.endswith(".md"))


def digest_of(parts: Iterable[tuple[str, Path]]) -> str:
    """sha256 (hex) over labelled files, whatever their order; a file that is missing counts as such."""
    total = hashlib.sha256()
    for label, path in sorted(parts):
        total.update(f"{label}\0{sha256_of(path) if path.is_file() else 'missing'}\n".encode())
    return total.hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file; read again only when its size, times or place on disk have changed."""
    seen = path.stat()
    return _sha256(path, (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))


@lru_cache(maxsize=4096)
def _sha256(path: Path, seen: tuple[int, ...]) -> str:  # noqa: ARG001 - part of what the cache goes by
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def module_files(modules: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Return the sources of those modules that are no part of the node.

    Raises `ModelUnavailable` for one that is not importable, be it of the node or not.
    """
    for module in modules:
        if module.partition(".")[0] != PACKAGE.name:
            yield f"code/{module}", _source_of(module)
        elif not exists(module):
            raise _not_importable(module)


def _source_of(module: str) -> Path:
    """Find a module the way an import would, without importing the packages above it."""
    name, *below = module.split(".")
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    for part in below:
        name = f"{name}.{part}"
        places = found.submodule_search_locations if found else None
        found = importlib.machinery.PathFinder.find_spec(name, list(places)) if places else None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise _not_importable(module)
    return Path(found.origin)


def _not_importable(module: str) -> ModelUnavailable:
    return ModelUnavailable(f"Module {module} of a model card is not importable. Install it or fix the card.")
