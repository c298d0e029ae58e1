"""Made-up studies and answers for tests: small arrays, every header value chosen so that a mistake shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from dicom_node.analysis.answer import Analysis, Histogram, NotAnalysed, Saliency, Segment
from dicom_node.analysis.context import Predecessor, ReportContext
from dicom_node.core import codes
from dicom_node.core.entities import Code, Finding, Measurement, ModelIdentity, Presence, Region
from dicom_node.core.uids import derived_uid

STARTED_AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion")
PLEURA = Code("3120008", "SCT", "Pleura")

CXR_MODEL = ModelIdentity(
    name="cxr-pneumonia",
    version="1.0.0",
    manufacturer="DICOM AI Node Project",
    digest="9f" * 32,
    device_uid=derived_uid("model", "cxr-pneumonia"),
    parameters=("threshold=0.5",),
    intended_use="Sorting of pediatric chest radiographs for research.",
    limits="Trained on children aged 1 to 5; frontal views only.",
)
CT_MODEL = ModelIdentity(
    name="ct-lung-density",
    version="1.0.0",
    manufacturer="DICOM AI Node Project",
    digest="3c" * 32,
    device_uid=derived_uid("model", "ct-lung-density"),
    parameters=("laa_threshold_hu=-950",),
    limits="Not validated for contrast-enhanced scans.",
    calibrated=True,
)


def context(**changes: Any) -> ReportContext:
    """Return the context of one job; `changes` replace single fields."""
    values: dict[str, Any] = {
        "job_key": "a1" * 32,
        "route_name": "chest",
        "started_at": STARTED_AT,
        "ae_title": "AINODE",
        "node_uid": derived_uid("node", "test"),
    }
    return ReportContext(**(values | changes))


def predecessor(report: Dataset, instance_number: int) -> Predecessor:
    """Return what a result is told of the report that it replaces."""
    return Predecessor(
        sop_class_uid=str(report.SOPClassUID), sop_instance_uid=str(report.SOPInstanceUID),
        series_instance_uid=str(report.SeriesInstanceUID), instance_number=instance_number,
    )  # fmt: skip


def radiograph(rows: int = 300, columns: int = 280, **changes: Any) -> Dataset:
    """Return a CR image with soft shapes; keyword arguments set attributes, `None` deletes one."""
    source = _header("study-cr", "series-cr", "image-cr")
    source.SOPClassUID = ComputedRadiographyImageStorage
    source.Modality = "CR"
    source.BodyPartExamined = "CHEST"
    source.ViewPosition = "PA"
    source.PatientOrientation = ["L", "F"]
    _set_pixels(source, _chest(rows, columns))
    return _changed(source, changes)


def digital_radiograph(**changes: Any) -> Dataset:
    """Return a DX image stored as MONOCHROME1, with the window given for the inverted scale."""
    source = radiograph(rows=320, columns=400)
    source.SOPClassUID = DigitalXRayImageStorageForPresentation
    source.Modality = "DX"
    source.PresentationIntentType = "FOR PRESENTATION"
    source.ImagerPixelSpacing = [0.2, 0.2]
    _set_pixels(source, 4095 - _chest(320, 400))
    source.PhotometricInterpretation = "MONOCHROME1"
    return _changed(source, changes)


def ct_volume(
    slices: int = 8,
    size: int = 64,
    row: tuple[float, float, float] = (1, 0, 0),
    column: tuple[float, float, float] = (0, 1, 0),
    step_mm: float = 2.5,
) -> tuple[Dataset, ...]:
    """Return CT slices in order along the slice normal; `row` and `column` are the direction cosines."""
    normal = np.cross(row, column)
    volume = _thorax_hu(slices, size)
    sources = []
    for index in range(slices):
        source = _header("study-ct", "series-ct", f"image-ct-{index}")
        source.SOPClassUID = CTImageStorage
        source.Modality = "CT"
        source.BodyPartExamined = "CHEST"
        source.FrameOfReferenceUID = derived_uid("frame", "study-ct")
        source.PositionReferenceIndicator = ""
        source.ImageOrientationPatient = [round(float(v), 6) for v in (*row, *column)]
        source.ImagePositionPatient = [round(float(v), 4) for v in np.array([-20, -30, 100]) + normal * step_mm * index]
        source.PixelSpacing = [0.8, 0.8]
        source.SliceThickness = step_mm
        source.InstanceNumber = slices - index
        source.RescaleSlope, source.RescaleIntercept = 1, -1024
        source.WindowCenter, source.WindowWidth = 40, 400
        _set_pixels(source, (volume[index] + 1024).astype(np.uint16))
        sources.append(source)
    return tuple(sources)


def radiograph_analysis(source: Dataset | None = None, **changes: Any) -> Analysis:
    """Return the answer of a classifier with a heatmap, a box, and a class it could not tell."""
    image = radiograph() if source is None else source
    uid = str(image.SOPInstanceUID)
    width, height = float(image.Columns), float(image.Rows)
    left, top, right, bottom = width * 0.2, height * 0.3, width * 0.45, height * 0.7
    box = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    values: dict[str, Any] = {
        "model": CXR_MODEL,
        "sources": (image,),
        "findings": (
            Finding(key="pneumonia", label="Pneumonia", code=PNEUMONIA, site=codes.LUNG, presence=Presence.PRESENT,
                    probability=0.8316, threshold=0.5, explanation_key=f"heatmap:pneumonia:{uid}"),
            Finding(key="effusion", label="Pleural effusion", code=PLEURAL_EFFUSION, site=PLEURA,
                    laterality=codes.RIGHT, presence=Presence.PRESENT, probability=0.61, threshold=0.5,
                    region=Region(sop_instance_uid=uid, points_xy_px=box)),
            Finding(key="pneumothorax", label="Pneumothorax", code=Code("36118008", "SCT", "Pneumothorax"),
                    site=PLEURA, presence=Presence.ABSENT, probability=0.031, threshold=0.4),
            Finding(key="edema", label="Pulmonary edema", code=Code("19242006", "SCT", "Pulmonary edema"),
                    site=codes.LUNG, presence=Presence.UNDETERMINED),
        ),
        "saliencies": (
            Saliency(finding_key="pneumonia", sop_instance_uid=uid, map=_blob(int(image.Rows), int(image.Columns)),
                     method="Grad-CAM, layer features"),
        ),
        "notes": ("The only frontal view was used.",),
    }  # fmt: skip
    return Analysis(**(values | changes))


def ct_analysis(sources: tuple[Dataset, ...] | None = None, **changes: Any) -> Analysis:
    """Return the answer of a segmentation of both lungs with measurements and a histogram."""
    images = ct_volume() if sources is None else sources
    left, right = lung_masks(len(images), int(images[0].Rows), int(images[0].Columns))
    values: dict[str, Any] = {
        "model": CT_MODEL,
        "sources": images,
        "findings": (
            _lung("right-lung", "Right lung", codes.RIGHT, 1, 2411.0),
            _lung("left-lung", "Left lung", codes.LEFT, 2, 2103.5),
        ),
        "segments": (
            Segment(number=1, label="Right lung", category=codes.ANATOMICAL_STRUCTURE, type=codes.LUNG, mask=right,
                    finding_key="right-lung"),
            Segment(number=2, label="Left lung", category=codes.ANATOMICAL_STRUCTURE, type=codes.LUNG, mask=left,
                    finding_key="left-lung", color_rgb=(70, 150, 240)),
        ),
        "histogram": Histogram(
            title="Lung density", x_label="HU", bin_edges=np.linspace(-1024, -200, 60),
            counts=np.exp(-(((np.linspace(-1024, -200, 59) + 850) / 70) ** 2)) * 1000, marks={"-950 HU": -950.0},
        ),
        "key_slices": (len(images) // 2, len(images) // 4),
        "notes": ("Acquisition 1 of 3 was used: it covers both lungs.",),
    }  # fmt: skip
    return Analysis(**(values | changes))


def not_analysed(sources: tuple[Dataset, ...] | None = None) -> NotAnalysed:
    """Return the refusal of a series with a gap."""
    return NotAnalysed(
        model=CT_MODEL,
        sources=ct_volume() if sources is None else sources,
        reason="GAP_IN_SERIES",
        message="The series has a gap of 10.0 mm between slice 4 and slice 5; send the missing images.",
        notes=("Series 2 was considered.",),
    )


def lung_masks(slices: int, rows: int, columns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (left, right) masks without any symmetry, empty in the first slice."""
    z, y, x = np.ogrid[:slices, :rows, :columns]
    middle = (y - rows * 0.45) ** 2 / (rows * 0.3) ** 2
    grown = 0.4 + 0.6 * z / max(slices - 1, 1)
    left = ((x - columns * 0.7) ** 2 / (columns * 0.17) ** 2 + middle) < grown
    right = ((x - columns * 0.3) ** 2 / (columns * 0.2) ** 2 + middle) < grown
    if slices > 1:
        left[0] = right[0] = False
    return np.asarray(left), np.asarray(right)


def _lung(key: str, label: str, laterality: Code, segment_number: int, volume_ml: float) -> Finding:
    return Finding(
        key=key, label=label, code=codes.LUNG, site=codes.LUNG, laterality=laterality, segment_number=segment_number,
        measurements=(
            Measurement(codes.VOLUME, volume_ml, codes.MILLILITER),
            Measurement(codes.ATTENUATION_COEFFICIENT, -846.2, codes.HOUNSFIELD_UNIT),
        ),
    )  # fmt: skip


def _header(study: str, series: str, image: str) -> Dataset:
    source = Dataset()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source.SpecificCharacterSet = "ISO_IR 100"
    source.SOPInstanceUID = derived_uid(image)
    source.StudyInstanceUID = derived_uid(study)
    source.SeriesInstanceUID = derived_uid(series)
    source.PatientName = "Müller^Jörg"
    source.PatientID = "PID-0001"
    source.IssuerOfPatientID = "HOSPITAL"
    source.PatientBirthDate = "19700102"
    source.PatientSex = "M"
    source.PatientAge = "056Y"
    source.StudyDate, source.StudyTime = "20260314", "091500"
    source.AccessionNumber = "ACC-77"
    source.StudyID = "S1"
    source.StudyDescription = "Thorax"
    source.ReferringPhysicianName = "Weiß^Anna"
    source.SeriesNumber = 3
    source.InstanceNumber = 1
    source.Manufacturer = "Scanner Works"
    source.ImageType = ["ORIGINAL", "PRIMARY"]
    return source


def _set_pixels(source: Dataset, pixels: NDArray[Any]) -> None:
    source.Rows, source.Columns = pixels.shape
    source.SamplesPerPixel = 1
    source.PhotometricInterpretation = "MONOCHROME2"
    source.BitsAllocated, source.BitsStored, source.HighBit, source.PixelRepresentation = 16, 12, 11, 0
    source.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    source["PixelData"].VR = "OW"


def _changed(source: Dataset, changes: dict[str, Any]) -> Dataset:
    for keyword, value in changes.items():
        if value is None:
            del source[keyword]
        else:
            setattr(source, keyword, value)
    return source


def _chest(rows: int, columns: int) -> NDArray[np.uint16]:
    y, x = np.mgrid[:rows, :columns]
    body = np.exp(-(((x - columns / 2) / (columns * 0.42)) ** 6))
    lungs = sum(
        np.exp(-((((x - columns * c) / (columns * 0.15)) ** 2 + ((y - rows * 0.45) / (rows * 0.28)) ** 2) ** 2))
        for c in (0.3, 0.7)
    )
    return np.asarray(3400 * body * (1 - 0.75 * lungs) + 100, dtype=np.uint16)


def _thorax_hu(slices: int, size: int) -> NDArray[np.int32]:
    left, right = lung_masks(slices, size, size)
    y, x = np.ogrid[:size, :size]
    body = ((x - size / 2) ** 2 / (size * 0.48) ** 2 + (y - size / 2) ** 2 / (size * 0.42) ** 2) < 1
    volume = np.where(body, 40, -1000)[np.newaxis].repeat(slices, axis=0)
    volume[left | right] = -850
    return np.asarray(volume, dtype=np.int32)


def _blob(rows: int, columns: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:rows, :columns]
    distance = ((x - columns * 0.68) / (columns * 0.16)) ** 2 + ((y - rows * 0.6) / (rows * 0.16)) ** 2
    return np.asarray(np.exp(-distance), dtype=np.float32)
