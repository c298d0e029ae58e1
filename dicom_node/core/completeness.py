"""Is a study complete? Quiet time with no association still open, or the hard cap. Pure: the caller gives the time.

No DICOM message says with certainty that a study has ended. Quiet time alone would cut a long series in two while
its association is still sending, so an open association that carried this study holds it, up to the cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What is known of a study's arrival. `open_associations` counts those that carried it and are still open."""

    first_received_at: datetime
    last_received_at: datetime
    open_associations: int


@dataclass(frozen=True, slots=True)
class CompletenessVerdict:
    """Whether to go on now. `partial` means cut off by the cap; `wait_s` is when to ask again (0 when ready)."""

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
    if is_quiet and not arrivals.open_associations:
        return CompletenessVerdict(
            True, False, 0.0, f"Complete: no image for {quiet_s:.0f} s (quiet period {quiet_period_s:g} s)."
        )
    holding = _holding(arrivals.open_associations, quiet_s, quiet_period_s)
    if age_s >= max_wait_s:
        return CompletenessVerdict(
            True, True, 0.0, f"Cut off after {age_s:.0f} s (limit {max_wait_s:g} s); may be incomplete: {holding}."
        )
    to_cap_s = max_wait_s - age_s
    # A held study that is quiet already can become ready at any moment: ask again after a short step.
    to_quiet_s = 1.0 if is_quiet else quiet_period_s - quiet_s
    return CompletenessVerdict(False, False, min(to_quiet_s, to_cap_s), f"Waiting: {holding}.")


def _holding(open_associations: int, quiet_s: float, quiet_period_s: float) -> str:
    last = f"last image {quiet_s:.0f} s ago (quiet period {quiet_period_s:g} s)"
    if not open_associations:
        return last
    plural = "" if open_associations == 1 else "s"
    return f"{open_associations} association{plural} still open, {last}"
