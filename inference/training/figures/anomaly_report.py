"""What is measured about the anomaly detector: whole, term by term, and at the limit set by normal images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicom_node.inference.anomaly.detector import TERMS, Detector, prepared
from dicom_node.inference.training import fit
from dicom_node.inference.training.data import Radiograph, Split
from dicom_node.inference.training.figures import metrics
from dicom_node.inference.training.figures.metrics import FloatArray, Scored
from dicom_node.inference.training.figures.report import census, replace_table
from dicom_node.inference.training.robustness import perturbations

#: A score counts as unusual when this share of the held-out normal images lies below; fixed before any measurement.
SHARE_OF_NORMALS = 0.95


def figures(detector: Detector, split: Split) -> dict[str, Any]:
    """Return every figure as JSON-ready data: sets, test with intervals, ablation of the terms, robustness."""
    changes = perturbations()
    plain = standard_terms(detector, split.test, next(iter(changes.values())))
    limit = limit_of(detector)
    normals = [radiograph for radiograph in split.training if not radiograph.has_pneumonia]
    held_out = [radiograph for radiograph in split.validation if not radiograph.has_pneumonia]
    return {
        "sets": {
            "training (normal only)": census(normals),
            "limit (normal only)": census(held_out),
            "test": census(split.test),
        },
        "limit": {"share_of_normals": SHARE_OF_NORMALS, "score": round(limit, 4)},
        "test": _with_intervals(_scored(split.test, plain.mean(axis=1)), limit),
        "ablation": _ablation(split.test, plain),
        "robustness": {
            name: _point(_scored(split.test, standard_terms(detector, split.test, change).mean(axis=1)), limit)
            for name, change in changes.items()
        },
    }


@torch.no_grad()
def standard_terms(detector: Detector, radiographs: Sequence[Radiograph], change: Callable[..., Any]) -> FloatArray:
    """Return the three terms (images, 3) of changed images, in deviations of normal images."""
    images = torch.cat([prepared(change(fit.as_tensor(one))[None]) for one in radiographs])
    terms = torch.cat([detector.standard_terms(detector.terms(batch)) for batch in torch.split(images, 256)])
    found: FloatArray = terms.double().numpy()
    return found


def limit_of(detector: Detector) -> float:
    """Return the lowest score that counts as unusual by `SHARE_OF_NORMALS`."""
    scores = detector.normal_scores.numpy()
    first = int(np.ceil(SHARE_OF_NORMALS * len(scores) - 1e-9))
    # A score counts from just above the normal image before it.
    return float(np.nextafter(scores[max(0, first - 1)], np.float32(np.inf)))


def write_table(readme: Path, measured: dict[str, Any]) -> None:
    """Replace the part of the README between the two marks by the measured figures."""
    replace_table(readme, table(measured))


def table(measured: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    test, limit = measured["test"], measured["limit"]
    lines = ["| set | patients | images | with pneumonia |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['patients']} | {one['images']} | {one['pneumonia']} |"
        for name, one in measured["sets"].items()
    ]
    lines += [
        "",
        f"Limit: a score above {limit['score']:.3f}, over {limit['share_of_normals']:.0%} of the normal images",
    ]
    lines[-1] += " of the second row."
    lines += ["", "| on the test set | value | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {label} | {test[key]['value']:.3f} | {test[key]['low']:.3f}–{test[key]['high']:.3f} |"
        for key, label in (
            ("auroc", "AUROC, normal against pneumonia"),
            ("sensitivity", "pneumonia above the limit"),
            ("specificity", "normal images below the limit"),
        )
    ]
    lines += ["", "| terms of the score | AUROC | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {name} | {one['value']:.3f} | {one['low']:.3f}–{one['high']:.3f} |"
        for name, one in measured["ablation"].items()
    ]
    lines += ["", "| the test set, changed | AUROC | pneumonia found | normal left alone |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['auroc']:.3f} | {row['sensitivity']:.3f} | {row['specificity']:.3f} |"
        for name, row in measured["robustness"].items()
    ]
    return "\n".join(lines) + "\n"


def _ablation(radiographs: Sequence[Radiograph], terms: FloatArray) -> dict[str, dict[str, float]]:
    """Return the AUROC of every single term, every pair and all three."""
    kept = [parts for size in (1, 2, 3) for parts in combinations(range(len(TERMS)), size)]
    return {
        " + ".join(TERMS[part] for part in parts): _interval(
            metrics.auroc, _scored(radiographs, terms[:, list(parts)].mean(axis=1))
        )
        for parts in kept
    }


def _with_intervals(scored: Scored, limit: float) -> dict[str, Any]:
    return {
        "auroc": _interval(metrics.auroc, scored),
        "sensitivity": _interval(lambda sample: metrics.sensitivity(sample, limit), scored),
        "specificity": _interval(lambda sample: metrics.specificity(sample, limit), scored),
    }


def _point(scored: Scored, limit: float) -> dict[str, float]:
    return {
        "auroc": round(metrics.auroc(scored), 4),
        "sensitivity": round(metrics.sensitivity(scored, limit), 4),
        "specificity": round(metrics.specificity(scored, limit), 4),
    }


def _interval(statistic: Callable[[Scored], float], scored: Scored) -> dict[str, float]:
    found = metrics.bootstrap_interval(statistic, scored)
    return {name: round(value, 4) for name, value in asdict(found).items()}


def _scored(radiographs: Sequence[Radiograph], scores: FloatArray) -> Scored:
    return Scored(
        labels=np.array([radiograph.has_pneumonia for radiograph in radiographs], dtype=np.bool_),
        scores=scores,
        patients=np.array([radiograph.patient for radiograph in radiographs]),
    )
