"""A chest CT phantom with an answer that every kind of object has something to say about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy.ndimage import distance_transform_edt, gaussian_filter

from dicom_node.analysis.answer import Analysis, Histogram, Saliency, Segment
from dicom_node.core import codes
from dicom_node.core.codes import term_code
from dicom_node.core.entities import Finding, Measurement, Presence, Region
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.demo.phantoms import PhantomTruth, chest_ct_phantom, chest_radiograph_phantom
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples

EVERYTHING = OutputSet(
    presentation_state=True, parametric_map=True, key_objects=True, encapsulated_pdf=True, rejection_note=True
)
_EMPHYSEMA_HU = -940
_CORNERS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedStudy:
    """A CT whose dark area in the right lung is outlined on one slice, and the files of everything written about it."""

    study_uid: str
    #: Instance number of the slice with the outline.
    marked_instance: int
    diameter_mm: float
    #: Right and left lung on the slice of each instance number.
    lungs: Mapping[int, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    sources: tuple[Path, ...]
    objects: tuple[Path, ...]

    def read(self, modality: str) -> Dataset:
        """Return the first of the objects of this modality."""
        return next(one for one in map(dcmread, self.objects) if modality == one.Modality)


def marked_study(folder: Path) -> MarkedStudy:
    """Write a phantom and all kinds of objects about it into `folder`."""
    sources, truth = chest_ct_phantom("viewer", slices=48, slice_spacing_mm=6.5)
    answer, spot = _answer(sources, truth)
    written = write_objects(answer, examples.context(output_sets=(EVERYTHING,)))
    return MarkedStudy(
        study_uid=str(sources[0].StudyInstanceUID),
        marked_instance=int(sources[spot.slice_index].InstanceNumber),
        diameter_mm=spot.diameter_mm,
        lungs={
            int(one.InstanceNumber): (truth.right.mask_zyx[index], truth.left.mask_zyx[index])
            for index, one in enumerate(sources)
        },
        sources=tuple(_saved(folder / f"image-{index:02}.dcm", to_part10(one)) for index, one in enumerate(sources)),
        objects=tuple(_saved(folder / f"{one.order:02}-{one.kind}.dcm", to_part10(one.dataset)) for one in written),
    )


def marked_answer() -> Analysis:
    """Return the answer alone, with its images."""
    return _answer(*chest_ct_phantom("viewer", slices=48, slice_spacing_mm=6.5))[0]


def radiograph_study(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Write a radiograph and a report about it, one class of which the model could not tell; also return the study."""
    image = chest_radiograph_phantom("viewer")
    answer = examples.radiograph_analysis(image)
    written = write_objects(answer, examples.context(job_key="b2" * 32))
    datasets = [image, *(one.dataset for one in written)]
    files = tuple(_saved(folder / f"{index}.dcm", to_part10(one)) for index, one in enumerate(datasets))
    return str(image.StudyInstanceUID), files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """A dark area where it is largest: its middle and radius in pixels (column, row)."""

    slice_index: int
    middle_xy_px: tuple[float, float]
    radius_px: float
    diameter_mm: float
    mean_hu: float


def _answer(sources: Sequence[Dataset], truth: PhantomTruth) -> tuple[Analysis, _Spot]:
    hu_zyx = np.stack([one.pixel_array.astype(np.float32) + float(one.RescaleIntercept) for one in sources])
    spot = _largest_spot(hu_zyx, truth.right.mask_zyx, float(sources[0].PixelSpacing[0]))
    image = sources[spot.slice_index]
    emphysema = Finding(
        key="emphysema", label="Emphysema", code=term_code("findings", "emphysema"), site=codes.LUNG,
        laterality=codes.RIGHT, presence=Presence.PRESENT, probability=0.93, threshold=0.5,
        region=Region(sop_instance_uid=str(image.SOPInstanceUID), points_xy_px=_circle(spot)),
        measurements=(
            Measurement(codes.DIAMETER, spot.diameter_mm, codes.MILLIMETER),
            Measurement(codes.ATTENUATION_COEFFICIENT, spot.mean_hu, codes.HOUNSFIELD_UNIT, codes.MEAN),
        ),
        explanation_key=f"heatmap:emphysema:{image.SOPInstanceUID}",
    )  # fmt: skip
    lungs = examples.ct_analysis(tuple(sources), key_slices=(spot.slice_index,))
    volumes = (truth.right.volume_ml, truth.left.volume_ml)
    findings = [
        replace(one, measurements=(Measurement(codes.VOLUME, round(volume_ml), codes.MILLILITER),))
        for one, volume_ml in zip(lungs.findings, volumes, strict=True)
    ]
    answer = replace(
        lungs,
        findings=(emphysema, *findings),
        segments=_segments(lungs.segments, truth),
        saliencies=(_saliency(spot, image),),
        histogram=_histogram(hu_zyx[truth.both.mask_zyx]),
        notes=(),
    )
    return answer, spot


def _largest_spot(hu_zyx: NDArray[np.float32], lung_zyx: NDArray[np.bool_], spacing_mm: float) -> _Spot:
    """Return the largest circle that lies wholly in dark lung on one slice: dark areas may touch each other."""
    dark = lung_zyx & (gaussian_filter(hu_zyx, (0, 1, 1)) < _EMPHYSEMA_HU)
    to_edge_px = np.stack([distance_transform_edt(one) for one in dark])
    index, row, column = (int(one) for one in np.unravel_index(to_edge_px.argmax(), to_edge_px.shape))
    radius_px = float(to_edge_px[index, row, column])
    rows, columns = np.ogrid[: dark.shape[1], : dark.shape[2]]
    inside = (rows - row) ** 2 + (columns - column) ** 2 < radius_px**2
    return _Spot(
        slice_index=index,
        middle_xy_px=(column + 0.5, row + 0.5),
        radius_px=radius_px,
        diameter_mm=round(2 * radius_px * spacing_mm, 1),
        mean_hu=round(float(hu_zyx[index][inside].mean())),
    )


def _circle(spot: _Spot) -> tuple[tuple[float, float], ...]:
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    x, y = spot.middle_xy_px
    corners = [(x + spot.radius_px * float(np.cos(one)), y + spot.radius_px * float(np.sin(one))) for one in angles]
    return (*corners, corners[0])


def _segments(examples_of: Sequence[Segment], truth: PhantomTruth) -> tuple[Segment, ...]:
    masks = (truth.right.mask_zyx, truth.left.mask_zyx)
    return tuple(replace(one, mask=mask) for one, mask in zip(examples_of, masks, strict=True))


def _saliency(spot: _Spot, image: Dataset) -> Saliency:
    row, column = np.ogrid[: image.Rows, : image.Columns]
    x, y = spot.middle_xy_px
    squared_px = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
    heat = np.exp(-squared_px / (1.2 * spot.radius_px) ** 2).astype(np.float32)
    return Saliency(
        finding_key="emphysema", sop_instance_uid=str(image.SOPInstanceUID), map=heat, method="Grad-CAM (phantom)"
    )


def _histogram(lung_hu: NDArray[np.float32]) -> Histogram:
    counts, edges = np.histogram(lung_hu, bins=60, range=(-1024, -600))
    return Histogram(
        title="Lung density", x_label="HU", bin_edges=edges, counts=counts.astype(float), marks={"-950 HU": -950.0}
    )


def _saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
