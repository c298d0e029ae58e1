"""Ask a model about every labelled image; what happens to one is its outcome and keeps no other from its turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicom_node.errors import InferenceError, NotAnalysable
from dicom_node.evaluation.images import source_files
from dicom_node.evaluation.labels import LabelledImage
from dicom_node.governance.asking import Asker
from dicom_node.ingest.wrapping import PictureWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
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
    images: Sequence[LabelledImage], finding: str, asker: Asker, tell: Callable[[int], None]
) -> Sequence[Outcome]:
    """Return the outcomes in the order of the images; `tell` hears how many are done."""
    return list(_outcomes(images, finding, asker, tell))


def _outcomes(
    images: Sequence[LabelledImage], finding: str, asker: Asker, tell: Callable[[int], None]
) -> Iterator[Outcome]:
    wrapper = PictureWrapper()
    try:
        for number, image in enumerate(images, 1):
            started = time.perf_counter()
            outcome = _ask(image, finding, asker, wrapper)
            yield replace(outcome, took_s=round(time.perf_counter() - started, 4))
            tell(number)
    finally:
        wrapper.close()


def _ask(image: LabelledImage, finding: str, asker: Asker, wrapper: PictureWrapper) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="evaluation-") as made:
        try:
            answer = asker.ask(source_files(image, wrapper, Path(made)), {}, Path(made))
        except NotAnalysable as refusal:
            return Outcome(image=image, reason=refusal.reason, message=str(refusal))
        except InferenceError as error:
            return Outcome(image=image, reason="ANALYSIS_FAILED", message=str(error))
    return _told(image, finding, answer)


def _told(image: LabelledImage, finding: str, answer: dict[str, Any]) -> Outcome:
    if answer.get("reason"):
        return Outcome(image=image, reason=str(answer["reason"]), message=str(answer["message"]))
    found = next((one for one in answer["findings"] if one["key"] == finding), None)
    if found is None or found["probability"] is None:
        return Outcome(image=image, reason="NO_PROBABILITY", message=f"The answer has no probability of {finding}.")
    return Outcome(image=image, probability=float(found["probability"]), threshold=found["threshold"])
