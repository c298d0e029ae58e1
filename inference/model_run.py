"""What an algorithm is given for one run: its card, its parameters, the images, and where to leave notes and times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.images.pixels import READ_ERRORS

#: What the gates and builders look at and what has one value at most. Pydicom converts a value, and refuses a
#: malformed one, only when it is first asked for; better here, where a refusal has a name.
_SINGLE_VALUED = (
    "AccessionNumber",
    "AcquisitionNumber",
    "Columns",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "Modality",
    "NumberOfFrames",
    "PatientAge",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "PhotometricInterpretation",
    "PresentationIntentType",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SliceThickness",
    "StudyDate",
    "StudyInstanceUID",
    "StudyTime",
    "ViewPosition",
)
_MULTI_VALUED = ("ImageOrientationPatient", "ImagePositionPatient", "ImageType", "PixelSpacing", "ViewCodeSequence")


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One stored instance: its header (no pixels) and how to read it whole."""

    path: Path
    header: Dataset

    def read(self) -> Dataset:
        """Read the whole image. Raises `NotAnalysable` (UNREADABLE_FILE)."""
        return read_dataset(self.path, pixels=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """One run of one model. `notes` and `stage_times_s` are filled as it goes, also by a run that is declined.

    A model in Python times its parts and leaves sentences for people:

    >>> from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
    >>> card = load_card(SHIPPED_MODELS / "ct-lung-density")
    >>> run = ModelRun(card=card, identity=card.identity({}), parameters=card.parameters, images=())
    >>> with run.stage("measure"):
    ...     run.notes.append("The slices are thick: the volume is less certain.")
    >>> list(run.stage_times_s), len(run.notes)
    (['measure'], 1)
    """

    card: ModelCard
    identity: ModelIdentity
    parameters: Mapping[str, float]
    images: tuple[SourceImage, ...]
    notes: list[str] = field(default_factory=list)
    stage_times_s: dict[str, float] = field(default_factory=dict)
    #: A destination wants fractional segmentations; else the probabilities of every voxel are let go at once.
    keeps_probabilities: bool = False

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the run, in seconds."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_times_s[name] = round(time.perf_counter() - started, 3)


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read a stored file. Raises `NotAnalysable` (UNREADABLE_FILE) when it is not readable DICOM."""
    try:
        dataset = dcmread(path, stop_before_pixels=not pixels)
        _convert(dataset)
    except READ_ERRORS as error:
        raise NotAnalysable(
            "UNREADABLE_FILE", f"A stored object is not readable as DICOM ({type(error).__name__})."
        ) from error
    return dataset


def _convert(dataset: Dataset) -> None:
    for keyword in _MULTI_VALUED:
        dataset.get(keyword)
    for keyword in _SINGLE_VALUED:
        if isinstance(dataset.get(keyword), MultiValue):
            raise ValueError(f"{keyword} has more than one value")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not dataset.get(keyword):
            raise ValueError(f"{keyword} is missing")
