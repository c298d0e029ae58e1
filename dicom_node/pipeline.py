"""The story of one analysis: images in, an answer, the objects that show it, the bundle that tells it.

Runs inside the worker process. No network, no database; every step is a function of its inputs, so that running it
twice makes the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dicom_node.analysis.answer import Analysis, NotAnalysed
    from dicom_node.analysis.context import AnalysisRequest, ReportContext
    from dicom_node.analysis.written import NotMade, WrittenObject, WrittenResult


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


class WriteMessage(Protocol):
    """Turn an answer and the objects that show it into an HL7 v2 message; `output_key` is that of the set they are."""

    def __call__(
        self,
        answer: Analysis | NotAnalysed,
        context: ReportContext,
        written: Sequence[WrittenObject],
        output_key: str,
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The builders the story needs; `jobs.worker_process` fills them in."""

    run_model: RunModel
    write_result: WriteResult
    write_bundle: WriteBundle
    write_message: WriteMessage


@dataclass(frozen=True, slots=True)
class AnalysisOutput:
    """An answer and everything that tells it: DICOM objects in the order of sending, a FHIR Bundle, HL7 messages.

    `messages` are by the key of the output set that asks for one. `not_made` are wanted kinds of object that could not
    be made; the notes of the answer say so too.
    """

    answer: Analysis | NotAnalysed
    objects: Sequence[WrittenObject]
    bundle: Mapping[str, object]
    not_made: Sequence[NotMade]
    messages: Mapping[str, str] = field(default_factory=dict)


def analyse(request: AnalysisRequest, parts: Parts) -> AnalysisOutput:
    """Turn the images of a complete study into the objects that report on it. Raises `InferenceError`."""
    answer = parts.run_model(request)
    return write_output(answer, request, parts)


def write_output(answer: Analysis | NotAnalysed, request: AnalysisRequest, parts: Parts) -> AnalysisOutput:
    """Write an answer as DICOM objects, as a FHIR Bundle that refers to those of the first output set, and as an HL7
    message for each set that asks for one."""
    context = request.context
    written = parts.write_result(answer, context)

    def of_set(key: str) -> list[WrittenObject]:
        return [one for one in written.objects if key in one.output_keys]

    bundle = parts.write_bundle(written.answer, context, of_set(context.output_sets[0].key))
    messages = {
        wanted.key: parts.write_message(written.answer, context, of_set(wanted.key), wanted.key)
        for wanted in context.output_sets
        if wanted.hl7_message
    }
    return AnalysisOutput(written.answer, written.objects, bundle, written.not_made, messages)
