"""Imports MONAI without two packages that double the time a worker takes to start, where they are installed.

MONAI imports all of itself at once. Of all of it TransChex alone wants `transformers`: a network of images with texts,
which the node has no inputs for. And jsonschema, which nobody asks here to check a description, builds a grammar
of addresses when it finds `rfc3987_syntax`. Whoever needs either itself imports it as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_LIGHTENED = "monai"
_LEFT_OUT = ("transformers", "rfc3987_syntax")


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _absent(*_LEFT_OUT):
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
def _absent(*names: str) -> Iterator[None]:
    """Have imports of packages fail as if they were not installed, but of those that are loaded by now."""
    hidden = [name for name in names if name not in sys.modules]
    # None is how the import system itself marks what is not there.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def install() -> None:
    """Have `import monai` leave them out in this process, from its first import on. Again: nothing happens."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
