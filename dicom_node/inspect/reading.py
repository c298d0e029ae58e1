"""Reads one file and says what is in it. Runs in a process with limits: the file may come from anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    EncapsulatedPDFStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.core.errors import UnreadableObject
from dicom_node.core.outputs.artifact_kinds import LABEL_MAP, PARAMETRIC_MAP
from dicom_node.inspect.described import (
    UNDECODABLE,
    Description,
    DescriptionPart,
    Inspected,
    InspectRequest,
    Raster,
    class_name,
    first_item,
    name_of,
    text_of,
    why,
)
from dicom_node.inspect.facts import content_tree, facts
from dicom_node.inspect.graphics import presentation_part, presentation_picture
from dicom_node.inspect.images import (
    document_of,
    document_part,
    image_part,
    image_picture,
    map_part,
    map_picture,
    segmentation_picture,
)
from dicom_node.inspect.segments import segmentation_part
from dicom_node.logs import quiet_third_parties

_PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
#: Titles of key objects that take objects back (IHE IOCM).
_REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    part: Callable[[Dataset], DescriptionPart]
    picture: Callable[[Dataset], NDArray[np.uint8]] | None = None


def look(request: InspectRequest) -> Inspected:
    """Describe a file. Raises `UnreadableObject` when it is no DICOM object or what was asked for is not in it."""
    quiet_third_parties()
    dataset = _read(request.path)
    kind = _kind_of(dataset)
    part = kind.part(dataset)
    has_content = "ContentSequence" in dataset or text_of(dataset, "ValueType") == "CONTAINER"
    description = Description(
        kind=kind.name,
        facts=(*facts(dataset, show_patient=request.show_patient), *part.facts),
        tree=content_tree(dataset, show_patient=request.show_patient) if has_content else None,
        tables=part.tables,
        notes=part.notes,
    )
    return Inspected(
        description=description,
        picture=_raster(_picture(dataset, kind)) if request.picture else None,
        document=document_of(dataset) or None,
    )


def _read(path: Path) -> Dataset:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnreadableObject(f"{name_of(path)} cannot be read: It is a pipe or a device; write it to a file first.")
    try:
        dataset = dcmread(path, force=True)
    except (OSError, InvalidDicomError) as error:
        raise UnreadableObject(
            f"{name_of(path)} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not text_of(dataset, "SOPClassUID"):
        raise UnreadableObject(f"{name_of(path)} is no DICOM object: it does not say of what SOP class it is.")
    return dataset


def _kind_of(dataset: Dataset) -> _Kind:
    uid = text_of(dataset, "SOPClassUID")
    if uid == KeyObjectSelectionDocumentStorage:
        title = text_of(first_item(dataset, "ConceptNameCodeSequence"), "CodeValue")
        return _Kind("Rejection note" if title in _REJECTIONS else "Key objects", _nothing_more)
    if uid.startswith(_PRESENTATION_STATES):
        return _Kind("Presentation state", presentation_part, presentation_picture)
    if uid in _KINDS:
        return _KINDS[uid]
    if "Rows" in dataset:
        return _Kind(f"{class_name(uid)} image".replace("Image image", "image"), image_part, image_picture)
    return _Kind("Structured report" if "ContentSequence" in dataset else class_name(uid), _nothing_more)


def _nothing_more(_dataset: Dataset) -> DescriptionPart:
    return DescriptionPart()


_KINDS = {
    str(SegmentationStorage): _Kind("Segmentation", segmentation_part, segmentation_picture),
    LABEL_MAP: _Kind("Label map", segmentation_part, segmentation_picture),
    PARAMETRIC_MAP: _Kind("Parametric map", map_part, map_picture),
    str(SecondaryCaptureImageStorage): _Kind("Secondary capture", image_part, image_picture),
    str(EncapsulatedPDFStorage): _Kind("Encapsulated PDF", document_part),
}


def _raster(rgb: NDArray[np.uint8]) -> Raster:
    return Raster(rows=rgb.shape[0], columns=rgb.shape[1], rgb=rgb.tobytes())


def _picture(dataset: Dataset, kind: _Kind) -> NDArray[np.uint8]:
    if kind.picture is None:
        hint = " Write its document with --document." if "EncapsulatedDocument" in dataset else ""
        raise UnreadableObject(f"There is no picture in this object: {kind.name}.{hint}")
    try:
        return kind.picture(dataset)
    except UNDECODABLE as error:
        raise UnreadableObject(f"The picture cannot be decoded: {why(error)}") from error
