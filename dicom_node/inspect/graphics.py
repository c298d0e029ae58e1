"""A presentation state as lists: what is drawn, on which images, in which layers, and how images are shown."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.inspect.described import Part, Table
from dicom_node.inspect.words import class_name, counted, items, reference_text, short_uid, text_of

_COLUMNS = ("layer", "what", "where", "text or shape", "on")


def presentation_part(dataset: Dataset) -> Part:
    """Return layers, graphics, window and images of a softcopy presentation state (PS3.3 A.33)."""
    layers = sorted(items(dataset, "GraphicLayerSequence"), key=lambda one: int(one.get("GraphicLayerOrder") or 0))
    rows = tuple(row for one in items(dataset, "GraphicAnnotationSequence") for row in _rows(one))
    facts = (
        (
            "label",
            ": ".join(t for t in (text_of(dataset, "ContentLabel"), text_of(dataset, "ContentDescription")) if t),
        ),
        ("layers", ", ".join(text_of(one, "GraphicLayer") for one in layers)),
        ("applies to", counted(class_name(one.get("ReferencedSOPClassUID")) for one in _images(dataset))),
        ("window", ", ".join(_windows(dataset))),
    )
    return Part(
        facts=tuple((name, text) for name, text in facts if text),
        tables=(Table(title="Graphics and texts", columns=_COLUMNS, rows=rows),) if rows else (),
    )


def _images(dataset: Dataset) -> Iterator[Dataset]:
    for series in items(dataset, "ReferencedSeriesSequence"):
        yield from items(series, "ReferencedImageSequence")


def _windows(dataset: Dataset) -> Iterator[str]:
    for one in items(dataset, "SoftcopyVOILUTSequence"):
        if "WindowCenter" in one:
            yield f"center {text_of(one, 'WindowCenter')} width {text_of(one, 'WindowWidth')}"
        elif items(one, "VOILUTSequence"):
            yield "a look-up table"


def _rows(annotation: Dataset) -> Iterator[tuple[str, ...]]:
    layer = text_of(annotation, "GraphicLayer")
    images = items(annotation, "ReferencedImageSequence")
    on = reference_text(images[0]) + (f" and {len(images) - 1} more" if len(images) > 1 else "") if images else "all"
    for one in items(annotation, "GraphicObjectSequence"):
        points = int(one.get("NumberOfGraphicPoints") or 0)
        filled = ", filled" if text_of(one, "GraphicFilled") == "Y" else ""
        shape = f"{text_of(one, 'GraphicType').lower()}, {points} points{filled}"
        tracked = short_uid(one.get("TrackingUID"))
        yield layer, "graphic", _box(list(one.get("GraphicData") or ())), f"{shape} {tracked}".strip(), on
    for one in items(annotation, "TextObjectSequence"):
        anchor = one.get("AnchorPoint") or one.get("BoundingBoxTopLeftHandCorner") or ()
        yield layer, "text", _box(list(anchor)), text_of(one, "UnformattedTextValue"), on


def _box(values: list[float]) -> str:
    """Return the bounding box of column, row pairs."""
    columns, rows = [float(v) for v in values[0::2]], [float(v) for v in values[1::2]]
    if not columns or not rows:
        return ""
    if len(columns) == 1:
        return f"{columns[0]:g}, {rows[0]:g}"
    return f"{min(columns):g}..{max(columns):g} x {min(rows):g}..{max(rows):g}"
