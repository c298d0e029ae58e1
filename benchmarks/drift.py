"""How soon drift is seen, and how often it is called where there is none: simulated scanners, day by day.

    python -m benchmarks.drift [--years 40] [--repeats 40] [--shifts 13] [--per-day 5 20 60] [--seed 1]
        [--quick] [--json FILE]

Scanners have working days and weekends with another mix of patients, shifts whose framing differs from day to day, and
a season in how many are ill. The reference, the windows and the decision are those of the node. A quiet year counts its
alarms after the reference; an injected shift counts days until the first alarm, of at most 60.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.command_line import keep, parser_of
from dicom_node.core.drift.plan import LOOKS, WINDOWS_DAYS, DriftPlan
from dicom_node.operate.drift.comparison import Sample, compared

_PLAN = DriftPlan()
_WEEKDAY, _WEEKEND = 1.0, 0.4
_QUIET_BEFORE, _LOOKED = 28, 60
_YEAR = 365
_BEGAN = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
_NUMBERS = ("tag.KVP", "tag.SliceThickness", "tag.Exposure", "pixels.mean", "pixels.sd", "pixels.p95",
            "framing.fill", "framing.offset", "score.finding", "volume.finding")  # fmt: skip
_CATEGORIES = ("tag.ConvolutionKernel", "tag.SoftwareVersions", "outcome")

Columns = dict[str, NDArray[Any]]


# --- a scanner -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scanner:
    """Results of many days: `day` of each in order, and its features by name."""

    day: NDArray[np.int64]
    columns: Columns

    def sample(self, first: int, end: int) -> Sample:
        """Return the results of some days."""
        low, high = np.searchsorted(self.day, [first, end])
        numbers = {name: np.sort(self.columns[name][low:high]) for name in _NUMBERS}
        categories = {
            name: dict(zip(*(part.tolist() for part in np.unique(self.columns[name][low:high], return_counts=True)),
                           strict=True))
            for name in _CATEGORIES
        }  # fmt: skip
        return Sample(results=int(high - low), numbers=numbers, categories=categories)


def scanner(rng: Generator, per_day: int, days: int) -> Scanner:
    """Make the results of a scanner that does so many studies on a working day."""
    every = np.arange(days)
    weekend = every % 7 >= 5
    day = np.repeat(every, rng.poisson(per_day * np.where(weekend, _WEEKEND, _WEEKDAY)))
    count, urgent = len(day), rng.random(len(day)) < np.where(weekend[day], 0.7, 0.25)
    shift_work = rng.normal(0, 0.15, days)[day]
    ill = rng.random(count) < 0.2 + 0.05 * np.sin(2 * np.pi * day / _YEAR) + 0.05 * urgent
    size = rng.normal(0, 1, count)
    mean = 0.6 * size + 0.8 * rng.normal(0, 1, count)
    logit = np.where(ill, 1.0, -2.5) + rng.normal(0, 1.2, count)
    columns: Columns = {
        "tag.KVP": np.where(rng.random(count) < np.where(urgent, 0.6, 0.7), 120.0, 100.0),
        "tag.SliceThickness": np.where(rng.random(count) < np.where(urgent, 0.8, 0.9), 1.0, 1.5),
        "tag.Exposure": np.exp(0.3 * size + 0.1 * rng.normal(0, 1, count)),
        "pixels.mean": mean, "pixels.sd": 0.5 * mean + rng.normal(0, 1, count),
        "pixels.p95": 0.7 * mean + rng.normal(0, 1, count),
        "framing.fill": 0.5 * size + shift_work + rng.normal(0, 1, count),
        "framing.offset": shift_work + rng.normal(0, 1, count) + 0.3 * urgent,
        "score.finding": logit, "volume.finding": np.exp(rng.normal(0, 0.5, count)),
        "tag.ConvolutionKernel": np.where(rng.random(count) < np.where(urgent, 0.25, 0.2), "Br40", "Bl57"),
        "tag.SoftwareVersions": np.full(count, "VA50"),
        "outcome": np.where(rng.random(count) < 0.04, "MOTION", "DONE"),
    }  # fmt: skip
    return Scanner(day, columns)


# --- what happens to it --------------------------------------------------------------------------------------------

Change = Callable[[Columns, NDArray[np.bool_], Generator], None]


def _put(name: str, value: object, share: float = 1.0) -> Change:
    """Give a share of the results another value."""

    def change(columns: Columns, after: NDArray[np.bool_], rng: Generator) -> None:
        columns[name] = np.where(after & (rng.random(len(after)) < share), value, columns[name])

    return change


def _add(*names: str, by: float) -> Change:
    """Add to numbers; `by` is in standard deviations of those that were."""

    def change(columns: Columns, after: NDArray[np.bool_], _: Generator) -> None:
        for name in names:
            columns[name] = columns[name] + after * by * columns[name][~after].std()

    return change


SHIFTS: Mapping[str, Change] = {
    "a new kernel in every study": _put("tag.ConvolutionKernel", "Bl64"),
    "a new kernel in one study of four": _put("tag.ConvolutionKernel", "Bl64", 0.25),
    "100 kV in every study (was 30 %)": _put("tag.KVP", 100.0),
    "slices of 3 mm in one study of four": _put("tag.SliceThickness", 3.0, 0.25),
    "images brighter by 1 SD": _add("pixels.mean", "pixels.p95", by=1.0),
    "images brighter by 0.5 SD": _add("pixels.mean", "pixels.p95", by=0.5),
    "images brighter by 0.25 SD": _add("pixels.mean", "pixels.p95", by=0.25),
    "framing tighter by 0.5 SD": _add("framing.fill", by=0.5),
    "scores higher by 0.5 SD": _add("score.finding", by=0.5),
    "scores higher by 0.25 SD": _add("score.finding", by=0.25),
    "one score for every study": _put("score.finding", -1.0),
    "one study of five refused (was 4 %)": _put("outcome", "MOTION", 0.17),
    "half of the volumes lost": _put("volume.finding", 0.0, 0.5),
}


# --- looking at it -------------------------------------------------------------------------------------------------


def looked(one: Scanner) -> tuple[int, Iterator[tuple[int, set[str]]]]:
    """Return the day on which the reference ends, and then day by day which features drift."""
    times = [_BEGAN + timedelta(days=int(day)) for day in one.day]
    ends = _PLAN.reference_ends(_BEGAN, times)
    assert ends is not None, "too few studies"
    first = (ends - _BEGAN).days
    return first, _looks(one, first)


def _looks(one: Scanner, first: int) -> Iterator[tuple[int, set[str]]]:
    reference = one.sample(0, first)
    features = reference.features
    standing: set[tuple[str, int]] = set()
    for day in range(first + min(WINDOWS_DAYS), int(one.day[-1]) + 2):
        windows = {days: one.sample(day - days, day) for days in WINDOWS_DAYS if day - days >= first}
        found: set[tuple[str, int]] = set()
        for days, window in windows.items():
            for feature in features:
                said = compared(reference, window, feature)
                key = (feature, days)
                p_and_shift = (said.p_value, said.shift) if said else (1.0, 0.0)
                if _PLAN.is_drift(p_and_shift, days, len(features), stands=key in standing):
                    found.add(key)
        standing = found
        yield day, {feature for feature, _ in found}


def quiet_alarms(rng: Generator, per_day: int, years: int) -> dict[str, float]:
    """Return how many alarms there were, a quarter and scanner, in years without any change: of each feature one."""
    alarms = looked_at = more = 0
    for _ in range(years):
        first, looks = looked(scanner(rng, per_day, _YEAR))
        before: set[str] = set()
        of_quarter: Counter[int] = Counter()
        for day, drifting in looks:
            of_quarter[(day - first) // LOOKS] += len(drifting - before)
            before, looked_at = drifting, looked_at + 1
        alarms += of_quarter.total()
        more += sum(number > 1 for number in of_quarter.values())
    quarters = looked_at / LOOKS
    return {"scanner_years": years, "quarters": quarters, "alarms": alarms, "a_quarter": alarms / quarters,
            "quarters_with_more_than_one": more}  # fmt: skip


def days_to_alarm(rng: Generator, per_day: int, change: Change) -> float:
    """Return after how many days a shift was seen; infinite: not within 60."""
    plain = scanner(rng, per_day, _YEAR)
    first, _ = looked(plain)
    at = first + _QUIET_BEFORE
    held = plain.day < at + _LOOKED
    columns = {name: values[held] for name, values in plain.columns.items()}
    change(columns, plain.day[held] >= at, rng)
    _, looks = looked(Scanner(plain.day[held], columns))
    return next((day - at for day, drifting in looks if day > at and drifting), float("inf"))


def measure(options: Namespace) -> dict[str, Any]:
    """Simulate everything."""
    rng = np.random.default_rng(options.seed)
    quiet = {per_day: quiet_alarms(rng, per_day, options.years) for per_day in options.per_day}
    shifts = dict(list(SHIFTS.items())[: options.shifts])
    rows = {
        name: {per_day: _summary([days_to_alarm(rng, per_day, change) for _ in range(options.repeats)])
               for per_day in options.per_day}
        for name, change in shifts.items()
    }  # fmt: skip
    return {"quiet": quiet, "shifts": rows}


def _summary(days: list[float]) -> dict[str, float | None]:
    ordered = sorted(days)
    half, most = ordered[(len(ordered) - 1) // 2], ordered[math.ceil(0.9 * len(ordered)) - 1]
    missed = sum(day == float("inf") for day in days) / len(days)
    finite = (None if value == float("inf") else value for value in (half, most))
    return dict(zip(("median_days", "p90_days"), finite, strict=True)) | {"missed": missed}


def table(figures: Mapping[str, Any]) -> str:
    """Return both tables as Markdown."""
    rates = list(figures["quiet"])
    head = " | ".join(f"{per_day} a day" for per_day in rates)
    lines = [f"| injected shift: days to alarm, median (90 %) | {head} |", f"|---|{'---|' * len(rates)}"]
    for name, by_rate in figures["shifts"].items():
        lines.append(f"| {name} | {' | '.join(_cell(by_rate[per_day]) for per_day in rates)} |")
    lines += ["", f"| quiet years | {head} |", f"|---|{'---|' * len(rates)}"]
    for key, name in (("scanner_years", "years simulated"), ("alarms", "false alarms"),
                      ("a_quarter", "false alarms a quarter and scanner"),
                      ("quarters", "quarters looked at"),
                      ("quarters_with_more_than_one", "of these with more than one")):  # fmt: skip
        cells = [f"{figures['quiet'][per_day][key]:.3g}" for per_day in rates]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(said: Mapping[str, float | None]) -> str:
    if said["median_days"] is None:
        return f"not in {_LOOKED} ({1 - (said['missed'] or 0):.0%} seen)"
    late = f"> {_LOOKED}" if said["p90_days"] is None else f"{said['p90_days']:.0f}"
    return f"{said['median_days']:.0f} ({late})"


def main() -> int:
    """Simulate, print the tables, keep the figures."""
    parser = parser_of(__doc__, {"years": 1, "repeats": 2, "shifts": 2, "per_day": [20]})
    parser.add_argument("--years", type=int, default=40, help="quiet years of a scanner, for each number of studies")
    parser.add_argument("--repeats", type=int, default=40, help="times that each shift is injected")
    parser.add_argument("--shifts", type=int, default=len(SHIFTS), help="the first so many of them")
    parser.add_argument("--per-day", type=int, nargs="+", default=[5, 20, 60], help="studies on a working day")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    figures = measure(options)
    print(table(figures))
    keep(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
