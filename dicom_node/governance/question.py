"""What crosses into the worker process of golden studies and evaluations; apart from `answering`, which runs models."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.analysis import AnalysisRequest
from dicom_node.inference.workers.place import Place


@dataclass(frozen=True, slots=True)
class Question:
    """One study for one model, and where to compute."""

    request: AnalysisRequest
    place: Place
