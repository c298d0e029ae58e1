"""Ask a model about every labelled image; what happens to one is its outcome and keeps no other from its turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.analysis.context import SourceFile
from dicom_node.core.errors import InferenceError, NotAnalysable, RefusedObject
from dicom_node.core.uids import derived_uid
from dicom_node.evaluation.labels import LabelledImage
from dicom_node.governance.golden import files_in
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.ingest.wrapping import PictureRequest, PictureWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutcome:
    """What became of one image: a probability with the threshold in force, or the reason why there is none."""

    image: LabelledImage
    probability: float | None = None
    threshold: float | None = None
    reason: str = ""
    message: str = ""
    took_s: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it enters the figures: analysed, and labelled."""
        return self.probability is not None and self.image.truth is not None


def ask_all(
    images: Sequence[LabelledImage], finding: str, asker: ModelProbe, tell: Callable[[int], None]
) -> Sequence[ImageOutcome]:
    """Return the outcomes in the order of the images; `tell` hears how many are done."""
    return list(_outcomes(images, finding, asker, tell))


def _outcomes(
    images: Sequence[LabelledImage], finding: str, asker: ModelProbe, tell: Callable[[int], None]
) -> Iterator[ImageOutcome]:
    wrapper = PictureWrapper()
    try:
        for number, image in enumerate(images, 1):
            started = time.perf_counter()
            outcome = _ask(image, finding, asker, wrapper)
            yield replace(outcome, took_s=round(time.perf_counter() - started, 4))
            tell(number)
    finally:
        wrapper.close()


def _ask(image: LabelledImage, finding: str, asker: ModelProbe, wrapper: PictureWrapper) -> ImageOutcome:
    with tempfile.TemporaryDirectory(prefix="evaluation-") as made:
        try:
            answer = asker.ask(source_files(image, wrapper, Path(made)), {}, Path(made))
        except NotAnalysable as refusal:
            return ImageOutcome(image=image, reason=refusal.reason, message=str(refusal))
        except InferenceError as error:
            return ImageOutcome(image=image, reason="ANALYSIS_FAILED", message=str(error))
    return _told(image, finding, answer)


def _told(image: LabelledImage, finding: str, answer: dict[str, Any]) -> ImageOutcome:
    if answer.get("reason"):
        return ImageOutcome(image=image, reason=str(answer["reason"]), message=str(answer["message"]))
    found = next((one for one in answer["findings"] if one["key"] == finding), None)
    if found is None or found["probability"] is None:
        return ImageOutcome(
            image=image, reason="NO_PROBABILITY", message=f"The answer has no probability of {finding}."
        )
    return ImageOutcome(image=image, probability=float(found["probability"]), threshold=found["threshold"])


# --- one labelled image --------------------------------------------------------------------------------------------

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_MAX_MEGAPIXELS = 64
_UIDS = ["SOPInstanceUID", "SeriesInstanceUID"]


def source_files(image: LabelledImage, wrapper: PictureWrapper, folder: Path) -> Sequence[SourceFile]:
    """Return the files of one image or series. Raises `NotAnalysable` for what is no image at all."""
    if image.path.is_dir():
        files = list(files_in(image.path))
        if not files:
            raise NotAnalysable("NO_IMAGES", "The folder holds no DICOM image.")
        return files
    if not image.path.is_file():
        raise NotAnalysable("FILE_MISSING", "The labels name a file that is not there.")
    if image.path.suffix.lower() in _PICTURES:
        return [_wrapped(image, wrapper, folder)]
    return [_source(image.path)]


def _wrapped(image: LabelledImage, wrapper: PictureWrapper, folder: Path) -> SourceFile:
    target = folder / "picture.dcm"
    study = derived_uid("evaluated-picture", image.name)
    request = PictureRequest(image.path, target, _words(image.attributes), study, 1, _MAX_MEGAPIXELS)
    try:
        wrapper.wrap(request)
    except RefusedObject as refusal:
        raise NotAnalysable("UNREADABLE_FILE", str(refusal)) from refusal
    return _source(target)


def _words(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return {"PatientID": "EVALUATION", **attributes}


def _source(path: Path) -> SourceFile:
    try:
        header = dcmread(path, specific_tags=_UIDS, stop_before_pixels=True)
    except (InvalidDicomError, OSError) as error:
        raise NotAnalysable("UNREADABLE_FILE", "The file is neither DICOM nor PNG nor JPEG.") from error
    found = SourceFile(path=path, sop_instance_uid="", series_instance_uid="")
    return replace(
        found,
        sop_instance_uid=str(header.get("SOPInstanceUID", "")),
        series_instance_uid=str(header.get("SeriesInstanceUID", "")),
    )
