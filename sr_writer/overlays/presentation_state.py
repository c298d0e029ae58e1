"""Outlines and words over the source images, which a viewer can switch on and off (GSPS, PS3.3 A.33.1).

The image below looks as it would without: what a presentation state leaves out would be switched off (PS3.4 N.2), so
window, modality LUT, shutter, overlays and polarity are copied from the source, never chosen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, frame_number_of, whole_objects
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.decoding.stored import pixel_aspect, stored_values
from dicom_node.decoding.voi import is_inverted
from dicom_node.sr_writer.identity import ResultIdentity, evidence_header, stamp
from dicom_node.sr_writer.overlays.marks import Mark, Points, TextBox, marks_by_source, placed, title_box
from dicom_node.sr_writer.overlays.segmentation import tracking_uid
from dicom_node.sr_writer.text import ascii_text, long_string
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9905
_GRAY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_TITLE_RGB = (255, 184, 28)
#: GraphicData is FL, and the length of a value of FL must fit in 16 bits (PS3.5 7.1.2).
_MOST_POINTS = 8000


@dataclass(frozen=True, slots=True)
class _Marked:
    """One source image and what is drawn on it."""

    source: Dataset
    marks: Sequence[Mark]


def presentation_states(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make one object per series of gray images with marks; more where images of a series must look different."""
    if isinstance(writing.answer, NotAnalysed):
        return
    for number, group in enumerate(_groups(writing.answer), start=1):
        yield WrittenObject(
            kind=ArtifactKind.PRESENTATION_STATE,
            dataset=_presentation_state(group, writing.identity, number),
            order=number,
            description="Outlines to switch on and off",
        )


def _groups(analysis: Analysis) -> list[list[_Marked]]:
    """Part the marked images by what one presentation state has only once for all of them."""
    groups: dict[object, list[_Marked]] = {}
    for index, marks in marks_by_source(analysis).items():
        source = analysis.sources[index]
        if source.get("PhotometricInterpretation") not in _GRAY or window_of(source) is None:
            continue
        size = (int(source.Rows), int(source.Columns), *aspect_of(source))
        key = (str(source.SeriesInstanceUID), size, look_of(source).to_json())
        groups.setdefault(key, []).append(_Marked(source, marks))
    return list(groups.values())


def _presentation_state(group: Sequence[_Marked], identity: ResultIdentity, number: int) -> Dataset:
    layers = _layers(group, identity.marking)
    whole = [_header(source) for source in whole_objects(one.source for one in group)]
    dataset: Dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=whole,
        series_instance_uid=identity.uid("gsps-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("gsps", str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT_NAME,
        software_versions=__version__,
        device_serial_number=identity.context.node_uid,
        content_label="AI",
        content_description=long_string(f"{identity.marking}: {identity.model.name}"),
        content_creator_name=f"{long_string(identity.context.ae_title, 16)}^",
        graphic_layers=list(layers.values()),
        graphic_annotations=[annotation for one in group for annotation in _annotations(one, layers, identity)],
    )
    _name_frames(dataset, group)
    _look_like_the_source(dataset, group)
    stamp(dataset, identity, f"outlines {identity.model.name}")
    _set_creation(dataset)
    return dataset


def _set_creation(dataset: Dataset) -> None:
    """Write when it was made as presentation states do; they have no content date."""
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = dataset.ContentDate, dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    for equipment in dataset.ContributingEquipmentSequence:
        # Local time like all times here: dcmpschk of DCMTK 3.6 takes no date and time with a zone.
        equipment.ContributionDateTime = str(equipment.ContributionDateTime)[:14]


def _layers(group: Sequence[_Marked], marking: str) -> dict[str, GraphicLayer]:
    """Return the layer of each finding by its key, and under ``""`` that of the title; all can be switched."""
    title = CIELabColor.from_rgb(*_TITLE_RGB)
    layers = {"": GraphicLayer("AI", order=1, description=marking, display_color=title)}
    for mark in (mark for one in group for mark in one.marks):
        key = mark.finding.key
        if key not in layers:
            layers[key] = GraphicLayer(
                f"AI {len(layers)} {_code_letters(mark.finding.label)}"[:16].strip(),
                order=len(layers) + 1,
                description=long_string(f"AI: {mark.finding.label}"),
                display_color=CIELabColor.from_rgb(*mark.color_rgb),
            )
    return layers


def _code_letters(text: str) -> str:
    """Return what of a text fits into a code string (PS3.5 6.2)."""
    return " ".join("".join(c if c.isalnum() else " " for c in ascii_text(text).upper()).split())


def _annotations(
    one: _Marked, layers: dict[str, GraphicLayer], identity: ResultIdentity
) -> Iterator[GraphicAnnotation]:
    header = [_header(one.source)]
    size = (int(one.source.Columns), int(one.source.Rows))
    model = identity.model
    title = TextBox(f"{ascii_text(model.name)} {ascii_text(model.version)}\r\n{identity.marking}", title_box(size))
    boxes = placed([(f"{mark.text}\r\n{identity.marking}", mark.polygons) for mark in one.marks], title, size)
    made = [GraphicAnnotation(header, layers[""], text_objects=[_text(title)])]
    for mark, box in zip(one.marks, boxes, strict=True):
        graphics = [_graphic(part, mark, identity) for polygon in mark.polygons for part in _parts(polygon)]
        layer = layers[mark.finding.key]
        made.append(GraphicAnnotation(header, layer, graphic_objects=graphics, text_objects=[_text(box)]))
    frame_number = frame_number_of(one.source)
    for annotation in made:
        if frame_number is not None:
            annotation.ReferencedImageSequence[0].ReferencedFrameNumber = frame_number
        yield annotation


def _text(box: TextBox) -> TextObject:
    # highdicom takes no backslash, although it separates nothing in a value of VR ST.
    return TextObject(box.text.replace("\\", "/"), units="PIXEL", bounding_box=box.corners, text_justification="LEFT")


def _graphic(points: Points, mark: Mark, identity: ResultIdentity) -> GraphicObject:
    return GraphicObject(
        "POLYLINE",
        graphic_data=points,
        units="PIXEL",
        tracking_id=long_string(mark.finding.label),
        tracking_uid=tracking_uid(identity, mark.finding.key),
    )


def _parts(polygon: Points) -> Iterator[Points]:
    """Cut a polygon with too many points into lines that share their ends."""
    for start in range(0, max(1, len(polygon) - 1), _MOST_POINTS - 1):
        yield polygon[start : start + _MOST_POINTS]


def _header(source: Dataset) -> Dataset:
    """Return what highdicom must know of an image to refer to it."""
    header = evidence_header(source)
    header.Rows, header.Columns, header.SamplesPerPixel = int(source.Rows), int(source.Columns), 1
    # Of a multi-frame object highdicom wants to see groups; what stands in them comes from `look_of`.
    header.SharedFunctionalGroupsSequence = header.PerFrameFunctionalGroupsSequence = [Dataset()]
    return header


def _name_frames(dataset: Dataset, group: Sequence[_Marked]) -> None:
    """Refer to the marked frames of multi-frame objects and not to the whole objects."""
    for series in dataset.ReferencedSeriesSequence:
        for reference in series.ReferencedImageSequence:
            frames = [
                number
                for one in group
                if str(one.source.SOPInstanceUID) == reference.ReferencedSOPInstanceUID
                and (number := frame_number_of(one.source)) is not None
            ]
            if frames:
                reference.ReferencedFrameNumber = frames


def _look_like_the_source(dataset: Dataset, group: Sequence[_Marked]) -> None:
    first = group[0].source
    look = look_of(first)
    for element in look:
        dataset[element.tag] = element
    if has_overlay(look):
        layer = GraphicLayer(OVERLAY_LAYER, order=len(dataset.GraphicLayerSequence) + 1, description="Source overlay")
        dataset.GraphicLayerSequence.append(layer)
    area = dataset.DisplayedAreaSelectionSequence[0]
    area.PresentationPixelAspectRatio = aspect_of(first)
    del area.PixelOriginInterpretation
    dataset.SoftcopyVOILUTSequence = _windows(group)


def _windows(group: Sequence[_Marked]) -> list[Dataset]:
    """Return the sources' own windows, each with the images it is of, unless all have the same."""
    items: dict[str, Dataset] = {}
    users: dict[str, list[Dataset]] = {}
    for one in group:
        item = window_of(one.source)
        if item is not None:
            items.setdefault(item.to_json(), item)
            users.setdefault(item.to_json(), []).append(one.source)
    if len(items) > 1:
        for key, item in items.items():
            item.ReferencedImageSequence = [_reference(source) for source in users[key]]
    return list(items.values())


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame_number_of(source) is not None:
        item.ReferencedFrameNumber = frame_number_of(source)
    return item


# --- shown as the source wants to be shown ---------------------------------------------------------------------------

_MODALITY = ("RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence")
_SHUTTER = (
    "ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter", "ShutterPresentationValue",
)  # fmt: skip
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_LUT_BITS = (8, 16)
OVERLAY_LAYER = "SOURCE OVERLAY"


def look_of(source: Dataset) -> Dataset:
    """Return the attributes that one presentation state has for all its images; sources of one look can share it."""
    look = Dataset()
    for keyword in (*_MODALITY, *_SHUTTER):
        if source.get(keyword) not in (None, ""):
            look[keyword] = copy.deepcopy(source[keyword])
    if "RescaleSlope" in look and "RescaleType" not in look:
        look.RescaleType = "HU" if source.get("Modality") == "CT" else "US"
    for group in _OVERLAY_GROUPS:
        if (group, 0x3000) in source:
            look.add_new((group, 0x1001), "CS", OVERLAY_LAYER)
    look.PresentationLUTShape = "INVERSE" if is_inverted(source) else "IDENTITY"
    return look


def has_overlay(look: Dataset) -> bool:
    """Whether the look switches on an overlay plane of the source."""
    return any((group, 0x1001) in look for group in _OVERLAY_GROUPS)


def window_of(source: Dataset) -> Dataset | None:
    """Return the item of the Softcopy VOI LUT Sequence that repeats the source's own LUT or windows.

    A source without any gets the range of its values, since without an item the whole range of its bits is shown;
    `None` when it has no pixels either.
    """
    item = Dataset()
    if source.get("VOILUTSequence"):
        item.VOILUTSequence = [_widened(table) for table in source.VOILUTSequence]
        return item
    if _is_usable(source.get("WindowCenter"), source.get("WindowWidth")):
        for keyword in _WINDOW:
            if source.get(keyword) not in (None, ""):
                item[keyword] = copy.deepcopy(source[keyword])
                item[keyword].value = _first(item[keyword].value)
        return item
    return _whole_range(source) if "PixelData" in source else None


def aspect_of(source: Dataset) -> list[int]:
    """Return the pixel aspect ratio as (height, width) in whole numbers (PS3.3 C.10.4)."""
    ratio = Fraction(pixel_aspect(source)).limit_denominator(1000)
    return [max(1, ratio.numerator), ratio.denominator]


def _widened(table: Dataset) -> Dataset:
    """Return a table whose values have 8 or 16 bits, as presentation states want (PS3.3 C.11.8), and the same look."""
    widened = copy.deepcopy(table)
    entries, first, bits = (int(value) for value in table.LUTDescriptor)
    if bits in _LUT_BITS:
        return widened
    data = table.LUTData
    values = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data)
    wide = (values.astype(np.float64) * ((2**16 - 1) / (2**bits - 1)) + 0.5).astype("<u2")
    widened["LUTDescriptor"].value = [entries, first, 16]
    widened.add_new("LUTData", "OW", wide.tobytes())
    return widened


def _first(value: object) -> object:
    """Return the first of several windows: the one a viewer opens with; a presentation state has one (C.11.8)."""
    return value[0] if isinstance(value, MultiValue) and value else value


def _is_usable(center: object, width: object) -> bool:
    if center in (None, "") or width in (None, ""):
        return False
    first = width[0] if isinstance(width, MultiValue) else width
    return float(str(first)) >= 1


def _whole_range(source: Dataset) -> Dataset:
    slope, intercept = float(source.get("RescaleSlope") or 1), float(source.get("RescaleIntercept") or 0)
    pixels = stored_values(source)
    ends = sorted(float(end) * slope + intercept for end in (pixels.min(), pixels.max()))
    item = Dataset()
    # The window of C.11.2.1.2.1 that takes the lowest value to black and the highest to white.
    width = max(1.0, math.ceil(ends[1] - ends[0]) + 1)
    item.WindowCenter, item.WindowWidth = round((ends[0] + ends[1] + 1) / 2, 3), width
    item.WindowCenterWidthExplanation = "Range of values"
    return item
