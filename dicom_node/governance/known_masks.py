"""Masks that are known of a golden study, by the formula of a phantom or from a SEG; how far an answer is from them.

A mask is kept by image, so that neither the order of slices nor what a model leaves out matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, frame_number_of
from dicom_node.core.errors import SettingsError
from dicom_node.decoding.stored import stored_values
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.inference.images.geometry import slice_plane

Plane = NDArray[np.bool_]
#: By image (`place_of`); an image that is not named holds nothing of the structure.
Known = Mapping[str, Plane]


def place_of(sop_instance_uid: str, frame_number: int | None) -> str:
    """Name an image, or one frame of an image."""
    return sop_instance_uid if frame_number is None else f"{sop_instance_uid}:{frame_number}"


def of_images(images: Iterable[Dataset], mask_zyx: NDArray[np.bool_]) -> dict[str, Plane]:
    """Return a mask (slices, rows, columns) by image, both in one order."""
    return {str(image.SOPInstanceUID): plane for image, plane in zip(images, mask_zyx, strict=True)}


def of_segmentation(path: Path, number: int) -> dict[str, Plane]:
    """Return a segment of a binary SEG by the images that its frames were drawn on.

    Raises `SettingsError` for what is no such SEG, lacks the segment, or does not name its images.
    """
    try:
        segmentation = dcmread(path)
        planes = np.atleast_3d(stored_values(segmentation).astype(bool))
        planes = planes.reshape(-1, segmentation.Rows, segmentation.Columns)
        shared = segmentation.SharedFunctionalGroupsSequence[0]
        found: dict[str, Plane] = {}
        for plane, groups in zip(planes, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
            named = groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
            if int(named[0].ReferencedSegmentNumber) == number:
                source = groups.DerivationImageSequence[0].SourceImageSequence[0]
                found[place_of(str(source.ReferencedSOPInstanceUID), source.get("ReferencedFrameNumber"))] = plane
    except (*READ_ERRORS, OSError) as error:
        raise SettingsError(
            f"{path} is no binary segmentation whose frames name the images that they were drawn on "
            f"({type(error).__name__})."
        ) from error
    if not found:
        raise SettingsError(f"{path} has no segment {number}, or nothing in it.")
    return found


# --- the file that goes to the worker ---------------------------------------------------------------------------------


def keep(masks: Mapping[str, Known], path: Path) -> Path:
    """Write masks, by the key of their structure, into a file that holds numbers and names alone."""
    names = [(key, place) for key, known in masks.items() for place in known]
    planes: dict[str, Any] = {f"plane{number}": masks[key][place] for number, (key, place) in enumerate(names)}
    np.savez_compressed(path, names=np.array(names, dtype=np.str_).reshape(-1, 2), **planes)
    return path


def read(path: Path) -> dict[str, dict[str, Plane]]:
    """Read what `keep` wrote."""
    found: dict[str, dict[str, Plane]] = {}
    with np.load(path, allow_pickle=False) as kept:
        for number, (key, place) in enumerate(kept["names"].tolist()):
            found.setdefault(key, {})[place] = kept[f"plane{number}"]
    return found


# --- how far an answer is ---------------------------------------------------------------------------------------------


def overlaps(answer: Analysis, masks: Mapping[str, Known]) -> dict[str, float]:
    """Return for each known structure the Dice coefficient of the answer's mask, 0..1: twice what both hold by what
    each holds; 1 where both are empty."""
    places = [place_of(str(source.SOPInstanceUID), frame_number_of(source)) for source in answer.sources]
    outlined = {segment.finding_key: segment.mask for segment in answer.segments}
    return {key: _dice(dict(zip(places, outlined.get(key, ()), strict=False)), known) for key, known in masks.items()}


def centers_mm(answer: Analysis) -> dict[str, list[float]]:
    """Return the middle of every finding's region in the patient, (x, y, z) in mm, where its image has a place."""
    sources = {place_of(str(one.SOPInstanceUID), frame_number_of(one)): one for one in answer.sources}
    found: dict[str, list[float]] = {}
    for finding in answer.findings:
        if finding.region is None:
            continue
        plane = slice_plane(sources[place_of(finding.region.sop_instance_uid, finding.region.frame_number)])
        if plane is not None:
            points = np.array(finding.region.points_xy_px)
            column, row = (points.min(axis=0) + points.max(axis=0)) / 2 - 0.5  # of pixel centres
            across_mm = plane.row_direction * (column * plane.column_spacing_mm)
            down_mm = plane.column_direction * (row * plane.row_spacing_mm)
            found[finding.key] = [float(x) for x in plane.origin_mm + across_mm + down_mm]
    return found


def _dice(found: Known, known: Known) -> float:
    held = sum(int(plane.sum()) for planes in (found, known) for plane in planes.values())
    both = sum(int((plane & known[place]).sum()) for place, plane in found.items() if place in known)
    return 2 * both / held if held else 1.0
