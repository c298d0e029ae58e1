"""What a confined worker is given for one job, and what is taken from it.

Its inputs are linked into its own folder, and what it made is moved out of there as one: it sees no other study, and
changes nothing that was taken.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicom_node.analysis.context import AnalysisRequest
from dicom_node.core.errors import InferenceError
from dicom_node.sandbox.confinement import Confinement


@dataclass(frozen=True, slots=True)
class JobFolders:
    """The two folders of one job: what the worker may read, and where it leaves its results."""

    inputs: Path
    out: Path
    _linked: dict[Path, Path] = field(default_factory=dict)

    def link(self, path: Path) -> Path:
        """Return where the worker finds a file: under its own name, with a number where two have the same.

        One that is missing is missing there, too: the worker tells.
        """
        if path not in self._linked:
            here = self.inputs / path.name
            if here in self._linked.values():
                here = self.inputs / f"{len(self._linked)}-{path.name}"
            self._linked[path] = here
            with suppress(FileNotFoundError):
                _link_or_copy(path.resolve(), here)
        return self._linked[path]

    def links(self, paths: Iterable[Path]) -> tuple[Path, ...]:
        """Return where the worker finds files."""
        return tuple(map(self.link, paths))

    def request(self, request: AnalysisRequest) -> AnalysisRequest:
        """Return the request as the worker gets it."""
        files = tuple(replace(one, path=self.link(one.path)) for one in request.files)
        return replace(request, files=files, out_dir=self.out)

    def move_results(self, wanted: Path) -> None:
        """Make the folder of results the one at `wanted`, which is an empty folder or none. Raises `InferenceError`.

        It is one step, after which the worker, whatever it still does, reaches nothing of it.
        """
        try:
            self.out.rename(wanted)
        except OSError as error:
            raise InferenceError(
                f"The results of the worker process cannot be taken ({error.strerror}). Workers and jobs need folders "
                "on one file system."
            ) from error


@contextmanager
def handed_over(confinement: Confinement) -> Iterator[JobFolders]:
    """Make the folders of one job; at the end the worker has nothing of it any more."""
    name = uuid.uuid4().hex
    given = JobFolders(confinement.inputs / name, confinement.out / name)
    for folder in (given.inputs, given.out):
        folder.mkdir(parents=True, mode=0o700)
    try:
        yield given
    finally:
        for folder in (given.inputs, given.out):
            shutil.rmtree(folder, ignore_errors=True)


def _link_or_copy(path: Path, here: Path) -> None:
    """A link where it can be: the same file system, and not too many links already."""
    try:
        here.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, here)
