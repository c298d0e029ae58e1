"""A segmentation as a table of its segments, with the volume each encloses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.inspect.described import UNDECODABLE, DescriptionPart, Table, why
from dicom_node.inspect.masks import Rgb, Spacing, masks, orientation_of, spacing_of, srgb_of
from dicom_node.inspect.words import class_name, counted, first_item, items, meaning, meaning_in, short_uid, text_of
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
