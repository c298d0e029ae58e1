"""The node's own code that shapes a model's answers: followed from import to import, without importing any of it.

Imports inside functions are followed too. What is named at run time only (a card's runtime, task and entry point,
targets in a bundle's configuration) is where the way begins: `ModelCard.answering_code`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import dicom_node
from dicom_node.inference.former_names import present_name

#: The package as it is imported, through the links (design: the top folders are linked into `dicom_node`).
PACKAGE = Path(dicom_node.__file__).parent
#: Modules that a model's code imports and that see no pixel and no answer: the way ends here. All others are followed.
SHAPES_NO_ANSWER = {
    "dicom_node.logs": "writes log lines",
    "dicom_node.sandbox": "limits and measures the process that a model runs in",
}
#: Files that decide what a module answers, and that it reads when it is imported or first asked.
READ_BY = {
    "dicom_node.core.codes": "config/terminology/*.toml",
    "dicom_node.inference.images.radiographs.frontal_chest": "inference/images/radiographs/frontal_chest.safetensors",
}

#: Files in which a model may name parts of the node: code, and the configuration of a bundle.
_NAMING = frozenset({".py", ".json", ".yaml", ".yml"})
_NAMED = re.compile(r"\bdicom_node(?:\.\w+)+")


def own_code(starts: Collection[str], package: Path = PACKAGE) -> Iterator[tuple[str, Path]]:
    """Return the files of everything that the modules `starts` import from the node's package, them included.

    A start may also be something inside a module (``dicom_node.inference.ensemble.MirroredEnsemble``).
    """
    for name, path in modules_below(frozenset(starts), package).items():
        yield f"code/{path.relative_to(package).as_posix()}", path
        for data in sorted(package.glob(READ_BY[name])) if name in READ_BY else ():
            yield f"code/{data.relative_to(package).as_posix()}", data


def exists(module: str, package: Path = PACKAGE) -> bool:
    """Tell whether a dotted name is a module of the node's package."""
    return _path_of(present_name(module), package) is not None


def names_in(path: Path) -> tuple[str, ...]:
    """Return what a file that is no part of the node names of the node: its imports, or targets of a configuration."""
    return _names_in(path, _state_of(path)) if path.suffix in _NAMING else ()


@lru_cache(maxsize=64)
def modules_below(starts: frozenset[str], package: Path) -> dict[str, Path]:
    """Return every module reached from `starts`, by name: a package counts as soon as something in it does."""
    found: dict[str, Path] = {}
    waiting = list(starts)
    while waiting:
        name = present_name(waiting.pop())
        if not name or name in found or name in SHAPES_NO_ANSWER or name.rpartition(".")[0] in SHAPES_NO_ANSWER:
            continue
        waiting.append(name.rpartition(".")[0])
        path = _path_of(name, package)
        if path is not None:
            found[name] = path
            waiting.extend(names_in(path))
    return found


def _state_of(path: Path) -> tuple[int, ...]:
    seen = path.stat()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@lru_cache(maxsize=1024)
def _names_in(path: Path, state: tuple[int, ...]) -> tuple[str, ...]:  # noqa: ARG001 - part of what the cache goes by
    """Return every dotted name in the node's package; ``from a import b`` may be ``a.b``."""
    if path.suffix != ".py":
        return tuple(_NAMED.findall(path.read_text(encoding="utf-8", errors="replace")))
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # it cannot be imported either
    names = (name for node in ast.walk(tree) for name in _imported(node))
    return tuple(name for name in names if name.partition(".")[0] == PACKAGE.name)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _path_of(name: str, package: Path) -> Path | None:
    root, *below = name.split(".")
    if root != package.name:
        return None
    place = package.joinpath(*below)
    if (place / "__init__.py").is_file():
        return place / "__init__.py"
    module = place.with_suffix(".py")
    return module if below and module.is_file() else None
