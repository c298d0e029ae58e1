"""What an algorithm is given for one run: its card, its parameters, the images, and where to leave notes and times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import NotAnalysable
from dicom_node.headers.sound import READ_ERRORS, drop_unreadable
from dicom_node.inference.cards.card import ModelCard

#: Without these nothing can be said about an image, nor to whom.
_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


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
    #: Numbers about the answer itself, by name.
    figures: dict[str, float] = field(default_factory=dict)
    #: A destination wants fractional segmentations; else the probabilities of every voxel are let go at once.
    keeps_probabilities: bool = False
    #: The series of each of the card's channels, in order; empty for a model that is given one series.
    channel_series: tuple[str, ...] = ()
    #: Headers of what was read together with the sources of the answer.
    further_sources: list[Dataset] = field(default_factory=list)
    #: How far each image is from those that the model knows, where its card has known looks; below 1 it is known.
    look_distances: list[float] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the run, in seconds."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_times_s[name] = round(time.perf_counter() - started, 3)


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Read a stored file; what nobody can read of its header is not in the dataset (`headers.sound`).

    Pydicom converts a value, and fails on a malformed one, only when it is first asked for: after this nothing that is
    left fails. Raises `NotAnalysable` (UNREADABLE_FILE) when the file is not readable DICOM or lacks its UIDs.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=not pixels)
        drop_unreadable(dataset)
        missing = [keyword for keyword in _UIDS if not dataset.get(keyword)]
    except READ_ERRORS as error:
        raise NotAnalysable(
            "UNREADABLE_FILE", f"A stored object is not readable as DICOM ({type(error).__name__})."
        ) from error
    if missing:
        raise NotAnalysable("UNREADABLE_FILE", f"A stored object is not readable as DICOM: it lacks {missing[0]}.")
    return dataset
