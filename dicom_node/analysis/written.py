"""What is made of an answer: pictures, finished DICOM objects, and JSON-ready data for the API."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, state_of, whole_objects
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import ArtifactKind, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A rendered secondary capture: RGB uint8 (rows, columns, 3).

    `key` is ``summary``, ``not-analysed``, or ``heatmap:<finding key>:<sop instance uid>``; further pages are
    ``summary:2`` and so on. `source` is the image it was drawn from.
    """

    key: str
    rgb: NDArray[np.uint8]
    description: str
    source: Dataset | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenObject:
    """A DICOM object a builder has finished: the dataset, its place in the order of sending, and a picture of it."""

    kind: ArtifactKind
    dataset: Dataset
    order: int
    description: str
    #: PNG bytes for the API, where the object is a picture.
    preview_png: bytes | None = None
    #: Key of the `Picture` it holds, if it holds one.
    picture_key: str = ""
    #: Key of the finding it explains, if it is no picture and about one finding.
    finding_key: str = ""
    #: Keys of the output sets it belongs to.
    output_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMade:
    """A kind of object that was wanted and could not be made, or not wholly; it holds nothing of the patient."""

    kind: ArtifactKind
    #: What people call it, ``segmentation``.
    name: str
    #: Class of the error, and ``module:line`` of its origin.
    error: str
    where: str
    #: How many objects of the kind were made before.
    made: int = 0
    #: What the images lack, where that and no error is why.
    lacks: str = ""

    @property
    def sentence(self) -> str:
        """What the readers of the result are told."""
        how_far = f"only {self.made} made" if self.made else "none made"
        why = f"the images lack {self.lacks}" if self.lacks else f"of an error of the node ({self.error})"
        return f"NOT COMPLETE: {self.name} ({self.kind}), {how_far} because {why}."


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenResult:
    """The objects of a result, and the answer with notes on what could not be made of it."""

    answer: Analysis | NotAnalysed
    objects: tuple[WrittenObject, ...]
    not_made: tuple[NotMade, ...] = ()


#: What goes with every showing of a result.
MARK = "AI result - NOT VERIFIED. Decision support only."
REVIEWED_MARK = "AI result, reviewed and verified by a named person."


def mark_of(review: Review | None) -> str:
    """Return what goes with every showing of a result with this review, or with none."""
    return MARK if review is None else REVIEWED_MARK


def summarise(answer: Analysis | NotAnalysed, review: Review | None = None) -> dict[str, object]:
    """Return the answer without arrays and without anything that names the patient."""
    sources = [str(source.SOPInstanceUID) for source in whole_objects(answer.sources)]
    common: dict[str, object] = {
        "mark": mark_of(review),
        "state": state_of(answer).value,
        "model": asdict(answer.model),
        "node_version": __version__,
        "source_sop_instance_uids": sources,
        "notes": list(answer.notes),
        "finished_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if isinstance(answer, NotAnalysed):
        return common | {"reason": answer.reason, "message": answer.message, "findings": []}
    further = [str(source.SOPInstanceUID) for source in whole_objects(answer.further_sources)]
    common |= {"further_source_sop_instance_uids": further} if further else {}
    common |= {"figures": dict(answer.figures)} if answer.figures else {}
    return common | {
        "findings": [finding_data(finding) for finding in answer.findings],
        "stage_times_s": {stage: round(seconds, 3) for stage, seconds in answer.stage_times_s.items()},
    }


def finding_data(finding: Finding) -> dict[str, object]:
    """Return a finding as JSON-ready data; what is not finite is `None`."""
    data = asdict(finding)
    for written, measurement in zip(data["measurements"], finding.measurements, strict=True):
        written["label"] = measurement.label
        written["value"] = _number(measurement.value)
    for written, withheld in zip(data["withheld"], finding.withheld, strict=True):
        written["label"] = withheld.label
    data |= {"probability": _number(finding.probability), "threshold": _number(finding.threshold)}
    if finding.region is not None:
        data["region"] = {"sop_instance_uid": finding.region.sop_instance_uid,
                          "points_xy_px": [list(point) for point in finding.region.points_xy_px]}  # fmt: skip
        if finding.region.frame_number is not None:
            data["region"]["frame_number"] = finding.region.frame_number
    return data


def _number(value: float | None) -> float | None:
    """Return a number that JSON has; `None` for one that is not finite."""
    return value if value is not None and math.isfinite(value) else None
