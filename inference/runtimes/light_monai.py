"""Imports MONAI without `transformers`, where that is installed: it doubled the time a worker takes to start.

MONAI imports all of itself at once, and of all of it TransChex alone wants transformers: a network of images with
texts, which the node has no inputs for. Whoever needs transformers itself, a Hugging Face model, imports it as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_LIGHTENED = "monai"
_LEFT_OUT = "transformers"


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _absent(_LEFT_OUT):
            super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _LIGHTENED else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Have imports of a package fail as if it were not installed, unless it is loaded by now."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how the import system itself marks what is not there
    try:
        yield
    finally:
        del sys.modules[name]


def install() -> None:
    """Have `import monai` leave transformers out in this process, from its first import on. Again: nothing happens."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
