"""What is measured of a classifier on looks that its members have not seen, and how it is written down.

Each image is scored by the one member that has seen neither its patient nor its look. The operating point that ships is
chosen on all of these scores. Its figures are not: an image is judged by a point chosen on the other folds, so that it
has no say in its own threshold. Nothing in the card is typed by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dicom_node.inference.ensemble import MirroredEnsemble
from dicom_node.inference.training import fit
from dicom_node.inference.training.data import Radiograph
from dicom_node.inference.training.figures import familiarity_report, metrics
from dicom_node.inference.training.figures.metrics import Interval, Scored
from dicom_node.inference.training.looks import Fold
from dicom_node.inference.training.robustness import perturbations

#: The rule for the threshold, fixed before any held-out look was scored by the networks that ship.
WANTED_SENSITIVITY = 0.965
_Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What is subtracted from the log odds, the temperature that divides them, and the probability from which a finding
    counts as present."""

    shift: float
    temperature: float
    threshold: float

    def probabilities(self, scored: Scored) -> Scored:
        """Turn log odds into probabilities."""
        return metrics.probabilities(scored, self.temperature, self.shift)


def choose_operating_point(scored: Scored) -> OperatingPoint:
    """Fit shift and temperature to log odds, then take the highest threshold with the wanted sensitivity.

    All are rounded as they are written into the card, so that the figures speak of the values in use.
    """
    shift = round(metrics.fit_shift(scored), 4)
    temperature = round(metrics.fit_temperature(scored.with_scores(scored.scores - shift)), 4)
    point = OperatingPoint(shift=shift, temperature=temperature, threshold=0.0)
    threshold = metrics.threshold_for_sensitivity(point.probabilities(scored), WANTED_SENSITIVITY)
    return OperatingPoint(shift=shift, temperature=temperature, threshold=int(threshold * 10_000) / 10_000)


def figures(
    network: MirroredEnsemble, folds: Sequence[Fold], preprocessing: fit.Transform, *, seed: int
) -> dict[str, Any]:
    """Return every figure as JSON-ready data: folds, operating point, held-out figures with intervals, robustness, and
    what distance from the known looks does to scores."""
    under = {name: held_out_scores(network, folds, preprocessing, change) for name, change in perturbations().items()}
    plain = next(iter(under.values()))
    points = [choose_operating_point(joined([*plain[:fold], *plain[fold + 1 :]])) for fold in range(len(folds))]
    known = familiarity_report.looks_of_members(folds, seed=seed)
    return {
        "folds": [
            {"trained_on": census(fold.training), "held_out": census(fold.held_out)}
            | {"auroc": round(metrics.auroc(scored), 4)}
            for fold, scored in zip(folds, plain, strict=True)
        ],
        "operating_point": asdict(choose_operating_point(joined(plain))),
        "chosen_for_sensitivity": WANTED_SENSITIVITY,
        "held_out": _held_out_figures(plain, points),
        "robustness": {name: _point_figures(scored, points) for name, scored in under.items()},
        "looks": {
            "by_distance": familiarity_report.by_distance(folds, known, *_judged(plain, points)),
            "beyond": {
                name: familiarity_report.share_beyond(folds, known, change) for name, change in perturbations().items()
            },
        },
    }


def held_out_scores(
    network: MirroredEnsemble,
    folds: Sequence[Fold],
    preprocessing: fit.Transform,
    change: _Change = lambda image: image,
) -> list[Scored]:
    """Return the log odds of illness that each member gives the (changed) images of its fold, both ways round."""

    def changed(item: Any) -> Any:
        return preprocessing({**item, "image": change(item["image"])})

    return [
        fit.score(network.alone(number), fold.held_out, fit.inputs_of(fold.held_out, changed))
        for number, fold in enumerate(folds)
    ]


def joined(parts: Sequence[Scored]) -> Scored:
    """Return several sets of scores as one."""
    return Scored(
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        patients=np.concatenate([part.patients for part in parts]),
    )


def _held_out_figures(folds: Sequence[Scored], points: Sequence[OperatingPoint]) -> dict[str, Any]:
    """Return discrimination and operating point with 95 % intervals over patients, and calibration."""
    chances, margins = _judged(folds, points)

    def rounded(statistic: Callable[[Scored], float], scored: Scored) -> dict[str, float]:
        interval: Interval = metrics.bootstrap_interval(statistic, scored)
        return {name: round(value, 4) for name, value in asdict(interval).items()}

    return {
        "auroc": rounded(metrics.auroc, chances),
        "sensitivity": rounded(lambda sample: metrics.sensitivity(sample, 0.0), margins),
        "specificity": rounded(lambda sample: metrics.specificity(sample, 0.0), margins),
        "brier_score": round(metrics.brier_score(chances), 4),
        "expected_calibration_error": rounded(metrics.expected_calibration_error, chances),
    }


def _point_figures(folds: Sequence[Scored], points: Sequence[OperatingPoint]) -> dict[str, float]:
    chances, margins = _judged(folds, points)
    return {
        "auroc": round(metrics.auroc(chances), 4),
        "sensitivity": round(metrics.sensitivity(margins, 0.0), 4),
        "specificity": round(metrics.specificity(margins, 0.0), 4),
    }


def _judged(folds: Sequence[Scored], points: Sequence[OperatingPoint]) -> tuple[Scored, Scored]:
    """Return the probabilities of all images, and how far each lies above the threshold it is judged by."""
    chances = [point.probabilities(scored) for scored, point in zip(folds, points, strict=True)]
    margins = [one.with_scores(one.scores - point.threshold) for one, point in zip(chances, points, strict=True)]
    return joined(chances), joined(margins)


def write_table(readme: Path, measured: dict[str, Any]) -> None:
    """Replace the part of the README between the two marks by the measured figures."""
    replace_table(readme, table(measured))


def replace_table(readme: Path, table_text: str, name: str = "figures") -> None:
    """Put the text between the two marks of this name in a README. Raises `ValueError` when they are not there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = readme.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{readme} lacks the lines {begin} and {end}; the figures go between them.")
    readme.write_text(f"{before}{begin}\n{table_text}{end}{after}", encoding="utf-8")


def table(measured: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    point = measured["operating_point"]
    lines = [
        *_of_members(measured["folds"]),
        "",
        f"Temperature {point['temperature']}, threshold {point['threshold']}: the highest with a sensitivity of "
        f"{measured['chosen_for_sensitivity']} on all looks.",
        "",
        *_of_all(measured["held_out"]),
        "",
        *_of_changes(measured["robustness"]),
        "",
        *familiarity_report.rows(measured["looks"]),
    ]
    return "\n".join(lines) + "\n"


def _of_members(folds: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| member | trained on: patients, images, normal | asked about: images, normal | AUROC |"
    yield "|---|---|---|---|"
    for number, fold in enumerate(folds, start=1):
        seen, asked = fold["trained_on"], fold["held_out"]
        yield (
            f"| {number} | {seen['patients']}, {seen['images']}, {seen['images'] - seen['pneumonia']} "
            f"| {asked['images']}, {asked['images'] - asked['pneumonia']} | {fold['auroc']:.3f} |"
        )


def _of_all(held_out: dict[str, Any]) -> Iterator[str]:
    yield "| on looks and patients not seen | value | 95 % interval |"
    yield "|---|---|---|"
    labels = {
        "auroc": "AUROC",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "expected_calibration_error": "expected calibration error",
    }
    for key, label in labels.items():
        one = held_out[key]
        yield f"| {label} | {one['value']:.3f} | {one['low']:.3f}–{one['high']:.3f} |"
    yield f"| Brier score | {held_out['brier_score']:.3f} | |"


def _of_changes(robustness: dict[str, dict[str, float]]) -> Iterator[str]:
    yield "| the same images, changed | AUROC | sensitivity | specificity |"
    yield "|---|---|---|---|"
    for name, row in robustness.items():
        yield f"| {name} | {row['auroc']:.3f} | {row['sensitivity']:.3f} | {row['specificity']:.3f} |"


def census(radiographs: Sequence[Radiograph]) -> dict[str, int]:
    """Count patients, images, and images with pneumonia."""
    return {
        "patients": len({radiograph.patient for radiograph in radiographs}),
        "images": len(radiographs),
        "pneumonia": sum(radiograph.has_pneumonia for radiograph in radiographs),
    }
