"""A segmentation as a table of its segments, with the volume each encloses, and its frames as masks (PS3.3 C.8.20)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from dicom_node.core.outputs.artifact_kinds import LABEL_MAP
from dicom_node.inspect.described import (
    UNDECODABLE,
    DescriptionPart,
    Table,
    class_name,
    counted,
    first_item,
    items,
    meaning,
    meaning_in,
    short_uid,
    text_of,
    why,
)
from dicom_node.sr_writer.geometry import patient_orientation

_COLUMNS = ("#", "label", "type", "made by", "colour", "frames", "volume")
#: A label map numbers what is no segment too.
_BACKGROUND = 0
_GRAY: Rgb = (200, 200, 200)


@dataclass(slots=True)
class _Extent:
    frames: int = 0
    pixels: float = 0.0


def segmentation_part(dataset: Dataset) -> DescriptionPart:
    """Return segments, geometry and sources of a segmentation of any type."""
    extents: dict[int, _Extent] = defaultdict(_Extent)
    notes: tuple[str, ...] = ()
    try:
        for mask in masks(dataset):
            marked = float(mask.share.sum())
            extents[mask.segment_number].frames += 1 if marked else 0
            extents[mask.segment_number].pixels += marked
    except UNDECODABLE as error:
        notes = (f"The masks cannot be decoded, so frames and volumes are missing: {why(error)}",)
        extents.clear()
    spacing = spacing_of(dataset)
    segments = [item for item in items(dataset, "SegmentSequence") if item.get("SegmentNumber") != _BACKGROUND]
    rows = tuple(_row(item, extents, spacing, counted_out=not notes) for item in segments)
    return DescriptionPart(
        facts=tuple((name, text) for name, text in _facts(dataset, spacing) if text),
        tables=(Table(title="Segments", columns=_COLUMNS, rows=rows),),
        notes=notes,
    )


def color_of(segment: Dataset) -> Rgb:
    """Return the recommended colour of a segment, gray where there is none."""
    stored = segment.get("RecommendedDisplayCIELabValue")
    return srgb_of([int(value) for value in stored]) if stored is not None and len(stored) == 3 else _GRAY


def _row(item: Dataset, extents: dict[int, _Extent], spacing: Spacing | None, *, counted_out: bool) -> tuple[str, ...]:
    number = int(item.get("SegmentNumber") or 0)
    algorithm = f"{text_of(item, 'SegmentAlgorithmType').lower()} {text_of(item, 'SegmentAlgorithmName')}".strip()
    has_color = "RecommendedDisplayCIELabValue" in item
    return (
        str(number),
        text_of(item, "SegmentLabel"),
        _type(item),
        algorithm,
        "#{:02x}{:02x}{:02x}".format(*color_of(item)) if has_color else "",
        str(extents[number].frames) if counted_out else "?",
        _size(extents[number].pixels, spacing) if counted_out else "?",
    )


def _type(item: Dataset) -> str:
    kind = first_item(item, "SegmentedPropertyTypeCodeSequence")
    sides = [meaning(side) for side in items(kind, "SegmentedPropertyTypeModifierCodeSequence")]
    region = meaning_in(item, "AnatomicRegionSequence")
    words = " ".join((*sides, meaning(kind)))
    return f"{words} in {region}" if region and region != meaning(kind) else words


def _size(pixels: float, spacing: Spacing | None) -> str:
    if spacing is None:
        return f"{pixels:.0f} pixels"
    square_mm = pixels * spacing.row_mm * spacing.column_mm
    if spacing.between_mm is None:
        return f"{_amount(square_mm / 100)} cm2"
    return f"{_amount(square_mm * spacing.between_mm / 1000)} ml"


def _amount(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"


def _facts(dataset: Dataset, spacing: Spacing | None) -> list[tuple[str, str]]:
    size = f"{text_of(dataset, 'Columns')} x {text_of(dataset, 'Rows')} pixels"
    voxel = ""
    if spacing is not None:
        between = f" x {spacing.between_mm:.4g}" if spacing.between_mm is not None else ""
        voxel = f"{spacing.column_mm:.4g} x {spacing.row_mm:.4g}{between} mm"
    kind = text_of(dataset, "SegmentationFractionalType").lower()
    return [
        ("segmentation type", f"{text_of(dataset, 'SegmentationType')} {kind}".strip()),
        ("geometry", f"{size}, {text_of(dataset, 'NumberOfFrames')} frames{', ' if voxel else ''}{voxel}"),
        ("orientation", _directions(dataset)),
        ("frame of reference", short_uid(dataset.get("FrameOfReferenceUID"))),
        ("segments of", _sources(dataset)),
    ]


def _directions(dataset: Dataset) -> str:
    orientation = orientation_of(dataset)
    if orientation is None:
        return ""
    letters = patient_orientation(_oriented(orientation))
    return f"rows to {letters[0]}, columns to {letters[1]}"


def _oriented(orientation: list[float]) -> Dataset:
    plane = Dataset()
    plane.ImageOrientationPatient = orientation
    return plane


def _sources(dataset: Dataset) -> str:
    return counted(
        class_name(one.get("ReferencedSOPClassUID"))
        for series in items(dataset, "ReferencedSeriesSequence")
        for one in items(series, "ReferencedInstanceSequence")
    )


# --- frames ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """What one frame says of one segment: `share` is 0..1 per pixel (rows, columns); equal planes lie on each other."""

    segment_number: int
    plane: tuple[float, ...]
    share: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Size of a voxel in mm; `between_mm` is `None` where frames do not lie behind each other."""

    row_mm: float
    column_mm: float
    between_mm: float | None


def masks(dataset: Dataset) -> Iterator[Mask]:
    """Decode frame by frame. Raises what pydicom raises for pixels it cannot decode."""
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    highest = _highest_value(dataset)
    for index, pixels in enumerate(iter_pixels(dataset)):
        own = groups[index] if index < len(groups) else Dataset()
        plane = _plane(own, dataset) or (float(index),)
        if _is_label_map(dataset):
            for number in np.unique(pixels[pixels > 0]):
                yield Mask(segment_number=int(number), plane=plane, share=(pixels == number).astype(np.float32))
        else:
            yield Mask(segment_number=_segment(own, dataset), plane=plane, share=pixels.astype(np.float32) / highest)


def spacing_of(dataset: Dataset) -> Spacing | None:
    """Return the size of a voxel; the distance of planes is measured, and only else believed."""
    measures = _group(dataset, "PixelMeasuresSequence")
    pixel_spacing = measures.get("PixelSpacing")
    if pixel_spacing is None or len(pixel_spacing) != 2:
        return None
    between = _measured_mm(dataset) or _number(measures, "SpacingBetweenSlices") or _number(measures, "SliceThickness")
    return Spacing(row_mm=float(pixel_spacing[0]), column_mm=float(pixel_spacing[1]), between_mm=between)


def orientation_of(dataset: Dataset) -> list[float] | None:
    """Return the six direction cosines shared by the frames."""
    cosines = _group(dataset, "PlaneOrientationSequence").get("ImageOrientationPatient")
    return [float(value) for value in cosines] if cosines is not None and len(cosines) == 6 else None


def _highest_value(dataset: Dataset) -> float:
    if text_of(dataset, "SegmentationType") == "FRACTIONAL":
        return max(float(dataset.get("MaximumFractionalValue") or 1), 1.0)
    return 1.0


def _is_label_map(dataset: Dataset) -> bool:
    return text_of(dataset, "SegmentationType") == "LABELMAP" or text_of(dataset, "SOPClassUID") == LABEL_MAP


def _segment(own: Dataset, dataset: Dataset) -> int:
    identified = first_item(own, "SegmentIdentificationSequence") or _group(dataset, "SegmentIdentificationSequence")
    return int(identified.get("ReferencedSegmentNumber") or 1)


def _group(dataset: Dataset, keyword: str) -> Dataset:
    """Return a functional group that all frames share, else that of the first frame."""
    shared = first_item(first_item(dataset, "SharedFunctionalGroupsSequence"), keyword)
    return shared or first_item(first_item(dataset, "PerFrameFunctionalGroupsSequence"), keyword)


def _plane(own: Dataset, dataset: Dataset) -> tuple[float, ...]:
    """Return the position of a frame, else which image it was made from."""
    position = first_item(own, "PlanePositionSequence") or _group(dataset, "PlanePositionSequence")
    return tuple(round(float(value), 3) for value in position.get("ImagePositionPatient") or ())


def _measured_mm(dataset: Dataset) -> float | None:
    """Return the least distance between neighbouring planes along their normal."""
    orientation = orientation_of(dataset)
    planes = {_plane(own, dataset) for own in items(dataset, "PerFrameFunctionalGroupsSequence")}
    if orientation is None or len(planes) < 2 or any(len(plane) != 3 for plane in planes):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    gaps = np.diff(np.sort(np.array(sorted(planes)) @ normal))
    apart = gaps[gaps > 1e-3]
    return float(apart.min()) if apart.size else None


def _number(dataset: Dataset, keyword: str) -> float | None:
    value = dataset.get(keyword)
    return float(value) if value not in (None, "") else None


# --- colours: CIELab (PS3.3 C.10.7.1.1) to sRGB ----------------------------------------------------------------------

Rgb = tuple[int, int, int]
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_LINEAR_SRGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
_SIXTEEN_BITS = 65535.0


def srgb_of(stored: Sequence[int]) -> Rgb:
    """Return red, green, blue 0..255 of three unsigned 16-bit values L*, a*, b*."""
    lightness = stored[0] / _SIXTEEN_BITS * 100
    a, b = (value / _SIXTEEN_BITS * 255 - 128 for value in stored[1:3])
    middle = (lightness + 16) / 116
    scaled = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = np.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29)) * _WHITE_D65
    linear = np.clip(_XYZ_TO_LINEAR_SRGB @ xyz, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(encoded * 255))
    return red, green, blue
