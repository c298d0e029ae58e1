"""Whether two answers about one study say the same: a shadow route beside the route it shadows. Pure.

Findings are matched by key, and by code and site where keys differ, for two models need not share their words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Measurements that differ by no more than this share of the larger one agree.
TOLERANCE = 0.05

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether the answers agree; in `lines` a sentence for everything that differs, or, where nothing does, for
    everything that was compared."""

    agrees: bool
    lines: Sequence[str]


def compare(live: Summary, shadow: Summary) -> Agreement:
    """Compare two summaries of results (`summary.summarise`)."""
    if live["state"] != shadow["state"]:
        return Agreement(False, [f"{_state(live)} live, {_state(shadow)} in the shadow"])
    told = list(_findings(live.get("findings", ()), shadow.get("findings", ())))
    if not told:
        same = live.get("reason", "") == shadow.get("reason", "")
        return Agreement(same, [f"{_state(live)} live, {_state(shadow)} in the shadow"])
    differences = [line for agrees, line in told if not agrees]
    return Agreement(not differences, differences or [line for _, line in told])


def _state(summary: Summary) -> str:
    reason = summary.get("reason", "")
    return f"{summary['state']}{f' ({reason})' if reason else ''}"


def _findings(live: Sequence[Summary], shadow: Sequence[Summary]) -> Iterator[tuple[bool, str]]:
    left = list(shadow)
    for one in live:
        match = next((two for two in left if _same_thing(one, two)), None)
        if match is None:
            yield False, f"{one['label']}: only live"
            continue
        left.remove(match)
        yield from _finding(one, match)
    for two in left:
        yield False, f"{two['label']}: only in the shadow"


def _same_thing(one: Summary, two: Summary) -> bool:
    if one["key"] == two["key"]:
        return True
    return all(one.get(name) == two.get(name) for name in ("code", "site", "laterality"))


def _finding(one: Summary, two: Summary) -> Iterator[tuple[bool, str]]:
    if one.get("presence") or two.get("presence"):
        scores = f"{_score(one)} live, {_score(two)} in the shadow"
        yield one.get("presence") == two.get("presence"), f"{one['label']}: {scores}"
    ours, theirs = _measurements(one), _measurements(two)
    for label, value in ours.items():
        if label not in theirs:
            yield False, f"{one['label']}, {label}: only live"
            continue
        numbers = f"{_measured(value)} live, {_measured(theirs[label])} in the shadow"
        yield _agree(value, theirs[label]), f"{one['label']}, {label}: {numbers}"
    for label in (label for label in theirs if label not in ours):
        yield False, f"{one['label']}, {label}: only in the shadow"


def _measurements(finding: Summary) -> Mapping[str, float | None]:
    return {measured["label"]: measured["value"] for measured in finding.get("measurements", ())}


def _agree(value: float | None, other: float | None) -> bool:
    if value is None or other is None:
        return value is other
    return abs(value - other) <= TOLERANCE * max(abs(value), abs(other))


def _measured(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:g}"


def _score(finding: Summary) -> str:
    probability = finding.get("probability")
    return f"{finding.get('presence')}{f' ({probability:.2f})' if probability is not None else ''}"
