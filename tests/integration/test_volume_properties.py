"""However a series is ordered, turned and encoded, the volume and what is marked in it lie at the same place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.analysis.answer import Analysis, Segment
from dicom_node.core import codes
from dicom_node.core.entities import Finding, Measurement
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.volume import Volume, read_volume
from dicom_node.sr_writer import to_part10
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.overlays.segmentation import segmentation
from tests.support.results import analysis_examples as examples
from tests.support.studies import volumes

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
#: pydicom's guess, which is wrong where a compressed frame happens to be as long as the plain one.
pytestmark = pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches:UserWarning")

VALUES = volumes.asymmetric()
SLICES = len(VALUES)

angles = st.floats(-math.pi, math.pi, allow_nan=False)
flips = st.tuples(st.booleans(), st.booleans(), st.booleans())
orders = st.permutations(range(SLICES))
varied = settings(
    max_examples=20,
    deadline=None,
    # A failing example of six files says enough; making it smaller takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Storage:
    """How another scanner stores the phantom: which array axis of it comes first, which run backwards, how turned."""

    axes: list[int]
    flipped: tuple[bool, bool, bool]
    angles: tuple[float, float, float]

    @property
    def rotation(self) -> NDArray[np.float64]:
        return turned(*self.angles)


storages = st.builds(Storage, axes=st.permutations(range(3)), flipped=flips, angles=st.tuples(angles, angles, angles))


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> NDArray[np.float64]:
    """Return the rotation (4x4) of the patient's axes by three angles."""
    matrix = np.eye(4)
    for axis, angle in ((2, yaw), (1, pitch), (0, roll)):
        a, b = [i for i in range(3) if i != axis]
        step = np.eye(4)
        step[a, a] = step[b, b] = math.cos(angle)
        step[a, b], step[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ step
    return matrix


def restored(storage: Storage) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return the phantom's values as they are stored, and where they lie."""
    order, values, place = storage.axes, VALUES, storage.rotation @ volumes.affine()
    # Array axes count (slice, row, column), columns of the affine (column, row, slice).
    values = np.transpose(values, order)
    place = place[:, [*(2 - np.array(order)[::-1]), 3]]
    for axis, flip in enumerate(storage.flipped):
        if flip:
            values = np.flip(values, axis)
            column = 2 - axis
            place[:, 3] += place[:, column] * (values.shape[axis] - 1)
            place[:, column] *= -1
    return np.ascontiguousarray(values), place


def phantom_value_at(volume: Volume, rotation: NDArray[np.float64]) -> NDArray[Any]:
    """Return, voxel by voxel of a volume, what the phantom holds at the same place in the patient."""
    z, y, x = np.indices(volume.values_zyx.shape)
    inside = np.linalg.inv(rotation @ volumes.affine()) @ volume.affine_lps_mm
    column, row, slices, _ = np.tensordot(inside, np.stack([x, y, z, np.ones_like(x)]), axes=1)
    for exact in (column, row, slices):
        assert np.abs(exact - np.rint(exact)).max() < 1e-3
    index = [np.rint(one).astype(int) for one in (slices, row, column)]
    return VALUES[index[0], index[1], index[2]]


def read(datasets: list[Dataset], folder: Path) -> Volume:
    return read_volume(volumes.stored(datasets, folder), Gate(), [])


@varied
@given(order=orders, syntax=st.sampled_from(SYNTAXES))
def test_order_and_transfer_syntax_change_nothing(tmp_path: Path, order: list[int], syntax: str) -> None:
    series = volumes.classic(VALUES, volumes.affine())
    straight = read(series, tmp_path / "straight")

    volume = read([volumes.encoded_as(series[index], syntax) for index in order], tmp_path / "varied")

    assert np.array_equal(volume.values_zyx, VALUES)
    assert np.array_equal(volume.values_zyx, straight.values_zyx)
    assert np.array_equal(volume.affine_lps_mm, straight.affine_lps_mm)
    assert [s.SOPInstanceUID for s in volume.sources] == [s.SOPInstanceUID for s in straight.sources]


@varied
@given(storage=storages, order=st.randoms(use_true_random=False))
def test_every_voxel_stays_at_its_place_in_the_patient(tmp_path: Path, storage: Storage, order: Any) -> None:
    series = volumes.classic(*restored(storage))
    order.shuffle(series)

    volume = read(series, tmp_path / "turned")

    assert np.array_equal(volume.values_zyx, phantom_value_at(volume, storage.rotation))


@varied
@given(
    frames=st.permutations(range(2 * SLICES)),
    syntax=st.sampled_from(SYNTAXES),
    modality=st.sampled_from(["CT", "MR"]),
    yaw=angles,
)
def test_an_enhanced_object_gives_the_volume_of_its_first_time(
    tmp_path: Path, frames: list[int], syntax: str, modality: str, yaw: float
) -> None:
    rotation = turned(yaw)
    both = np.stack([VALUES, VALUES[::-1]])
    whole = volumes.enhanced(both, rotation @ volumes.affine(), modality=modality, order=frames)
    notes: list[str] = []

    volume = read_volume(volumes.stored([volumes.encoded_as(whole, syntax)], tmp_path / "enhanced"), Gate(), notes)

    assert volume.modality == modality
    assert np.array_equal(volume.values_zyx, phantom_value_at(volume, rotation))
    assert [source.frame_number for source in volume.sources] == [  # type: ignore[attr-defined]
        frames.index(z) + 1 for z in range(SLICES)
    ]
    assert "temporal position 1 (6 slices), acquisition 1, temporal position 2 (6 slices)" in notes[0]


# --- a mask, through the segmentation and back ---


def bright(volume: Volume) -> Analysis:
    """Answer with a mask of the bright L, as a segmentation model would."""
    mask = np.asarray(volume.values_zyx) >= 1400
    finding = Finding(
        key="bone", label="Bone", code=codes.LUNG, site=codes.LUNG, segment_number=1,
        measurements=(Measurement(codes.VOLUME, 1.0, codes.MILLILITER),),
    )  # fmt: skip
    segment = Segment(
        number=1, label="Bone", category=codes.ANATOMICAL_STRUCTURE, type=codes.LUNG, mask=mask, finding_key="bone"
    )
    return Analysis(
        model=examples.CT_MODEL, sources=volume.sources, findings=(finding,), segments=(segment,), key_slices=(2,)
    )


def written_segmentation(analysis: Analysis) -> Dataset:
    written = segmentation(analysis, identity_of(analysis, examples.context()))
    assert written is not None
    return written


def marked_places(analysis: Analysis) -> NDArray[np.float64]:
    """Return the places (x, y, z in mm, sorted) that an independent reader finds marked in the written SEG."""
    volume = segread(BytesIO(to_part10(written_segmentation(analysis)))).get_volume(segment_numbers=[1])
    places = volume.map_indices_to_reference(np.argwhere(np.asarray(volume.array)[..., 0]))
    return np.array(sorted(np.round(places, 3).tolist()))


def true_places(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    z, y, x = np.nonzero(VALUES >= 1400)
    places = (rotation @ volumes.affine() @ np.stack([x, y, z, np.ones_like(x)]))[:3].T
    return np.array(sorted(np.round(places, 3).tolist()))


@varied
@given(storage=storages, syntax=st.sampled_from(SYNTAXES))
def test_a_mask_lies_on_the_voxels_it_was_drawn_on(tmp_path: Path, storage: Storage, syntax: str) -> None:
    # OpenJPEG does not encode images of six rows or columns.
    assume(syntax != JPEG2000Lossless or storage.axes[0] == 0)
    series = [volumes.encoded_as(one, syntax) for one in volumes.classic(*restored(storage))]

    places = marked_places(bright(read(series, tmp_path / "masked")))

    assert_alike(places, true_places(storage.rotation))


@varied
@given(frames=st.permutations(range(SLICES)), yaw=angles, modality=st.sampled_from(["CT", "MR"]))
def test_a_mask_on_an_enhanced_object_lies_on_its_voxels_and_names_its_frames(
    tmp_path: Path, frames: list[int], yaw: float, modality: str
) -> None:
    rotation = turned(yaw)
    whole = volumes.enhanced(VALUES[None], rotation @ volumes.affine(), modality=modality, order=frames)
    analysis = bright(read([whole], tmp_path / "enhanced"))

    assert_alike(marked_places(analysis), true_places(rotation))
    written = written_segmentation(analysis)
    for groups in written.PerFrameFunctionalGroupsSequence:
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        frame = whole.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
        assert reference.ReferencedSOPInstanceUID == whole.SOPInstanceUID
        assert np.allclose(
            groups.PlanePositionSequence[0].ImagePositionPatient,
            frame.PlanePositionSequence[0].ImagePositionPatient,
        )
    (series,) = written.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == [whole.SOPInstanceUID]


def assert_alike(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
    """Compare two sets of places; sorting may differ where roundings do."""
    assert found.shape == wanted.shape
    distances = np.linalg.norm(found[:, None] - wanted[None], axis=2)
    assert distances.min(axis=1).max() < 0.01
    assert distances.min(axis=0).max() < 0.01


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_every_transfer_syntax_is_really_another_encoding(syntax: Any) -> None:
    (first, *_) = volumes.classic(VALUES, volumes.affine())
    encoded = volumes.encoded_as(first, syntax)

    assert encoded.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(encoded.pixel_array, first.pixel_array)
