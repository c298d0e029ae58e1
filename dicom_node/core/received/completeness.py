"""Is a study complete? Quiet time, longer while an association is open; or the cap. Pure: the caller gives the time.

No DICOM message says with certainty that a study has ended. One quiet period alone would cut a long series in two while
its association pauses, so an open association that carried this study holds it, but only for a few quiet periods: a
router keeps one association open all day, and what it still does on it (other studies, C-ECHO) tells nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

#: So many quiet periods without an image of the study end the hold of associations that are still open.
HELD_QUIET_PERIODS = 4


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What is known of a study's arrival. `open_associations` counts those that carried it and are still open."""

    first_received_at: datetime
    last_received_at: datetime
    open_associations: int


@dataclass(frozen=True, slots=True)
class CompletenessVerdict:
    """Whether to go on now. `partial`: cut off by the cap while images came; `wait_s`: when to ask again, or 0."""

    ready: bool
    partial: bool
    wait_s: float
    reason: str


def judge(arrivals: Arrivals, quiet_period_s: float, max_wait_s: float, now: datetime) -> CompletenessVerdict:
    """Decide whether a study is complete at `now`. `reason` is a sentence for the timeline.

    A clock set back makes the quiet time negative; the study then only waits longer, never runs too early.
    """
    quiet_s = (now - arrivals.last_received_at).total_seconds()
    age_s = (now - arrivals.first_received_at).total_seconds()
    is_quiet = quiet_s >= quiet_period_s
    needed_s = quiet_period_s * (HELD_QUIET_PERIODS if arrivals.open_associations else 1)
    # At the cap a study that is quiet is as complete as any other; only one that still arrives is cut off.
    if quiet_s >= needed_s or (is_quiet and age_s >= max_wait_s):
        return CompletenessVerdict(True, False, 0.0, _complete(arrivals.open_associations, quiet_s, quiet_period_s))
    holding = _holding(arrivals.open_associations, quiet_s, quiet_period_s)
    if age_s >= max_wait_s:
        return CompletenessVerdict(
            True, True, 0.0, f"Cut off after {age_s:.0f} s (limit {max_wait_s:g} s); may be incomplete: {holding}."
        )
    # A held study that is quiet already can become ready at any moment: ask again after a short step.
    to_quiet_s = min(1.0, needed_s - quiet_s) if is_quiet else quiet_period_s - quiet_s
    return CompletenessVerdict(False, False, min(to_quiet_s, max_wait_s - age_s), f"Waiting: {holding}.")


def _complete(open_associations: int, quiet_s: float, quiet_period_s: float) -> str:
    silence = f"Complete: no image for {quiet_s:.0f} s (quiet period {quiet_period_s:g} s)"
    return f"{silence}, {_still_open(open_associations)}." if open_associations else f"{silence}."


def _holding(open_associations: int, quiet_s: float, quiet_period_s: float) -> str:
    last = f"last image {quiet_s:.0f} s ago (quiet period {quiet_period_s:g} s)"
    if not open_associations:
        return last
    return f"{_still_open(open_associations)}, {last}"


def _still_open(open_associations: int) -> str:
    return f"{open_associations} association{'' if open_associations == 1 else 's'} still open"
