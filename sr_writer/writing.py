"""What every builder of a result starts from, and what it hands back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dicom_node.analysis import Analysis, NotAnalysed, Picture, WrittenObject
from dicom_node.sr_writer.identity import ResultIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """One answer about to be written. `pictures` are empty when no destination wants anything that shows them."""

    answer: Analysis | NotAnalysed
    identity: ResultIdentity
    pictures: Sequence[Picture]


class Build(Protocol):
    """Make the objects of one kind; `variant` is what the output sets say of it (``binary``; ``True``).

    `order` and `output_keys` of what is yielded are set by the caller. An answer the kind has nothing to say about
    (no masks, nothing analysed) yields nothing.
    """

    def __call__(self, writing: Writing, variant: object, /) -> Iterator[WrittenObject]: ...
