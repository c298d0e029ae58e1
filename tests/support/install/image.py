"""The Dockerfile step by step, without a container engine: each stage's commands run in a layer of its own.

`RUN`, `COPY`, `ARG`, `ENV` and `WORKDIR` change what a stage is; what the others say is read by `containers`. Where pip
and npm of this machine find what they fetch, a stage finds it, too.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import Template

from tests.support.install.bare_root import BareRoot
from tests.support.install.containers import instructions
from tests.support.needs import REPOSITORY
from tests.unit.test_packaging import tracked_files

_PATH = re.compile(r"(?:file://)?(/[^\s,]+)")
_NOT_A_STEP = frozenset({"USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"})


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM` and what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def stages() -> Mapping[str, Stage]:
    """Return the stages of the Dockerfile, in order."""
    found: dict[str, Stage] = {}
    for word, text in instructions((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")):
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            found[name] = Stage(name, base)
        elif found:
            found[[*found][-1]].steps.append((word, text))
    return found


@dataclass(slots=True)
class Replay:
    """Builds stages; `arguments` are those of `docker build --build-arg`, `lent` is beside them in the environment."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    lent: Mapping[str, str] = field(default_factory=dict)
    made: dict[str, BareRoot] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)
    _folder: PurePosixPath = field(default_factory=PurePosixPath)

    def build(self, stage: Stage, root: BareRoot, *words: str) -> None:
        """Take the steps of a stage in a root that is its base; with `words` only those."""
        self._said, self._folder = {}, PurePosixPath("/")
        self.made[stage.name] = root
        for word, text in stage.steps:
            if word in _NOT_A_STEP or (words and word not in words):
                continue
            getattr(self, f"_{word.lower()}")(root, text)

    def environment(self) -> Mapping[str, str]:
        """Return what the last stage's commands were given by it."""
        return dict(self._said)

    def _arg(self, _root: BareRoot, text: str) -> None:
        name, _, default = text.partition("=")
        self._said[name] = self.arguments.get(name, shlex.split(default)[0])

    def _env(self, _root: BareRoot, text: str) -> None:
        known = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **self._said}
        for pair in shlex.split(Template(text).safe_substitute(known)):
            name, _, value = pair.partition("=")
            self._said[name] = value

    def _workdir(self, root: BareRoot, text: str) -> None:
        self._folder /= text
        (root / str(self._folder)).mkdir(parents=True, exist_ok=True)

    def _run(self, root: BareRoot, text: str) -> None:
        root.run(f"cd {self._folder}\n{text}", **{**self.lent, **self._said})

    def _copy(self, root: BareRoot, text: str) -> None:
        *sources, target = text.split()
        place = root / str(self._folder / target)
        if text.startswith("--from="):
            stage, source = sources
            made = self.made[stage.removeprefix("--from=")]
            shutil.copytree(made / source, place, symlinks=True, dirs_exist_ok=True)
            return
        for name in _context(*sources):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, place / name, follow_symlinks=False)


def _context(*sources: str) -> Iterator[str]:
    """What the engine is given: what git holds."""
    for name in tracked_files():
        if sources == (".",) or name in sources:
            yield name


def lent_environment() -> Mapping[str, str]:
    """Return where pip and npm of this machine find what they fetch, and whom they trust, as variables."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = {"NODE_EXTRA_CA_CERTS": os.environ.get("NODE_EXTRA_CA_CERTS", "")}
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        found[f"PIP_{name.rpartition('.')[2].upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    return {name: value for name, value in found.items() if value}


def lent_places(environment: Mapping[str, str]) -> list[Path]:
    """Return the files and folders of this machine that these variables name; of an index, what lies beside it, too."""
    named = {Path(path) for value in environment.values() for path in _PATH.findall(value)}
    whole = {path.parent if path.name == "simple" else path for path in named}
    return sorted(path for path in whole if path.exists())
