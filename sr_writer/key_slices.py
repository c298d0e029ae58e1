"""Which slices of a volume show what was segmented: those the model names, else three spread over what is filled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom_node.analysis import Analysis, Segment

_SHARES = (0.25, 0.5, 0.75)


def key_slices(analysis: Analysis) -> Sequence[int]:
    """Return indices into `Analysis.sources`, most telling first; empty without key slices and segments."""
    if analysis.key_slices:
        return analysis.key_slices
    return telling_slices(analysis.segments) if analysis.segments else []


def telling_slices(segments: Sequence[Segment]) -> list[int]:
    """Return the slices at a quarter, half and three quarters of what is segmented."""
    area = np.sum([segment.mask.sum(axis=(1, 2)) for segment in segments], axis=0)
    filled = np.flatnonzero(area)
    if filled.size == 0:
        return []
    return sorted({int(filled[int(share * (filled.size - 1))]) for share in _SHARES})
