"""Thirds of the lungs from head to feet, how far they differ, and a score by regions after Goddard.

A third is a third of the volume of a lung, cut between slices: each counts alike and has the same noise, where thirds
of the height would hold a tip of lung above and the thin recess below. Trials in alpha-1 antitrypsin deficiency tell
apical, central and basal density apart likewise (Stolk et al., Respir Res 2019;20:45).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]

_THIRDS = 3
#: Upper bounds of a share, in percent, for 0 to 3 points; more is 4. Goddard et al. (Clin Radiol 1982;33:379-387) give
#: 1 point to less than a quarter, 2 to less than a half, 3 to less than three quarters, by eye and six fields. Of a
#: share that is computed some is noise: below 5 % it counts as none.
_POINTS_BELOW = (5.0, 25.0, 50.0, 75.0)
#: A level is a slab around the middle of a third.
_LEVEL_MM = 10.0


@dataclass(frozen=True, slots=True)
class LungRegions:
    """The Hounsfield units in three thirds of one lung, head first, and at the level in the middle of each."""

    thirds_hu: tuple[Values, ...]
    levels_hu: tuple[Values, ...]

    def points(self, threshold_hu: float) -> int:
        """Return the points of this lung, 0 to 12: 0 to 4 at each level, by the share below the threshold."""
        shares = (low_share(level, threshold_hu) for level in self.levels_hu)
        return sum(int(np.searchsorted(_POINTS_BELOW, share, side="right")) for share in shares)

    def shares(self, threshold_hu: float) -> tuple[float, ...]:
        """Return the share below the threshold in each third, in percent."""
        return tuple(low_share(third, threshold_hu) for third in self.thirds_hu)


def low_share(inside_hu: Values, threshold_hu: float) -> float:
    """Return how much is below a threshold, in percent."""
    return float((inside_hu < threshold_hu).mean() * 100)


def regions_of(hu_zyx: Values, lung_zyx: Bools, slice_mm: float) -> LungRegions | None:
    """Divide a lung on a grid that runs from feet to head; `None` for one of fewer slices than it takes."""
    areas = lung_zyx.sum(axis=(1, 2))
    held = np.nonzero(areas)[0][::-1]
    if held.size < _THIRDS:
        return None
    # Where in the volume the middle of each slice lies, from 0 at the apex to 1 at the base.
    filled = np.cumsum(areas[held])
    middles = (filled - areas[held] / 2) / filled[-1]
    thirds = [held[(middles * _THIRDS).astype(int) == third] for third in range(_THIRDS)]
    if not all(one.size for one in thirds):
        return None
    centres = [int(held[np.abs(middles - (third + 0.5) / _THIRDS).argmin()]) for third in range(_THIRDS)]
    reach = _LEVEL_MM / 2 / slice_mm
    levels = [held[np.abs(held - centre) <= reach] for centre in centres]
    inside = ([hu_zyx[slices][lung_zyx[slices]] for slices in parts] for parts in (thirds, levels))
    return LungRegions(*(tuple(one) for one in inside))


def joined(regions: tuple[LungRegions, ...]) -> tuple[Values, ...]:
    """Return the thirds of several lungs as one."""
    return tuple(np.concatenate(third) for third in zip(*(one.thirds_hu for one in regions), strict=True))
