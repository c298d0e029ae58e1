"""The story of one analysis: images in, an answer, the objects that show it, the bundle that tells it.

Runs inside the worker process. No network, no database; every step is a function of its inputs, so that running it
twice makes the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.analysis import Analysis, AnalysisRequest, NotAnalysed, WrittenObject
    from dicom_node.ports import RunModel, WriteBundle, WriteObjects


@dataclass(frozen=True, slots=True)
class Parts:
    """The builders the story needs."""

    run_model: RunModel
    write_objects: WriteObjects
    write_bundle: WriteBundle


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and everything that tells it: DICOM objects in the order of sending, and a FHIR Bundle."""

    answer: Analysis | NotAnalysed
    objects: Sequence[WrittenObject]
    bundle: Mapping[str, object]


def analyse(request: AnalysisRequest, parts: Parts) -> Told:
    """Turn the images of a complete study into the objects that report on it. Raises `InferenceError`."""
    answer = parts.run_model(request)
    return tell(answer, request, parts)


def tell(answer: Analysis | NotAnalysed, request: AnalysisRequest, parts: Parts) -> Told:
    """Write an answer as DICOM objects and as a FHIR Bundle that refers to those of the first output set."""
    objects = parts.write_objects(answer, request.context)
    first = request.context.output_sets[0].key
    bundle = parts.write_bundle(answer, request.context, [one for one in objects if first in one.output_keys])
    return Told(answer, objects, bundle)
