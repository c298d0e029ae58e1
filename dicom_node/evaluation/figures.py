"""The figures of an evaluation, as data and drawn: discrimination, operating point, calibration, subgroups, gaps.

Intervals are 95 % percentile bootstrap over patients. A model that declines an image has not found what is on it, so
the operating point is told twice: of the images analysed, and of all that have a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.evaluation.run import ImageOutcome
from dicom_node.inference.training.figures import metrics
from dicom_node.inference.training.figures.metrics import Scored

Statistic = Callable[[Scored], float]

RESAMPLES = 1000
_BINS = 10
#: A numeric column with more values than this is cut into thirds.
_MOST_GROUPS = 8


def figures(outcomes: Sequence[ImageOutcome], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Return everything that was measured."""
    counted = [outcome for outcome in outcomes if outcome.counts]
    threshold = next((o.threshold for o in counted if o.threshold is not None), 0.5)
    result: dict[str, Any] = {"images": _census(outcomes), "not_analysed": _not_analysed(outcomes)}
    if not counted:
        return result
    scored = _scored(counted)
    return result | {
        "threshold": threshold,
        "analysed": _point(scored, threshold, resamples, seed),
        "of_all_labelled": _of_all(outcomes, threshold),
        "calibration": _calibration(scored),
        "roc": _roc(scored),
        "subgroups": {
            column: _subgroups(counted, column, (threshold, resamples, seed)) for column in counted[0].image.groups
        },
    }


def _scored(outcomes: Sequence[ImageOutcome]) -> Scored:
    return Scored(
        labels=np.array([bool(outcome.image.truth) for outcome in outcomes]),
        scores=np.array([outcome.probability for outcome in outcomes], dtype=np.float64),
        patients=np.array([outcome.image.patient for outcome in outcomes]),
    )


# --- who was counted ---------------------------------------------------------------------------------------------


def _census(outcomes: Sequence[ImageOutcome]) -> dict[str, int]:
    return {
        "listed": len(outcomes),
        "labelled": sum(outcome.image.truth is not None for outcome in outcomes),
        "positive": sum(outcome.image.truth is True for outcome in outcomes),
        "analysed": sum(outcome.probability is not None for outcome in outcomes),
        "analysed_and_labelled": sum(outcome.counts for outcome in outcomes),
        "patients": len({outcome.image.patient for outcome in outcomes}),
    }


def _not_analysed(outcomes: Sequence[ImageOutcome]) -> list[dict[str, Any]]:
    """Count by reason, and by label: a gate that turns away the ill more often than the healthy must show."""
    missed = [outcome for outcome in outcomes if outcome.probability is None]
    counts = Counter(outcome.reason for outcome in missed)
    return [
        {
            "reason": reason,
            "images": number,
            "positive": sum(o.image.truth is True for o in missed if o.reason == reason),
            "negative": sum(o.image.truth is False for o in missed if o.reason == reason),
            "example": next(o.message for o in missed if o.reason == reason),
        }
        for reason, number in counts.most_common()
    ]


def _of_all(outcomes: Sequence[ImageOutcome], threshold: float) -> dict[str, float | None]:
    """Sensitivity and specificity over every labelled image; one that was not analysed is neither found nor cleared."""
    positive = [o for o in outcomes if o.image.truth is True]
    negative = [o for o in outcomes if o.image.truth is False]
    found = sum(o.probability is not None and o.probability >= threshold for o in positive)
    cleared = sum(o.probability is not None and o.probability < threshold for o in negative)
    return {"sensitivity": _ratio(found, len(positive)), "specificity": _ratio(cleared, len(negative))}


# --- figures with intervals --------------------------------------------------------------------------------------


def _point(scored: Scored, threshold: float, resamples: int, seed: int) -> dict[str, Any]:
    statistics: Mapping[str, Statistic] = {
        "auroc": metrics.auroc,
        "sensitivity": lambda sample: metrics.sensitivity(sample, threshold),
        "specificity": lambda sample: metrics.specificity(sample, threshold),
        "positive_predictive_value": lambda s: _share(s.labels[s.scores >= threshold]),
        "negative_predictive_value": lambda s: _share(~s.labels[s.scores < threshold]),
        "brier_score": metrics.brier_score,
        "expected_calibration_error": metrics.expected_calibration_error,
    }
    return {"confusion": _confusion(scored, threshold)} | _with_intervals(scored, statistics, resamples, seed)


def _with_intervals(
    scored: Scored, statistics: Mapping[str, Statistic], resamples: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Evaluate every statistic on the same draws of patients."""
    draws = {name: [] for name in statistics}  # type: dict[str, list[float]]
    for indices in _draws(scored.patients, resamples, seed):
        sample = scored.take(indices)
        for name, statistic in statistics.items():
            draws[name].append(statistic(sample))
    return {name: _interval(statistic(scored), draws[name]) for name, statistic in statistics.items()}


def _draws(patients: NDArray[np.str_], resamples: int, seed: int) -> list[NDArray[np.intp]]:
    generator = np.random.default_rng(seed)
    _, group_of = np.unique(patients, return_inverse=True)
    groups = [np.flatnonzero(group_of == group) for group in range(int(group_of.max()) + 1)]
    chosen = generator.integers(len(groups), size=(resamples, len(groups)))
    return [np.concatenate([groups[group] for group in one]) for one in chosen]


def _interval(value: float, draws: Sequence[float]) -> dict[str, float | None]:
    usable = [draw for draw in draws if np.isfinite(draw)]
    low, high = np.percentile(usable, [2.5, 97.5]) if usable else (np.nan, np.nan)
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _confusion(scored: Scored, threshold: float) -> dict[str, int]:
    called = scored.scores >= threshold
    return {
        "true_positive": int((called & scored.labels).sum()),
        "false_positive": int((called & ~scored.labels).sum()),
        "false_negative": int((~called & scored.labels).sum()),
        "true_negative": int((~called & ~scored.labels).sum()),
    }


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if hits.size else float("nan")


def _ratio(part: int, whole: int) -> float | None:
    return _number(part / whole) if whole else None


def _number(value: float) -> float | None:
    """Round for people; JSON knows no NaN, so what is undefined is null."""
    return round(float(value), 4) if np.isfinite(value) else None


# --- curves and groups -------------------------------------------------------------------------------------------


def _calibration(scored: Scored) -> list[dict[str, Any]]:
    """Return for each tenth of the scale the mean probability stated, the share found true, and how many there were."""
    bin_of = np.minimum((scored.scores * _BINS).astype(np.intp), _BINS - 1)
    return [
        {
            "from": index / _BINS,
            "to": (index + 1) / _BINS,
            "images": int((bin_of == index).sum()),
            "stated": _number(scored.scores[bin_of == index].mean()),
            "observed": _number(scored.labels[bin_of == index].mean()),
        }
        for index in np.unique(bin_of)
    ]


def _roc(scored: Scored) -> list[list[float]]:
    """Return (false positive rate, true positive rate) from 0,0 to 1,1; empty when only one class is there."""
    ill, healthy = int(scored.labels.sum()), int((~scored.labels).sum())
    if not ill or not healthy:
        return []
    order = np.argsort(-scored.scores, kind="stable")
    scores, labels = scored.scores[order], scored.labels[order]
    last = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
    points = zip(np.cumsum(~labels)[last] / healthy, np.cumsum(labels)[last] / ill, strict=True)
    return [[0.0, 0.0], *([round(float(x), 4), round(float(y), 4)] for x, y in points)]


def _subgroups(outcomes: Sequence[ImageOutcome], column: str, how: tuple[float, int, int]) -> dict[str, dict[str, Any]]:
    threshold, resamples, seed = how
    names = _names([outcome.image.groups[column] for outcome in outcomes])
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names)):
        members = [outcome for outcome, its in zip(outcomes, names, strict=True) if its == name]
        scored = _scored(members)
        found[name] = {
            "images": len(members),
            "positive": int(scored.labels.sum()),
            **_with_intervals(scored, _group_statistics(threshold), resamples, seed),
        }
    return found


def _group_statistics(threshold: float) -> Mapping[str, Statistic]:
    return {
        "auroc": metrics.auroc,
        "sensitivity": lambda sample: metrics.sensitivity(sample, threshold),
        "specificity": lambda sample: metrics.specificity(sample, threshold),
    }


def _names(values: Sequence[str]) -> Sequence[str]:
    """Cut a numeric column with many values into thirds; leave any other as it is."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return values
    if len(set(values)) <= _MOST_GROUPS:
        return values
    low, high = np.quantile(numbers, [1 / 3, 2 / 3])
    return [
        f"up to {low:g}" if n <= low else f"{low:g} to {high:g}" if n <= high else f"over {high:g}" for n in numbers
    ]


# --- drawings ------------------------------------------------------------------------------------------------------

_SIDE_PX, _MARGIN_PX, _TITLE_PX = 360, 56, 40
_INK, _GRID, _BLUE, _ORANGE = (30, 30, 34), (220, 222, 228), (30, 90, 200), (222, 120, 20)
_BARS = 20

#: From a point of 0..1, 0..1 to pixels.
Place = Callable[[float, float], tuple[float, float]]


def draw(path: Path, title: str, figures: dict[str, Any], outcomes: Sequence[ImageOutcome]) -> None:
    """Write the drawing as PNG. `figures` are those of an evaluation with at least one counted image."""
    panel_px = _SIDE_PX + 2 * _MARGIN_PX
    image = Image.new("RGB", (3 * panel_px, panel_px + _TITLE_PX), "white")
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN_PX, 14), title, fill=_INK, font=_font(20))
    auroc = figures["analysed"]["auroc"]["value"]
    _draw_roc(pen, _panel(pen, 0, f"ROC, AUROC {_told(auroc)}", ("false positive rate", "true positive rate")), figures)
    error = figures["analysed"]["expected_calibration_error"]["value"]
    axes = ("stated probability", "observed share")
    _draw_calibration(pen, _panel(pen, 1, f"Calibration, error {_told(error)}", axes), figures)
    _draw_bars(pen, _panel(pen, 2, "Blue: negative, orange: positive", ("probability", "share of class")), outcomes)
    image.save(path)


def _panel(pen: ImageDraw.ImageDraw, number: int, title: str, axes: tuple[str, str]) -> Place:
    left, top = number * (_SIDE_PX + 2 * _MARGIN_PX) + _MARGIN_PX, _MARGIN_PX + _TITLE_PX

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * _SIDE_PX, top + (1 - y) * _SIDE_PX

    for tenth in range(0, 11, 2):
        at = tenth / 10
        pen.line([place(at, 0), place(at, 1)], fill=_GRID)
        pen.line([place(0, at), place(1, at)], fill=_GRID)
        pen.text((place(at, 0)[0] - 8, top + _SIDE_PX + 4), f"{at:g}", fill=_INK, font=_font(12))
        pen.text((left - 24, place(0, at)[1] - 7), f"{at:g}", fill=_INK, font=_font(12))
    pen.rectangle([place(0, 1), place(1, 0)], outline=_INK)
    pen.text((left, top - 22), f"{title}   (up: {axes[1]})", fill=_INK, font=_font(13))
    pen.text((left + _SIDE_PX / 2 - 50, top + _SIDE_PX + 22), axes[0], fill=_INK, font=_font(13))
    return place


def _draw_roc(pen: ImageDraw.ImageDraw, place: Place, figures: dict[str, Any]) -> None:
    pen.line([place(0, 0), place(1, 1)], fill=_GRID, width=2)
    points = [place(x, y) for x, y in figures["roc"]]
    if points:
        pen.line(points, fill=_BLUE, width=3)
    confusion = figures["analysed"]["confusion"]
    sensitivity, specificity = (figures["analysed"][name]["value"] for name in ("sensitivity", "specificity"))
    if sensitivity is not None and specificity is not None and sum(confusion.values()):
        _dot(pen, place(1 - specificity, sensitivity), 6)


def _draw_calibration(pen: ImageDraw.ImageDraw, place: Place, figures: dict[str, Any]) -> None:
    pen.line([place(0, 0), place(1, 1)], fill=_GRID, width=2)
    bins = figures["calibration"]
    largest = max(one["images"] for one in bins)
    pen.line([place(one["stated"], one["observed"]) for one in bins], fill=_BLUE, width=2)
    for one in bins:
        _dot(pen, place(one["stated"], one["observed"]), 3 + 7 * (one["images"] / largest) ** 0.5)


def _draw_bars(pen: ImageDraw.ImageDraw, place: Place, outcomes: Sequence[ImageOutcome]) -> None:
    for truth, colour, shift in ((False, _BLUE, 0.0), (True, _ORANGE, 0.45)):
        scores = [o.probability for o in outcomes if o.counts and o.image.truth is truth and o.probability is not None]
        for index in range(_BARS):
            inside = sum(min(int(score * _BARS), _BARS - 1) == index for score in scores)
            if inside:
                x = (index + 0.05 + shift) / _BARS
                pen.rectangle([place(x, inside / len(scores)), place(x + 0.45 / _BARS, 0)], fill=colour)


def _dot(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float) -> None:
    x, y = at
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_ORANGE, outline=_INK)


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
