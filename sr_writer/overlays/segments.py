"""The voxels of segments as one array, for each way a Segmentation can hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis import Segment

#: FRACTIONAL stores 0..255 for 0..1.
FRACTION_STEPS = 255


def label_map(segments: Sequence[Segment]) -> NDArray[np.uint8] | None:
    """Return (slices, rows, columns) with the number of each voxel's segment, `None` where segments overlap."""
    labels = segments[0].mask.astype(np.uint8)
    for number, segment in enumerate(segments[1:], start=2):
        for label, mask in zip(labels, segment.mask, strict=True):
            if mask.any():
                if label[mask].any():
                    return None
                label[mask] = number
    return labels


def channels(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Return (slices, rows, columns, segments), 1 inside."""
    return np.stack([segment.mask for segment in segments], axis=-1).astype(np.uint8)


def fractions(segments: Sequence[Segment]) -> NDArray[np.float32] | None:
    """Return the probabilities (slices, rows, columns, segments), `None` unless all segments have them."""
    known = [segment.probability_zyx for segment in segments]
    found = [one for one in known if one is not None]
    return np.stack(found, axis=-1) if len(found) == len(known) else None
