"""Which values black and white of a picture have in the files that a bundle reads, as its parts tell.

The node has pictures of 0 to 1, files mostly hold 0 to 255, and a network that is given the one for the other answers
all the same. So it is known from what the preprocessing does with the values, or the metadata, or the card says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms.intensity import array, dictionary

from dicom_node.core.errors import ModelUnavailable

Range = tuple[float, float]

_FROM_RANGE = (array.ScaleIntensityRange, dictionary.ScaleIntensityRanged)
_STANDARDISING = (array.NormalizeIntensity, dictionary.NormalizeIntensityd)
#: Steps after which the scale that came in makes no difference.
_BY_ITSELF = (
    array.ScaleIntensity,
    dictionary.ScaleIntensityd,
    array.ScaleIntensityRangePercentiles,
    dictionary.ScaleIntensityRangePercentilesd,
    array.HistogramNormalize,
    dictionary.HistogramNormalized,
)
_UNIT, _EIGHT_BIT = (0.0, 1.0), (0.0, 255.0)
#: Between the largest number that speaks of 0 to 1 and the smallest that speaks of 0 to 255.
_BETWEEN = (1.0, 8.0)
#: How much smaller or larger than the metadata say the values of one image may well be.
_SAME = (0.1, 4.0)


@dataclass(frozen=True, slots=True)
class PictureScale:
    """The values of black and white, and what tells them; `None` where nothing does."""

    values: Range | None
    known_from: str = ""

    def required(self) -> Range:
        """Return the values. Raises `ModelUnavailable` naming the key of the card that must say them."""
        if self.values is None:
            raise ModelUnavailable(
                "Nothing says which values black and white have in the pictures that the bundle was trained on, and "
                "its answer depends on it. Say in the card: [preprocessing] range = [0, 255] for files of 8 bits, or "
                "[0, 1]."
            )
        return self.values

    def __str__(self) -> str:
        """Say it for people, as `models try` does."""
        if self.values is None:
            return "the scale of its pictures is not known: say [preprocessing] range in the card"
        return f"pictures of {self.values[0]:g} to {self.values[1]:g} (known from {self.known_from})"


def scale_of(said: Range | None, steps: Sequence[Any], metadata: Mapping[str, Any]) -> PictureScale:
    """Return what the card says, else what the preprocessing tells, else the metadata."""
    if said is not None:
        return PictureScale(said, "the card")
    return _of_steps(steps) or _of_metadata(metadata)


def value_range(metadata: Mapping[str, Any]) -> Range | None:
    """Return between which values the metadata say that the image lies, `None` where they do not."""
    found: Any = metadata
    for name in ("network_data_format", "inputs", "image", "value_range"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list) or len(found) != 2 or any(type(one) not in (int, float) for one in found):
        return None
    return float(found[0]), float(found[1])


def told_of_given(given: Range, metadata: Mapping[str, Any]) -> str:
    """Say which values the network was given, beside those that the metadata name, and whether they can be the same."""
    text, told = f"with values of {given[0]:.4g} to {given[1]:.4g}", value_range(metadata)
    if told is None:
        return text
    ratio = max(map(abs, given)) / (max(map(abs, told)) or 1.0)
    fits = "" if _SAME[0] <= ratio <= _SAME[1] else ", which does not fit: what of the values does it expect?"
    return f"{text}, its metadata say {told[0]:g} to {told[1]:g}{fits}"


def _of_steps(steps: Sequence[Any]) -> PictureScale | None:
    """The first step that looks at the values of the image decides."""
    for step in steps:
        name = type(step).__name__
        scaler = getattr(step, "scaler", getattr(step, "normalizer", step))
        if isinstance(step, _BY_ITSELF) and getattr(scaler, "factor", None) is None:
            return _any_scale(name)
        if isinstance(step, _STANDARDISING):
            numbers = [*_numbers(scaler.subtrahend), *_numbers(scaler.divisor)]
            return _by_size(numbers, name) if numbers else _any_scale(name)
        if isinstance(step, _FROM_RANGE):
            return _by_size([scaler.a_max], name)
    return None


def _of_metadata(metadata: Mapping[str, Any]) -> PictureScale:
    told = value_range(metadata)
    return PictureScale(told, "its metadata") if told in (_UNIT, _EIGHT_BIT) else PictureScale(None)


def _any_scale(name: str) -> PictureScale:
    return PictureScale(_UNIT, f"{name}, to which any scale is the same")


def _by_size(numbers: Sequence[float], name: str) -> PictureScale:
    """What is subtracted from a picture of 8 bits, or taken for its white, is far above 1. Of other numbers nobody
    knows, and what the metadata say is what comes out of this step."""
    largest = max(abs(float(one)) for one in numbers)
    if _BETWEEN[0] < largest < _BETWEEN[1] or largest > _EIGHT_BIT[1]:
        return PictureScale(None)
    return PictureScale(_UNIT if largest <= _BETWEEN[0] else _EIGHT_BIT, name)


def _numbers(value: Any) -> list[float]:
    return [] if value is None else [float(one) for one in np.ravel(value)]
