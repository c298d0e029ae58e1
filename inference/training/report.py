"""What is measured about a trained classifier, and how it is written down: nothing in the card is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dicom_node.inference.training import fit, metrics
from dicom_node.inference.training.data import Radiograph, Split
from dicom_node.inference.training.metrics import Interval, Scored
from dicom_node.inference.training.robustness import perturbations

#: The rule for the threshold, fixed before the test set was looked at.
WANTED_SENSITIVITY = 0.95
_TABLE_BEGIN, _TABLE_END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """The temperature that divides the logits, and the probability from which a finding counts as present."""

    temperature: float
    threshold: float


def choose_operating_point(validation: Scored) -> OperatingPoint:
    """Fit the temperature, then take the highest threshold with the wanted sensitivity; both on validation only.

    Both are rounded as they are written into the card, so that the figures speak of the values in use.
    """
    temperature = round(metrics.fit_temperature(validation), 4)
    calibrated = metrics.probabilities(validation, temperature)
    threshold = metrics.threshold_for_sensitivity(calibrated, WANTED_SENSITIVITY)
    return OperatingPoint(temperature=temperature, threshold=int(threshold * 10_000) / 10_000)


def figures(
    network: nn.Module, split: Split, preprocessing: fit.Transform, operating_point: OperatingPoint
) -> dict[str, Any]:
    """Return every figure as JSON-ready data: sets, operating point, test with intervals, robustness."""
    sets = {"training": split.training, "validation": split.validation, "test": split.test}
    under: dict[str, Scored] = {
        name: _scored(network, split.test, preprocessing, change) for name, change in perturbations().items()
    }
    plain = metrics.probabilities(next(iter(under.values())), operating_point.temperature)
    return {
        "sets": {name: census(radiographs) for name, radiographs in sets.items()},
        "operating_point": {**asdict(operating_point), "chosen_for_validation_sensitivity": WANTED_SENSITIVITY},
        "test": test_figures(plain, operating_point.threshold),
        "robustness": {
            name: _point_figures(metrics.probabilities(scored, operating_point.temperature), operating_point.threshold)
            for name, scored in under.items()
        },
    }


def test_figures(scored: Scored, threshold: float) -> dict[str, Any]:
    """Return discrimination and operating point with 95 % intervals over patients, and calibration."""

    def rounded(statistic: Callable[[Scored], float]) -> dict[str, float]:
        interval: Interval = metrics.bootstrap_interval(statistic, scored)
        return {name: round(value, 4) for name, value in asdict(interval).items()}

    return {
        "auroc": rounded(metrics.auroc),
        "sensitivity": rounded(lambda sample: metrics.sensitivity(sample, threshold)),
        "specificity": rounded(lambda sample: metrics.specificity(sample, threshold)),
        "brier_score": round(metrics.brier_score(scored), 4),
        "expected_calibration_error": round(metrics.expected_calibration_error(scored), 4),
    }


def write_table(readme: Path, measured: dict[str, Any]) -> None:
    """Replace the part of the README between the two marks by the measured figures."""
    replace_table(readme, table(measured))


def replace_table(readme: Path, table_text: str) -> None:
    """Put the text between the two marks of a README. Raises `ValueError` when they are not there."""
    text = readme.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(_TABLE_BEGIN)
    _, found_end, after = rest.partition(_TABLE_END)
    if not (found_begin and found_end):
        raise ValueError(f"{readme} lacks the lines {_TABLE_BEGIN} and {_TABLE_END}; the figures go between them.")
    readme.write_text(f"{before}{_TABLE_BEGIN}\n{table_text}{_TABLE_END}{after}", encoding="utf-8")


def table(measured: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    point, test = measured["operating_point"], measured["test"]
    lines = ["| set | patients | images | with pneumonia |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {census['patients']} | {census['images']} | {census['pneumonia']} |"
        for name, census in measured["sets"].items()
    ]
    lines += [
        "",
        f"Temperature {point['temperature']}, threshold {point['threshold']}: the highest with a sensitivity of "
        f"{point['chosen_for_validation_sensitivity']} on the validation set.",
        "",
        "| on the test set | value | 95 % interval |",
        "|---|---|---|",
    ]
    lines += [
        f"| {label} | {test[key]['value']:.3f} | {test[key]['low']:.3f}–{test[key]['high']:.3f} |"
        for key, label in (("auroc", "AUROC"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
    ]
    lines += [
        f"| Brier score | {test['brier_score']:.3f} | |",
        f"| expected calibration error | {test['expected_calibration_error']:.3f} | |",
        "",
        "| the test set, changed | AUROC | sensitivity | specificity |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['auroc']:.3f} | {row['sensitivity']:.3f} | {row['specificity']:.3f} |"
        for name, row in measured["robustness"].items()
    ]
    return "\n".join(lines) + "\n"


def _scored(
    network: nn.Module,
    radiographs: Sequence[Radiograph],
    preprocessing: fit.Transform,
    change: Callable[[Tensor], Tensor],
) -> Scored:
    def changed(item: Any) -> Any:
        return preprocessing({**item, "image": change(item["image"])})

    return fit.score(network, radiographs, fit.inputs_of(radiographs, changed))


def _point_figures(scored: Scored, threshold: float) -> dict[str, float]:
    return {
        "auroc": round(metrics.auroc(scored), 4),
        "sensitivity": round(metrics.sensitivity(scored, threshold), 4),
        "specificity": round(metrics.specificity(scored, threshold), 4),
    }


def census(radiographs: Sequence[Radiograph]) -> dict[str, int]:
    """Count patients, images, and images with pneumonia."""
    return {
        "patients": len({radiograph.patient for radiograph in radiographs}),
        "images": len(radiographs),
        "pneumonia": sum(radiograph.has_pneumonia for radiograph in radiographs),
    }
