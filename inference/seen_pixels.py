"""Thinned copies of the pixels that a model was given, kept while it runs: so that nothing is decoded twice to describe
them. Each thread that runs a model has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import frame_number_of
from dicom_node.decoding.stored import Stored

#: About so many values are kept along each side of an image.
_SIDE = 128

Plane = NDArray[np.integer[Any] | np.floating[Any]]


@dataclass(slots=True)
class SeenPixels:
    """Stored values of images, thinned, by SOP Instance UID and frame."""

    _planes: dict[tuple[str, int | None], Plane] = field(default_factory=dict)

    def add(self, source: Dataset, stored: Stored) -> None:
        """Keep some of the values of an image (rows, columns)."""
        rows, columns = (max(1, size // _SIDE) for size in stored.shape)
        self._planes[_key(source)] = stored[::rows, ::columns].copy()

    def of(self, source: Dataset) -> Plane | None:
        """Return what was kept of an image; `None` where nobody has read it."""
        return self._planes.get(_key(source))


_SEEN: ContextVar[SeenPixels | None] = ContextVar("seen_pixels", default=None)


@contextmanager
def keeping_pixels() -> Iterator[SeenPixels]:
    """Keep thinned copies of the images that are read within."""
    seen = SeenPixels()
    before = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(before)


def note_pixels(source: Dataset, stored: Stored) -> None:
    """Say that the values of an image were read; nobody may want to know."""
    seen = _SEEN.get()
    if seen is not None and stored.ndim == 2:
        seen.add(source, stored)


def _key(source: Dataset) -> tuple[str, int | None]:
    return str(source.get("SOPInstanceUID", "")), frame_number_of(source)
