"""What the pipeline needs from the builders around it, as protocols; `worker_process` fills them in.

Only standard-library types and the node's own nouns appear at run time, so the story stays readable without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dicom_node.analysis import (
        Analysis,
        AnalysisRequest,
        NotAnalysed,
        ReportContext,
        WrittenObject,
        WrittenResult,
    )


class RunModel(Protocol):
    """Gate the images, run the model. Raises `NotAnalysable` (with what was looked at) or `InferenceError`."""

    def __call__(self, request: AnalysisRequest) -> Analysis | NotAnalysed: ...


class WriteResult(Protocol):
    """Turn an answer into DICOM objects, in the order in which they must be sent; tell which could not be made."""

    def __call__(self, answer: Analysis | NotAnalysed, context: ReportContext) -> WrittenResult: ...


class WriteBundle(Protocol):
    """Turn an answer and the objects that show it into a FHIR R4 transaction Bundle (JSON-ready)."""

    def __call__(
        self, answer: Analysis | NotAnalysed, context: ReportContext, written: Sequence[WrittenObject]
    ) -> Mapping[str, object]: ...
