"""Synthetic studies made in code: a chest CT with known truth, and a chest radiograph. All are named PHANTOM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
)
from scipy.ndimage import gaussian_filter, zoom

from dicom_node import DEMONSTRATION_MANUFACTURER, __version__
from dicom_node.demo.anatomy import Grid, chest
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, derived_uid

_FIELD_OF_VIEW_MM = 360.0
_RESCALE_INTERCEPT = -1024
_LAA_THRESHOLD_HU = -950


@dataclass(frozen=True, slots=True, kw_only=True)
class LungTruth:
    """What is true of one lung, counted on the stored voxels: `mask_zyx` is (slices, rows, columns), feet first."""

    mask_zyx: NDArray[np.bool_]
    volume_ml: float
    laa950_percent: float
    mean_hu: float
    percentile15_hu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomTruth:
    """What is true of a chest CT phantom; array order is that of the datasets (feet to head, front to back, right to
    left of the patient)."""

    left: LungTruth
    right: LungTruth
    both: LungTruth


def chest_ct_phantom(
    seed: str = "1", *, slices: int = 64, rows: int = 256, slice_spacing_mm: float = 5.0, emphysema: bool = True
) -> tuple[list[Dataset], PhantomTruth]:
    """Make an axial chest CT and its truth; equal arguments give equal bytes and UIDs.

    The defaults cover 320 mm, both lungs whole. Slices run from feet to head; noise is Gaussian, 15 HU.
    """
    spacing_mm = _FIELD_OF_VIEW_MM / rows
    in_plane_mm = ((np.arange(rows) - (rows - 1) / 2) * spacing_mm).astype(np.float32)
    z_mm = ((np.arange(slices) - (slices - 1) / 2) * slice_spacing_mm).astype(np.float32)
    body = chest(Grid(z_mm, in_plane_mm, in_plane_mm), emphysema=emphysema)
    noise = np.random.default_rng(int(derived_uid("noise", seed)[5:])).normal(0.0, 15.0, body.hu_zyx.shape)
    hu_zyx = np.clip(np.rint(body.hu_zyx + noise), _RESCALE_INTERCEPT, 3071).astype(np.int16)

    datasets = []
    for index in range(slices):
        position_mm = (float(in_plane_mm[0]), float(in_plane_mm[0]), float(z_mm[index]))
        slice_dataset = _ct_slice(seed, index, position_mm)
        slice_dataset.PixelSpacing = [spacing_mm, spacing_mm]
        slice_dataset.SliceThickness = slice_spacing_mm
        _set_pixels(slice_dataset, (hu_zyx[index] - _RESCALE_INTERCEPT).astype(np.uint16), bits_stored=12)
        datasets.append(slice_dataset)
    voxel_ml = spacing_mm**2 * slice_spacing_mm / 1000.0
    truth = PhantomTruth(
        left=_truth(hu_zyx, body.left_lung_zyx, voxel_ml),
        right=_truth(hu_zyx, body.right_lung_zyx, voxel_ml),
        both=_truth(hu_zyx, body.left_lung_zyx | body.right_lung_zyx, voxel_ml),
    )
    return datasets, truth


def chest_radiograph_phantom(seed: str = "1", *, rows: int = 512, age: str = "003Y", view: str = "AP") -> Dataset:
    """Make a frontal chest radiograph (CR, 16 bits allocated, MONOCHROME2): the chest projected from front to back."""
    spacing_mm = _FIELD_OF_VIEW_MM / rows
    # Projected on a coarser grid and enlarged: the phantom need not show detail, but must be quick to make.
    coarse_mm = ((np.arange(rows // 2) - (rows // 2 - 1) / 2) * spacing_mm * 2).astype(np.float32)
    depth_mm = np.arange(-120, 120, 5, dtype=np.float32)
    body = chest(Grid(-coarse_mm, depth_mm, coarse_mm), emphysema=False)
    attenuation = np.clip(body.hu_zyx + 1000.0, 0.0, None).mean(axis=1) / 1000.0
    # The coarse steps in depth would show as contour lines.
    path = gaussian_filter(zoom(attenuation, rows / len(coarse_mm), order=1), 2.5 / spacing_mm)
    path += _projected_ribs(rows, spacing_mm) * (path > 0.1)
    noise = np.random.default_rng(int(derived_uid("noise", seed)[5:])).normal(0.0, 0.005, path.shape)
    stored = np.clip(_film_curve(path / path.max()) + noise, 0.0, 1.0) * 4095

    image = _base(ComputedRadiographyImageStorage, seed, "CR", 0)
    image.PatientName, image.PatientID, image.PatientAge = "PHANTOM^CHEST XRAY", f"PHANTOM-XR-{seed}", age
    image.StudyDescription, image.SeriesDescription = "PHANTOM chest radiograph", "PHANTOM frontal"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.ViewPosition = view
    image.PatientOrientation = ["L", "F"]
    image.ImagerPixelSpacing = [spacing_mm, spacing_mm]
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.KVP = "90"
    image.PlateType = image.PlateID = ""
    _set_pixels(image, np.rint(stored).astype(np.uint16), bits_stored=12)
    return image


def _projected_ribs(rows: int, spacing_mm: float) -> NDArray[np.floating[Any]]:
    """Return what ten pairs of ribs and the clavicles add to the path, (rows, columns); they fall off sideways."""
    down_mm, across_mm = (np.mgrid[:rows, :rows] - (rows - 1) / 2) * spacing_mm
    beside_mm = np.abs(across_mm)
    middles_mm = [start_mm + 0.3 * beside_mm for start_mm in range(-160, 100, 26)]
    middles_mm.append(-120 - 0.2 * beside_mm)
    bones = sum(np.exp(-(((down_mm - middle_mm) / 5.0) ** 4)) for middle_mm in middles_mm)
    shown: NDArray[np.floating[Any]] = 0.05 * bones * ((beside_mm > 20) & (beside_mm < 145))
    return shown


def _film_curve(path: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return 0..1 for a path of 0..1 by an S-shaped characteristic curve: dark lungs, light mediastinum."""
    low, middle, high = (1.0 / (1.0 + np.exp(-7.0 * (value - 0.55))) for value in (0.0, path, 1.0))
    curve: NDArray[np.floating[Any]] = (middle - low) / (high - low)
    return curve


def _truth(hu_zyx: NDArray[np.int16], mask_zyx: NDArray[np.bool_], voxel_ml: float) -> LungTruth:
    inside = hu_zyx[mask_zyx]
    return LungTruth(
        mask_zyx=mask_zyx,
        volume_ml=float(inside.size * voxel_ml),
        laa950_percent=float((inside < _LAA_THRESHOLD_HU).mean() * 100),
        mean_hu=float(inside.mean()),
        percentile15_hu=float(np.percentile(inside, 15)),
    )


def _ct_slice(seed: str, index: int, position_mm: tuple[float, float, float]) -> Dataset:
    dataset = _base(CTImageStorage, seed, "CT", index)
    dataset.PatientName, dataset.PatientID, dataset.PatientAge = "PHANTOM^CHEST CT", f"PHANTOM-CT-{seed}", "055Y"
    dataset.StudyDescription, dataset.SeriesDescription = "PHANTOM chest CT", "PHANTOM axial"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = derived_uid("phantom-frame-of-reference", seed)
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = list(position_mm)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = position_mm[2]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _RESCALE_INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = -500, 1500
    dataset.KVP, dataset.ConvolutionKernel = "120", "PHANTOM"
    dataset.AcquisitionNumber = 1
    return dataset


def _base(sop_class_uid: str, seed: str, modality: str, index: int) -> Dataset:
    """Return the patient, study, series and equipment attributes every phantom image has."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = UID(sop_class_uid)
    dataset.SOPInstanceUID = derived_uid("phantom-instance", modality, seed, str(index))
    dataset.StudyInstanceUID = derived_uid("phantom-study", modality, seed)
    dataset.SeriesInstanceUID = derived_uid("phantom-series", modality, seed)
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260105"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "081500"
    dataset.AccessionNumber, dataset.StudyID = f"PHANTOM{seed}"[:16], "PHANTOM"
    dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.BodyPartExamined = modality, "CHEST"
    dataset.Manufacturer, dataset.ManufacturerModelName = DEMONSTRATION_MANUFACTURER, "PHANTOM"
    dataset.SoftwareVersions = __version__
    dataset.SeriesNumber, dataset.InstanceNumber = 1, index + 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    return dataset


def _set_pixels(dataset: Dataset, stored: NDArray[np.uint16], *, bits_stored: int) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
