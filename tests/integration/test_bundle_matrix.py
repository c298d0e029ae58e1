"""Bundles with known answers, in every orientation, classic and enhanced, CT and MR: through SEG, SR and FHIR.

What must come out is what MONAI's own pipeline says of the same volume as a NIfTI file, or the formula of the body. A
sample holds every bundle, every orientation and every kind of object at least once; a campaign holds all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

pytest.importorskip("torch", reason="the inference extra is not installed")
pytest.importorskip("nibabel", reason="MONAI reads NIfTI with nibabel")

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind, Presence
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_objects
from tests.support.campaign import amount
from tests.support.models.answered_bundles import DETECTORS, NUMBERS, SEGMENTERS, TRUE_TISSUE, monai_answer
from tests.support.studies import volumes
from tests.support.studies.data_factories import request_for
from tests.support.studies.shapes import OBLIQUE, PLACES, Placed, hounsfield_of, tissues_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

_SIZES = {"shape_zyx": (15, 20, 22), "spacing_zyx_mm": (4.3, 4.0, 3.6)}
#: Eight: three planes and an oblique one, and each axis of the array reversed.
EIGHT: Mapping[str, Placed] = {
    **{name: replace(place, **_SIZES) for name, place in PLACES.items()},
    "oblique, stored backwards": replace(OBLIQUE, backwards=True, **_SIZES),
}
KINDS = tuple(product(("CT", "MR"), ("classic", "enhanced")))


@dataclass(frozen=True)
class Cell:
    """One bundle on one study."""

    bundle: str
    place: str
    modality: str
    form: str

    def __str__(self) -> str:
        return f"{self.bundle} - {self.place} - {self.form} {self.modality}"

    @property
    def placed(self) -> Placed:
        return EIGHT[self.place]


def cells(bundles: Mapping[str, object]) -> list[Cell]:
    """Every bundle on every study in a campaign; else each once, on studies in turn."""
    turns = zip(cycle(EIGHT), cycle(KINDS[1:] + KINDS[:1] + KINDS[::-1]), strict=False)
    sample = [Cell(bundle, place, *kind) for bundle, (place, kind) in zip(bundles, turns, strict=False)]
    every = [Cell(bundle, place, *kind) for bundle in bundles for place in EIGHT for kind in KINDS]
    return amount(sample, campaign=every)


def study_of(cell: Cell) -> list[Dataset]:
    """The body on a grid, slices or frames in an order that tells nothing."""
    values, affine = hounsfield_of(cell.placed).astype(np.int16), cell.placed.affine_lps_mm
    order = np.random.default_rng(7).permutation(len(values))
    if cell.form == "enhanced":
        return [volumes.enhanced(values[None], affine, modality=cell.modality, order=[int(one) for one in order])]
    series = volumes.classic(values, affine, modality=cell.modality)
    return [series[one] for one in order]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles that were asked for so far: loaded once, they stay warm."""
    folder = tmp_path_factory.mktemp("models")
    writers = {**{name: one.write for name, one in SEGMENTERS.items()}, **DETECTORS, **NUMBERS}
    return _Written(lambda name: writers[name](folder / f"model-{len(list(folder.iterdir()))}"))


class _Written(dict[str, Path]):
    def __init__(self, write: Any) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, name: str) -> Path:
        self[name] = self._write(name)
        return self[name]


@dataclass(frozen=True)
class Told:
    """An answer, its objects, and the resources of its FHIR transaction."""

    answer: Analysis
    objects: tuple[WrittenObject, ...]
    resources: list[dict[str, Any]]

    def only(self, kind: ArtifactKind) -> Dataset:
        (found,) = (one.dataset for one in self.objects if one.kind is kind)
        return found


def told(cell: Cell, model: Path, folder: Path) -> Told:
    request = request_for(study_of(cell), model, folder)
    wanted = replace(request.context, output_sets=(OutputSet(secondary_capture=False),))
    answer = run_model(replace(request, context=wanted))
    assert isinstance(answer, Analysis), answer.message
    objects = tuple(write_objects(answer, wanted))
    bundle = build_bundle(answer, wanted, objects, FhirOptions())
    return Told(answer, objects, [entry["resource"] for entry in bundle["entry"]])


# --- reading back, without the node ----------------------------------------------------------------------------------


def masks_in(segmentation: Dataset, place: Placed) -> dict[int, NDArray[np.bool_]]:
    """Return the masks of a SEG on the grid of the body, by number: each frame where its position in the patient is."""
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns).astype(bool)
    masks = {int(one.SegmentNumber): np.zeros(place.shape_zyx, bool) for one in segmentation.SegmentSequence}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    direction = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    expected = [*place.affine_lps_mm[:3, 0] / place.spacing_zyx_mm[2], *place.affine_lps_mm[:3, 1]
                / place.spacing_zyx_mm[1]]  # fmt: skip
    assert [float(one) for one in direction] == pytest.approx(expected, abs=1e-4)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = [*map(float, groups.PlanePositionSequence[0].ImagePositionPatient), 1.0]
        column, row, index, _ = np.linalg.solve(place.affine_lps_mm, position)
        assert [column, row, index - round(index)] == pytest.approx([0, 0, 0], abs=1e-3)
        named = groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        masks[int(named[0].ReferencedSegmentNumber)][round(index)] = frame
    return masks


def sources_of(segmentation: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        yield groups, groups.DerivationImageSequence[0].SourceImageSequence[0]


def numbers_in_report(report: Dataset) -> set[tuple[str, float]]:
    """Return (code, value) of every number of a report."""
    found, waiting = set(), [report]
    while waiting:
        item = waiting.pop()
        waiting.extend(item.get("ContentSequence", []))
        if item.get("ValueType") == "NUM":
            value = item.MeasuredValueSequence[0].NumericValue
            found.add((str(item.ConceptNameCodeSequence[0].CodeValue), float(value)))
    return found


def numbers_in_fhir(value: object) -> set[tuple[str, float]]:
    """Return (code, value) of every quantity of some resources."""
    if isinstance(value, list):
        return {one for part in value for one in numbers_in_fhir(part)}
    if not isinstance(value, dict):
        return set()
    found = {one for part in value.values() for one in numbers_in_fhir(part)}
    if "valueQuantity" in value:
        codes = [coding["code"] for coding in value["code"]["coding"]]
        found |= {(code, float(value["valueQuantity"]["value"])) for code in codes}
    return found


# --- what must be measured, counted here -----------------------------------------------------------------------------

VOLUME, DIAMETER, DENSITY = "118565006", "81827009", "112031"


def expected_numbers(cell: Cell, mask: NDArray[np.bool_], measures: tuple[str, ...]) -> set[tuple[str, float]]:
    dz, dy, dx = cell.placed.spacing_zyx_mm
    found = {(VOLUME, float(f"{mask.sum() * dz * dy * dx / 1000:.4g}"))}
    if "diameter" in measures:
        found.add((DIAMETER, round(max(widest_mm(plane, dy, dx) for plane in mask if plane.any()), 1)))
    if "mean" in measures and cell.modality == "CT":
        found.add((DENSITY, round(float(hounsfield_of(cell.placed)[mask].mean()), 1)))
    return found


def widest_mm(plane: NDArray[np.bool_], dy: float, dx: float) -> float:
    """The largest distance of any two corners of any two pixels."""
    pixels = np.argwhere(plane)
    corners = np.concatenate([pixels + step for step in ([0, 0], [0, 1], [1, 0], [1, 1])]) * [dy, dx]
    return float(np.sqrt(((corners[:, None] - corners[None]) ** 2).sum(axis=-1)).max())


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("cell", cells(SEGMENTERS), ids=str)
def test_every_structure_is_where_monai_puts_it_in_every_object(
    cell: Cell, models: dict[str, Path], tmp_path: Path
) -> None:
    bundle = SEGMENTERS[cell.bundle]
    monai = monai_answer(models[cell.bundle], cell.placed, tmp_path)
    masks = {key: choose(monai) for key, choose in bundle.structures.items()}
    masks |= {key: choose(tissues_of(cell.placed)) for key, choose in TRUE_TISSUE.get(cell.bundle, {}).items()}
    assert all(mask.any() and not mask.all() for mask in masks.values())

    found = told(cell, models[cell.bundle], tmp_path / "study")

    segmentation = found.only(ArtifactKind.SEGMENTATION)
    stored = masks_in(segmentation, cell.placed)
    assert [one.finding_key for one in found.answer.segments] == list(masks)
    for number, (key, mask) in enumerate(masks.items(), start=1):
        assert np.count_nonzero(stored[number] != mask) == 0, key
    expected = {one for key, mask in masks.items()
                for one in expected_numbers(cell, mask, bundle.measures.get(key, ()))}  # fmt: skip
    assert numbers_in_report(found.only(ArtifactKind.STRUCTURED_REPORT)) >= expected
    assert numbers_in_fhir(found.resources) >= expected
    densities = [one for one in numbers_in_fhir(found.resources) if one[0] == DENSITY]
    assert bool(densities) == any(one[0] == DENSITY for one in expected)
    for groups, source in sources_of(segmentation):
        assert ("ReferencedFrameNumber" in source) == (cell.form == "enhanced")
        assert source.ReferencedSOPInstanceUID in {str(one.SOPInstanceUID) for one in found.answer.sources}, groups


@pytest.mark.campaign
@pytest.mark.parametrize("cell", cells(DETECTORS), ids=str)
def test_a_box_is_exactly_round_what_it_boxes(cell: Cell, models: dict[str, Path], tmp_path: Path) -> None:
    ball = np.argwhere(tissues_of(cell.placed) == 2)
    low, high = ball.min(axis=0), ball.max(axis=0) + 1

    found = told(cell, models[cell.bundle], tmp_path)

    nodule = next(one for one in found.answer.findings if one.presence is Presence.PRESENT)
    assert nodule.region is not None
    x, y = np.array(nodule.region.points_xy_px).T
    assert [x.min(), x.max(), y.min(), y.max()] == pytest.approx([low[2], high[2], low[1], high[1]], abs=1e-3)
    largest_mm = round(float(((high - low) * cell.placed.spacing_zyx_mm).max()), 1)
    for numbers in (numbers_in_report(found.only(ArtifactKind.STRUCTURED_REPORT)), numbers_in_fhir(found.resources)):
        assert (DIAMETER, largest_mm) in numbers
    shown = next(one for one in found.answer.sources if getattr(one, "frame_number", None) == nodule.region.frame_number
                 and one.SOPInstanceUID == nodule.region.sop_instance_uid)  # fmt: skip
    index = np.linalg.solve(cell.placed.affine_lps_mm, [*map(float, shown.ImagePositionPatient), 1.0])[2]
    assert low[0] - 1e-3 <= index <= high[0]


@pytest.mark.campaign
@pytest.mark.parametrize("cell", cells(NUMBERS), ids=str)
def test_numbers_about_a_volume_are_those_of_monai(cell: Cell, models: dict[str, Path], tmp_path: Path) -> None:
    numbers = monai_answer(models[cell.bundle], cell.placed, tmp_path).ravel()

    found = told(cell, models[cell.bundle], tmp_path / "study")

    if cell.bundle == "classes of a volume":
        assert [one.probability for one in found.answer.findings] == pytest.approx(list(numbers), abs=1e-5)
        assert [one.threshold for one in found.answer.findings] == [0.5, 0.6]
        assert [one.presence is Presence.PRESENT for one in found.answer.findings] == [numbers[0] >= 0.5,
                                                                                       numbers[1] >= 0.6]  # fmt: skip
    else:
        expected = (DENSITY, float(f"{numbers[0]:.4g}"))
        assert expected in numbers_in_report(found.only(ArtifactKind.STRUCTURED_REPORT))
        assert expected in numbers_in_fhir(found.resources)
