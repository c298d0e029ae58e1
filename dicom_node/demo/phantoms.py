"""Synthetic studies made in code: a chest CT with known truth, and a chest radiograph. All are named PHANTOM."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
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
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, derived_uid

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
        set_pixels(slice_dataset, (hu_zyx[index] - _RESCALE_INTERCEPT).astype(np.uint16), bits_stored=12)
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

    image = base_image(ComputedRadiographyImageStorage, seed, "CR", 0)
    image.PatientName, image.PatientID, image.PatientAge = "PHANTOM^CHEST XRAY", f"PHANTOM-XR-{seed}", age
    image.StudyDescription, image.SeriesDescription = "PHANTOM chest radiograph", "PHANTOM frontal"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.ViewPosition = view
    image.PatientOrientation = ["L", "F"]
    image.ImagerPixelSpacing = [spacing_mm, spacing_mm]
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.KVP = "90"
    image.PlateType = image.PlateID = ""
    set_pixels(image, np.rint(stored).astype(np.uint16), bits_stored=12)
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
    dataset = base_image(CTImageStorage, seed, "CT", index)
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


def base_image(sop_class_uid: str, seed: str, modality: str, index: int) -> Dataset:
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


def set_pixels(dataset: Dataset, stored: NDArray[np.uint16], *, bits_stored: int) -> None:
    """Give an image its stored values (rows, columns), unsigned, 16 bits allocated."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"


# --- a geometric chest, in patient coordinates (LPS, millimetres) --------------------------------------------------

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Point = tuple[float, float, float]

AIR_HU = -1000.0
LUNG_HU = -860.0
EMPHYSEMA_HU = -990.0
SOFT_TISSUE_HU = 40.0
BONE_HU = 350.0
TABLE_HU = -150.0

_HILUM_Z_MM = 0.0
_CARINA_Z_MM = 32.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Patient coordinates of voxel centres along each array axis: slices (z), rows (y), columns (x), in mm."""

    z_mm: Floats
    y_mm: Floats
    x_mm: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.z_mm), len(self.y_mm), len(self.x_mm)

    def ellipsoid(self, centre_xyz_mm: Point, axes_xyz_mm: Point) -> Bools:
        """Tell which voxels lie inside an ellipsoid; an infinite half axis makes a cylinder."""
        low, high = np.subtract(centre_xyz_mm, axes_xyz_mm), np.add(centre_xyz_mm, axes_xyz_mm)
        box, (x, y, z) = self._box(low, high)
        (cx, cy, cz), (ax, ay, az) = centre_xyz_mm, axes_xyz_mm
        inside = np.zeros(self.shape, bool)
        inside[box] = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 <= 1.0
        return inside

    def tube(self, start_xyz_mm: Point, end_xyz_mm: Point, radius_mm: float) -> Bools:
        """Tell which voxels lie within `radius_mm` of a straight line between two points."""
        low, high = np.minimum(start_xyz_mm, end_xyz_mm) - radius_mm, np.maximum(start_xyz_mm, end_xyz_mm) + radius_mm
        box, coordinates = self._box(low, high)
        along = np.subtract(end_xyz_mm, start_xyz_mm)
        offsets = [at - start for at, start in zip(coordinates, start_xyz_mm, strict=True)]
        reach = np.clip(sum(o * a for o, a in zip(offsets, along, strict=True)) / float(along @ along), 0.0, 1.0)
        inside = np.zeros(self.shape, bool)
        inside[box] = sum((o - reach * a) ** 2 for o, a in zip(offsets, along, strict=True)) <= radius_mm**2
        return inside

    def slab(self, low_xyz_mm: Point, high_xyz_mm: Point) -> Bools:
        """Tell which voxels lie in a box."""
        inside = np.zeros(self.shape, bool)
        inside[self._box(np.array(low_xyz_mm), np.array(high_xyz_mm))[0]] = True
        return inside

    def _box(self, low_xyz_mm: Floats, high_xyz_mm: Floats) -> tuple[tuple[Any, ...], tuple[Floats, Floats, Floats]]:
        """Return the indices of a bounding box and the coordinates (x, y, z) in it, ready to broadcast."""
        axes = zip((self.z_mm, self.y_mm, self.x_mm), low_xyz_mm[::-1], high_xyz_mm[::-1], strict=True)
        inside = [np.nonzero((at >= low) & (at <= high))[0] for at, low, high in axes]
        z, y, x = np.ix_(self.z_mm[inside[0]], self.y_mm[inside[1]], self.x_mm[inside[2]])
        return np.ix_(*inside), (x, y, z)


@dataclass(frozen=True, slots=True)
class Chest:
    """The noiseless chest: `hu_zyx` and which voxels belong to the left and the right lung, vessels included."""

    hu_zyx: Floats
    left_lung_zyx: Bools
    right_lung_zyx: Bools


def chest(grid: Grid, *, emphysema: bool = True) -> Chest:
    """Build the chest on a grid: body, bones, lungs with vessels and emphysema, airways, stomach bubble, table."""
    hu_zyx = np.full(grid.shape, AIR_HU, np.float32)
    left, right = _lungs(grid)
    _paint(hu_zyx, grid.ellipsoid((0, 0, 0), (168, 118, np.inf)), SOFT_TISSUE_HU)
    _paint(hu_zyx, grid.ellipsoid((0, 78, 0), (17, 15, np.inf)), BONE_HU)
    _paint(hu_zyx, grid.slab((-165, 130, -np.inf), (165, 138, np.inf)), TABLE_HU)
    _paint(hu_zyx, left | right, LUNG_HU)
    if emphysema:
        _paint(hu_zyx, _emphysema(grid, side=1.0, radius_mm=19.0) & left, EMPHYSEMA_HU)
        _paint(hu_zyx, _emphysema(grid, side=-1.0, radius_mm=28.0) & right, EMPHYSEMA_HU)
    _paint(hu_zyx, _vessels(grid), SOFT_TISSUE_HU)
    _paint(hu_zyx, grid.ellipsoid((62, -30, -142), (24, 22, 11)), AIR_HU)
    walls, lumen = _airways(grid, 2.5), _airways(grid, 0.0)
    _paint(hu_zyx, walls, SOFT_TISSUE_HU)
    _paint(hu_zyx, lumen, AIR_HU)
    return Chest(hu_zyx, left & ~walls, right & ~walls)


def _paint(hu_zyx: Floats, where: Bools, hu: float) -> None:
    hu_zyx[where] = hu


def _lungs(grid: Grid) -> tuple[Bools, Bools]:
    """Return (left, right); patient left is +x. The heart takes its notch from the left lung."""
    heart = grid.ellipsoid((32, -38, -45), (58, 50, 62))
    left = grid.ellipsoid((85, 2, 0), (58, 82, 120)) & ~heart
    right = grid.ellipsoid((-85, 2, 4), (60, 84, 126)) & ~heart
    return left, right


def _emphysema(grid: Grid, *, side: float, radius_mm: float) -> Bools:
    """Return a few spheres in the upper half of the lung on one side."""
    centres = ((80.0, -20.0, 60.0), (95.0, 30.0, 50.0), (75.0, 15.0, 85.0), (100.0, -10.0, 20.0))
    return _any(grid.ellipsoid((side * x, y, z), (radius_mm, radius_mm, radius_mm)) for x, y, z in centres)


def _vessels(grid: Grid) -> Bools:
    """Return thin tubes from each hilum outwards, within the lungs."""
    ends = ((85.0, -40.0, 60.0), (90.0, 45.0, 40.0), (95.0, 40.0, -60.0), (110.0, 5.0, -20.0))
    return _any(
        grid.tube((side * 58.0, 8.0, _HILUM_Z_MM), (side * x, y, z), 2.6) for x, y, z in ends for side in (-1, 1)
    )


def _airways(grid: Grid, wall_mm: float) -> Bools:
    """Return trachea and main bronchi, their lumen widened by `wall_mm`; the trachea opens at the top of the scan."""
    trachea = grid.tube((0, 22, _CARINA_Z_MM), (0, 16, 400), 9.0 + wall_mm)
    left = grid.tube((0, 22, _CARINA_Z_MM), (46, 14, _HILUM_Z_MM + 6), 6.0 + wall_mm)
    right = grid.tube((0, 22, _CARINA_Z_MM), (-44, 14, _HILUM_Z_MM), 7.0 + wall_mm)
    return trachea | left | right


def _any(masks: Iterable[Bools]) -> Bools:
    return functools.reduce(operator.or_, masks)
