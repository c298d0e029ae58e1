"""Series of a small phantom without any symmetry: classic or enhanced, in any orientation, order and encoding."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
)

from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from dicom_node.inference.model_run import SourceImage, read_dataset

Affine = NDArray[np.float64]
Values = NDArray[np.int16]
_CLASSES = {"CT": (CTImageStorage, EnhancedCTImageStorage), "MR": (MRImageStorage, EnhancedMRImageStorage)}
INTERCEPT = -1024


def asymmetric(slices: int = 6, rows: int = 40, columns: int = 36, seed: int = 1) -> Values:
    """Return HU values (slices, rows, columns): noise, and a bright L that no turn or flip maps onto itself."""
    values = np.random.default_rng(seed).integers(-900, 300, (slices, rows, columns)).astype(np.int16)
    values[1:5, 2, 1:6] = 1500
    values[1:3, 2:8, 1] = 1600
    values[4, 6, 5] = 1700
    return values


def affine(
    spacing_xyz_mm: tuple[float, float, float] = (0.8, 1.1, 2.5), origin_mm: Sequence[float] = (-40.0, -30.0, 12.0)
) -> Affine:
    """Return the affine (column, row, slice) -> LPS mm of an axial series, feet first."""
    matrix = np.diag([*spacing_xyz_mm, 1.0])
    matrix[:3, 3] = origin_mm
    return matrix


def classic(
    values_zyx: Values, place: Affine, *, modality: str = "CT", name: str = "v", **changes: Any
) -> list[Dataset]:
    """Return one single-frame object per slice; `changes` set attributes of all."""
    series = []
    for index, plane in enumerate(values_zyx):
        dataset = _object(_CLASSES[modality][0], modality, name, str(index))
        dataset.InstanceNumber, dataset.AcquisitionNumber = index + 1, 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = _where(place, index)
        dataset.PixelSpacing = _spacing(place)
        dataset.SliceThickness = float(np.linalg.norm(place[:3, 2]))
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
        if modality == "CT":
            dataset.RescaleType = "HU"
        _set_pixels(dataset, plane[None])
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        series.append(dataset)
    return series


def enhanced(
    values_tzyx: NDArray[np.int16], place: Affine, *, modality: str = "MR", order: Sequence[int] | None = None
) -> Dataset:
    """Return one multi-frame object: (times, slices, rows, columns), frames stored in `order` (of t * slices + z)."""
    times, slices = values_tzyx.shape[:2]
    dataset = _object(_CLASSES[modality][1], modality, "enhanced", "0")
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = times * slices
    frames = list(order if order is not None else range(times * slices))
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _spacing(place), float(np.linalg.norm(place[:3, 2]))
    orientation.ImageOrientationPatient = _where(place, 0)[1]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [_groups(place, modality, *divmod(one, slices)) for one in frames]
    dataset.DimensionIndexSequence = [_dimension(0x00209057), _dimension(0x00209128)]
    _set_pixels(dataset, values_tzyx.reshape(-1, *values_tzyx.shape[2:])[frames])
    return dataset


def stored(datasets: Iterable[Dataset], folder: Path) -> tuple[SourceImage, ...]:
    """Write the objects in this order and return them as a model run is given them."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for index, dataset in enumerate(datasets):
        path = folder / f"{index:04}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        images.append(SourceImage(path, read_dataset(path, pixels=False)))
    return tuple(images)


def encoded_as(dataset: Dataset, syntax: str) -> Dataset:
    """Return a copy in another transfer syntax; compression is lossless."""
    other = copy.deepcopy(dataset)
    uid = UID(syntax)
    if uid == JPEG2000Lossless:
        planes = other.pixel_array.reshape(-1, other.Rows, other.Columns)
        streams = [encode_array(plane, photometric_interpretation=2, codec_format=0) for plane in planes]
        other.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2) for stream in streams])
        other["PixelData"].VR, other["PixelData"].is_undefined_length = "OB", True
    elif uid.is_encapsulated:
        other.compress(uid, generate_instance_uid=False)
        return other
    if uid == ExplicitVRBigEndian:
        other.PixelData = np.frombuffer(other.PixelData, "<u2").astype(">u2").tobytes()
    other.file_meta.TransferSyntaxUID = uid
    return other


def _groups(place: Affine, modality: str, time: int, z: int) -> Dataset:
    content, position, transformation, kind, groups = (Dataset() for _ in range(5))
    content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", z + 1, time + 1
    content.DimensionIndexValues, content.FrameAcquisitionNumber = [z + 1, time + 1], 1
    position.ImagePositionPatient = _where(place, z)[0]
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, INTERCEPT
    transformation.RescaleType = "HU" if modality == "CT" else "US"
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    groups.FrameContentSequence, groups.PlanePositionSequence = [content], [position]
    groups.PixelValueTransformationSequence = [transformation]
    setattr(groups, f"{modality}ImageFrameTypeSequence", [kind])
    return groups


def _dimension(pointer: int) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = derived_uid("dimensions")
    item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, 0x00209111
    return item


def _where(place: Affine, index: int) -> tuple[list[float], list[float]]:
    position = place @ [0.0, 0.0, float(index), 1.0]
    row, column = place[:3, 0] / np.linalg.norm(place[:3, 0]), place[:3, 1] / np.linalg.norm(place[:3, 1])
    return [round(float(x), 9) for x in position[:3]], [round(float(x), 12) for x in (*row, *column)]


def _spacing(place: Affine) -> list[float]:
    return [round(float(np.linalg.norm(place[:3, axis])), 9) for axis in (1, 0)]


def _object(sop_class: UID, modality: str, name: str, instance: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = derived_uid("volumes", modality, name, instance)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.StudyInstanceUID = derived_uid("volumes-study", modality)
    dataset.SeriesInstanceUID = derived_uid("volumes-series", modality, name)
    dataset.FrameOfReferenceUID = derived_uid("volumes-frame", modality)
    dataset.SpecificCharacterSet, dataset.Modality = "ISO_IR 192", modality
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "P-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260105", "081500", "1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A1", ""
    dataset.SeriesNumber = 1
    return dataset


def _set_pixels(dataset: Dataset, values: Values) -> None:
    dataset.Rows, dataset.Columns = values.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = (values.astype(np.int32) - INTERCEPT).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
