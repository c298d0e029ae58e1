"""Making what can be made: an optional kind of object that fails must not cost the report."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import PurePath
from typing import TypeVar

from dicom_node.analysis import NotMade
from dicom_node.model import ArtifactKind

T = TypeVar("T")

#: What builders of objects raise on values they do not expect. Not `NotAnalysable`, since then nothing may be written;
#: and neither lack of memory nor of a disk, which a further attempt may have.
BUILD_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_NAMES = {
    ArtifactKind.SECONDARY_CAPTURE: "pictures",
    ArtifactKind.SEGMENTATION: "segmentation",
    ArtifactKind.PARAMETRIC_MAP: "parametric maps",
    ArtifactKind.PRESENTATION_STATE: "presentation states",
    ArtifactKind.KEY_OBJECTS: "key images",
    ArtifactKind.ENCAPSULATED_PDF: "report as PDF",
}


class Attempt:
    """Makes kind by kind; errors of the classes `passed_over` end a kind and are noted, all others are raised."""

    def __init__(self, passed_over: tuple[type[Exception], ...]) -> None:
        self._passed_over = passed_over
        self.not_made: list[NotMade] = []

    def made(self, kind: ArtifactKind, objects: Iterable[T]) -> list[T]:
        """Return the objects as far as they can be made."""
        made: list[T] = []
        try:
            for one in objects:
                made.append(one)  # noqa: PERF402 - what is made before an error counts
        except self._passed_over as error:
            self.not_made.append(
                NotMade(kind=kind, name=_NAMES[kind], error=type(error).__name__, where=_origin(error), made=len(made))
            )
        return made


def _origin(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{PurePath(frame.filename).name}:{frame.lineno}"
