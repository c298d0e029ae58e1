"""All images that an answer is about: those that its arrays lie on, and those that were read together with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed


def analysed_images(answer: Analysis | NotAnalysed) -> tuple[Dataset, ...]:
    """Return all that was looked at: the sources first, then what was read together with them."""
    return (*answer.sources, *(answer.further_sources if isinstance(answer, Analysis) else ()))


def with_headers(answer: Analysis | NotAnalysed, changed: Callable[[Dataset], Dataset]) -> Analysis | NotAnalysed:
    """Return the answer with each image's header changed; the same answer where none is."""
    sources = tuple(map(changed, answer.sources))
    further = tuple(map(changed, analysed_images(answer)[len(sources) :]))
    if all(new is old for new, old in zip((*sources, *further), analysed_images(answer), strict=True)):
        return answer
    if isinstance(answer, Analysis):
        return replace(answer, sources=sources, further_sources=further)
    return replace(answer, sources=sources)
