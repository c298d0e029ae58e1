"""What is told of the images and the answer of an analysis so that drift can be seen: technique, grey, framing, scores.

A few header values that say how images were made, and statistics of three of them, of the thinned copies that were kept
when the model read them: milliseconds. No attribute that is about the patient is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.analysis.answer import Analysis, NotAnalysed, state_of
from dicom_node.core.drift.features import LOOKS_DISTANCE, MODEL_NAME, OUTCOME, STATION, score_of
from dicom_node.core.entities import Finding
from dicom_node.decoding.stored import padding_mask
from dicom_node.inference.seen_pixels import SeenPixels

_NUMBERS = ("KVP", "Exposure", "ExposureTime", "SliceThickness", "SpacingBetweenSlices", "Rows", "Columns",
            "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength")  # fmt: skip
_WORDS = ("ConvolutionKernel", "SoftwareVersions", "ViewPosition", "PhotometricInterpretation", "ScanningSequence",
          "FilterType", "PatientPosition")  # fmt: skip
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
#: So many images are looked at.
_IMAGES = 3

_Plane = NDArray[np.float32]


def features_of(
    answer: Analysis | NotAnalysed, seen: SeenPixels, look_distances: Sequence[float]
) -> dict[str, float | str]:
    """Return the features of an analysis by name; of images that nobody read, those of the headers."""
    found: dict[str, float | str] = {OUTCOME: _outcome(answer)}
    if answer.sources:
        header = answer.sources[0]
        found |= dict(_scanner(header)) | dict(_technique(header)) | {"images": float(len(answer.sources))}
    if isinstance(answer, Analysis):
        found |= dict(_pixels(answer.sources, seen)) | dict(_outputs(answer.findings))
    if look_distances:
        found[LOOKS_DISTANCE] = max(look_distances)
    return found


def _outcome(answer: Analysis | NotAnalysed) -> str:
    return answer.reason if isinstance(answer, NotAnalysed) else state_of(answer).value


def _scanner(header: Dataset) -> Iterator[tuple[str, str]]:
    yield STATION, _word(header.get("StationName"))
    yield MODEL_NAME, _word(header.get("ManufacturerModelName"))


def _technique(header: Dataset) -> Iterator[tuple[str, float | str]]:
    for keyword in _NUMBERS:
        value = header.get(keyword)
        if isinstance(value, int | float):
            yield f"tag.{keyword}", float(value)
    for keyword in _SPACINGS:
        value = header.get(keyword)
        if isinstance(value, MultiValue) and value and isinstance(value[0], int | float):
            yield f"tag.{keyword}", float(value[0])
    for keyword in _WORDS:
        if word := _word(header.get(keyword)):
            yield f"tag.{keyword}", word


def _word(value: object) -> str:
    parts = value if isinstance(value, MultiValue) else [value]
    return "\\".join(str(one) for one in parts if one is not None)


# --- grey and framing --------------------------------------------------------------------------------------------


def _pixels(sources: Sequence[Dataset], seen: SeenPixels) -> Iterator[tuple[str, float]]:
    """Yield statistics of the values, and of where in the field what is bright lies."""
    places = sorted({(2 * place + 1) * len(sources) // (2 * _IMAGES) for place in range(_IMAGES)})
    planes = [plane for place in places if (plane := _thinned(sources[place], seen)) is not None]
    if not planes:
        return
    values = np.concatenate([plane.ravel() for plane in planes])
    low, dark, median, bright, high = (float(one) for one in np.percentile(values, [2, 5, 50, 95, 98]))
    yield "pixels.mean", float(values.mean())
    yield "pixels.sd", float(values.std())
    yield "pixels.p05", dark
    yield "pixels.p50", median
    yield "pixels.p95", bright
    if high > low:
        yield from _framing([plane > (low + high) / 2 for plane in planes])


def _thinned(source: Dataset, seen: SeenPixels) -> _Plane | None:
    """Return rescaled values as far as they were kept; padding becomes the lowest of the others."""
    stored = seen.of(source)
    if stored is None or not stored.size:
        return None
    values: _Plane = stored.astype(np.float32)
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if isinstance(slope, int | float) and isinstance(intercept, int | float):
        values = values * np.float32(slope) + np.float32(intercept)
    padded = padding_mask(source, stored)
    if padded.any() and not padded.all():
        values[padded] = values[~padded].min()
    return values


def _framing(bright: Sequence[NDArray[np.bool_]]) -> Iterator[tuple[str, float]]:
    """Yield how much of the field is bright, how much of its rim, and how far its centre lies from the field's."""
    yield "framing.fill", float(np.mean([one.mean() for one in bright]))
    rims = [np.concatenate([one[0], one[-1], one[:, 0], one[:, -1]]).mean() for one in bright]
    yield "framing.rim", float(np.mean(rims))
    yield "framing.offset", float(np.mean([_offset(one) for one in bright]))


def _offset(bright: NDArray[np.bool_]) -> float:
    rows, columns = np.nonzero(bright)
    if not len(rows):
        return 0.0
    height, width = bright.shape
    return float(np.hypot((rows.mean() + 0.5) / height - 0.5, (columns.mean() + 0.5) / width - 0.5))


# --- what the model said -----------------------------------------------------------------------------------------


def _outputs(findings: Sequence[Finding]) -> Iterator[tuple[str, float | str]]:
    for finding in findings:
        if finding.probability is not None:
            # What is a rank among others, or another number of the model's own, is nothing to expect frequencies of.
            name = f"measure.{finding.key}.{finding.score.meaning}" if finding.score else score_of(finding.key)
            yield name, finding.probability
        if finding.presence is not None:
            yield f"presence.{finding.key}", finding.presence.value
        for measurement in finding.measurements:
            yield f"measure.{finding.key}.{measurement.label}", measurement.value
