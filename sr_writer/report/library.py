"""The image library (TID 1600): the analysed images and what they show, then the objects that were made of them.

The second part makes the report the root of its result: whoever follows it finds every object of the set (IHE AIR).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from highdicom.sr import CodedConcept, CompositeContentItem, ContainerContentItem, ContentSequence, ImageContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node import codes
from dicom_node.analysis import whole_objects
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.sr_writer.report.descriptors import descriptors

#: Objects that are no images, by modality, and what they are.
_NO_IMAGES = {"PR": codes.PRESENTATION_STATE, "KO": codes.KEY_OBJECT_SELECTION, "DOC": codes.DOCUMENT}


def image_library(images: Sequence[Dataset], results: Sequence[Dataset]) -> ContainerContentItem:
    """Return one group for each series that was analysed, and one for the `results` that no finding refers to."""
    groups = [_sources(series) for series in _by_series(whole_objects(images))]
    if results:
        groups.append(_group([_result(one) for one in results]))
    library = ContainerContentItem(name=dictionary.DCM.ImageLibrary, relationship_type="CONTAINS")
    library.ContentSequence = ContentSequence(groups)
    return library


def _sources(series: Sequence[Dataset]) -> ContainerContentItem:
    """Say once what all images of a series have in common; a projection says at its entry what it has alone.

    Sections do not: a position for each of hundreds of slices would only repeat what the slices themselves say.
    """
    of_each = [descriptors(image) for image in series]
    common = set(of_each[0]).intersection(*of_each[1:])
    entries, source = [], coded(codes.SOURCE)
    for image, own in zip(series, of_each, strict=True):
        entry = _image(image, source)
        rest = [one.item() for one in own if one not in common]
        if rest and "ImageOrientationPatient" not in image:
            entry.ContentSequence = ContentSequence(rest)
        entries.append(entry)
    return _group([*(one.item() for one in of_each[0] if one in common), *entries])


def _by_series(images: Iterable[Dataset]) -> list[list[Dataset]]:
    found: dict[str, list[Dataset]] = {}
    for image in images:
        found.setdefault(str(image.SeriesInstanceUID), []).append(image)
    return list(found.values())


def _result(one: Dataset) -> Any:
    kind = _NO_IMAGES.get(str(one.Modality))
    if kind is None:
        # Not an illustration of a finding: there may be none, or the study was not analysed.
        return _image(one, coded(codes.SUPPLEMENTARY_DATA))
    return CompositeContentItem(
        name=coded(kind),
        referenced_sop_class_uid=one.SOPClassUID,
        referenced_sop_instance_uid=one.SOPInstanceUID,
        relationship_type="CONTAINS",
    )


def _image(one: Dataset, name: CodedConcept) -> ImageContentItem:
    return ImageContentItem(
        name=name,
        referenced_sop_class_uid=one.SOPClassUID,
        referenced_sop_instance_uid=one.SOPInstanceUID,
        relationship_type="CONTAINS",
    )


def _group(items: Sequence[Any]) -> ContainerContentItem:
    group = ContainerContentItem(name=dictionary.DCM.ImageLibraryGroup, relationship_type="CONTAINS")
    group.ContentSequence = ContentSequence(items)
    return group
