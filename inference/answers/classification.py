"""Classes with probabilities: every class of the card evaluated, the most suspicious image deciding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.analysis.answer import Analysis, Saliency
from dicom_node.core.entities import Finding, Presence
from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.answers.inputs import Given, explanation, predictions, read_inputs
from dicom_node.inference.answers.plausible import hold_checks
from dicom_node.inference.cards.outputs import CardFinding, threshold_of
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel, Prediction


@dataclass(frozen=True, slots=True)
class _Scored:
    given: Given
    prediction: Prediction


def answer(run: ModelRun, model: LoadedModel) -> Analysis:
    """Classify every image of the series, or its volume; a finding takes the probability of its most suspicious image.

    Raises `NotAnalysable`, or `ModelUnavailable` when the model cannot be used.
    """
    given = read_inputs(run)
    found = predictions(run, model, given)
    hold_checks(run.card, run.figures)
    scored = [_Scored(*pair) for pair in zip(given, found, strict=True)]
    with run.stage("explain"):
        findings, saliencies = _findings(run, model, scored)
    return Analysis(
        model=run.identity,
        sources=tuple(source for one in given for source in one.sources),
        findings=findings,
        saliencies=saliencies,
        notes=tuple(run.notes),
        stage_times_s=dict(run.stage_times_s),
    )


def _findings(
    run: ModelRun, model: LoadedModel, scored: Sequence[_Scored]
) -> tuple[tuple[Finding, ...], tuple[Saliency, ...]]:
    """Return every class as a finding, with saliency for those that `_to_explain` names."""
    needed = {one.key: threshold_of(run.parameters, one.key) for one in run.card.findings}
    best = {one.key: _most_suspicious(run, one, scored) for one in run.card.findings}
    chance = {one.key: _probability(run, one, best[one.key]) for one in run.card.findings}
    held = {key for key, value in chance.items() if value >= needed[key]}
    explained = _to_explain(run, chance, held)
    findings, saliencies = [], []
    for one in run.card.findings:
        present = one.key in held
        saliency = _explain(run, model, one, best[one.key]) if one.key in explained else None
        if saliency is not None:
            saliencies.append(saliency)
        findings.append(
            Finding(
                key=one.key,
                label=one.label,
                code=one.code,
                site=one.site,
                presence=Presence.PRESENT if present else Presence.ABSENT,
                probability=chance[one.key],
                threshold=needed[one.key],
                explanation_key=f"heatmap:{one.key}:{saliency.sop_instance_uid}" if saliency is not None else None,
            )
        )
    return tuple(findings), tuple(saliencies)


def _to_explain(run: ModelRun, chance: Mapping[str, float], held: Collection[str]) -> Collection[str]:
    """Return the keys of the findings to draw a map for: as many as the card says, the highest scores first; without
    such a number those present, or else the most probable."""
    by_score = sorted(chance, key=lambda key: -chance[key])
    if not run.card.maps:
        return held or by_score[:1]
    chosen = by_score[: run.card.maps]
    beside = len(set(held) - set(chosen))
    if beside and run.card.explain.get("method"):
        run.notes.append(f"Heat maps show the {len(chosen)} highest scores; {beside} more findings are present.")
    return chosen


def _most_suspicious(run: ModelRun, finding: CardFinding, scored: Sequence[_Scored]) -> _Scored:
    if len(scored) > 1:
        told = ", ".join(
            f"image {one.given.sources[0].get('InstanceNumber', '?')}: {_probability(run, finding, one):.2f}"
            for one in scored
        )
        run.notes.append(f"{finding.label}: the highest of {len(scored)} images counts ({told}).")
    return max(scored, key=lambda one: _probability(run, finding, one))


def _probability(run: ModelRun, finding: CardFinding, image: _Scored) -> float:
    scores = image.prediction.scores
    if scores is None or finding.output_index >= scores.size:
        raise ModelUnavailable(
            f"Model {run.card.name} gives {0 if scores is None else scores.size} outputs, but finding {finding.key} "
            f"names output {finding.output_index}. Correct output_index in the card."
        )
    value = float(scores[finding.output_index])
    if not 0.0 <= value <= 1.0:
        raise ModelUnavailable(
            f"Model {run.card.name} answered {value:g}, which is no probability. What it gives must end in softmax or "
            "sigmoid."
        )
    return value


def _explain(run: ModelRun, model: LoadedModel, finding: CardFinding, image: _Scored) -> Saliency | None:
    if not run.card.explain.get("method") or image.given.volume is not None:
        return None
    found = explanation(model, image.given, finding.output_index)
    if found is None:
        run.notes.append(
            "No heat map: the model cannot give one here, or its preprocessing crops or turns the image, or forgets "
            "what it did to it, so that a map would have no sure place on it."
        )
        return None
    return Saliency(
        finding_key=finding.key,
        sop_instance_uid=image.given.sop_instance_uid,
        map=found.map,
        method=found.method,
    )
