"""The story of one analysis: images in, an answer, the objects that show it, the bundle that tells it.

Runs inside the worker process. No network, no database; every step is a function of its inputs, so that running it
twice makes the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.analysis import Analysis, AnalysisRequest, NotAnalysed, NotMade, WrittenObject
    from dicom_node.ports import RunModel, WriteBundle, WriteResult


@dataclass(frozen=True, slots=True)
class Parts:
    """The builders the story needs."""

    run_model: RunModel
    write_result: WriteResult
    write_bundle: WriteBundle


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and everything that tells it: DICOM objects in the order of sending, and a FHIR Bundle.

    `not_made` are wanted kinds of object that could not be made; the notes of the answer say so too.
    """

    answer: Analysis | NotAnalysed
    objects: Sequence[WrittenObject]
    bundle: Mapping[str, object]
    not_made: Sequence[NotMade]


def analyse(request: AnalysisRequest, parts: Parts) -> Told:
    """Turn the images of a complete study into the objects that report on it. Raises `InferenceError`."""
    answer = parts.run_model(request)
    return tell(answer, request, parts)


def tell(answer: Analysis | NotAnalysed, request: AnalysisRequest, parts: Parts) -> Told:
    """Write an answer as DICOM objects and as a FHIR Bundle that refers to those of the first output set."""
    written = parts.write_result(answer, request.context)
    first = request.context.output_sets[0].key
    of_first = [one for one in written.objects if first in one.output_keys]
    bundle = parts.write_bundle(written.answer, request.context, of_first)
    return Told(written.answer, written.objects, bundle, written.not_made)
