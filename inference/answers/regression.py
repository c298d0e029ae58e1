"""Values a model estimates, each with its unit; a value the card calls implausible is told and not reported."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from dicom_node.analysis.answer import Analysis
from dicom_node.core.codes import NO_UNITS
from dicom_node.core.entities import Finding, Measurement
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.answers.inputs import Given, predictions, read_inputs
from dicom_node.inference.answers.plausible import held_value, hold_checks
from dicom_node.inference.cards.outputs import CardFinding
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel, Prediction


def answer(run: ModelRun, model: LoadedModel) -> Analysis:
    """Estimate every value of the card on the series; of several images the median counts.

    Raises `NotAnalysable` (IMPLAUSIBLE_VALUE) when no value may be reported, or `ModelUnavailable`.
    """
    given = read_inputs(run)
    found = predictions(run, model, given)
    hold_checks(run.card, run.figures)
    findings = tuple(_finding(run, one, given, found) for one in run.card.findings)
    if not any(one.measurements for one in findings):
        raise NotAnalysable("IMPLAUSIBLE_VALUE", "No value is plausible: " + " ".join(run.notes))
    return Analysis(
        model=run.identity,
        sources=tuple(source for one in given for source in one.sources),
        findings=findings,
        notes=tuple(run.notes),
        partial=any(one.withheld for one in findings),
        stage_times_s=dict(run.stage_times_s),
    )


def _finding(run: ModelRun, one: CardFinding, given: Sequence[Given], found: Sequence[Prediction]) -> Finding:
    values = [_value(run, one, prediction) for prediction in found]
    value, unit = statistics.median(values), one.unit or NO_UNITS
    if len(values) > 1:
        told = ", ".join(
            f"image {image.sources[0].get('InstanceNumber', '?')}: {each:.4g}"
            for image, each in zip(given, values, strict=True)
        )
        run.notes.append(f"{one.label}: the median of {len(values)} images counts ({told}).")
    measurement = Measurement(one.code, float(f"{value:.4g}"), unit)
    finding = Finding(key=one.key, label=one.label, code=one.code, site=one.site, measurements=(measurement,))
    withheld = held_value(one.label, Measurement(one.code, value, unit), one.plausible)
    if withheld is None:
        return finding
    run.notes.append(withheld.message)
    return replace(finding, measurements=(), withheld=(withheld,))


def _value(run: ModelRun, one: CardFinding, prediction: Prediction) -> float:
    scores = prediction.scores
    if scores is None or one.output_index >= scores.size:
        raise ModelUnavailable(
            f"Model {run.card.name} gives {0 if scores is None else scores.size} values, but {one.key} is output "
            f"{one.output_index}. Correct output_index in the card."
        )
    return float(scores[one.output_index])
