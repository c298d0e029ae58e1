"""Masks become segments with codes from the card, and their volume where it is plausible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.answer import Analysis, Saliency, Segment, frame_number_of
from dicom_node.core.entities import Finding, Measurement, Presence
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.answers.inputs import Given, predictions, read_inputs
from dicom_node.inference.answers.measures import Mask, measurements, volume_of
from dicom_node.inference.answers.plausible import held_value, hold_checks
from dicom_node.inference.cards.outputs import CardSegment
from dicom_node.inference.explain.maps import probability_map, strongest_slices
from dicom_node.inference.images.volume import Volume
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel, Prediction

_KEY_SLICES = 6
_MAPS_PER_SEGMENT = 3


def answer(run: ModelRun, model: LoadedModel) -> Analysis:
    """Outline every structure of the card and measure it. A structure whose volume is not plausible is told in a note,
    and neither its mask nor its volume is reported.

    Raises `NotAnalysable` (IMPLAUSIBLE_VOLUME) when nothing may be reported, or by a `[[check]]` of the card; or
    `ModelUnavailable`.
    """
    given = _one_object(run, read_inputs(run))
    (prediction,) = predictions(run, model, [given])
    hold_checks(run.card, prediction.figures)
    masks = _masks(run, given, prediction)
    with run.stage("measure"):
        segments, findings = _measured(run, masks, given.volume)
        saliencies = _saliencies(run, segments, given, prediction)
        if run.keeps_probabilities:
            segments = _with_probabilities(run, segments, prediction)
    return Analysis(
        model=run.identity,
        sources=given.sources,
        findings=tuple(findings),
        segments=tuple(segments),
        saliencies=saliencies,
        key_slices=_key_slices(segments),
        notes=tuple(run.notes),
        partial=any(one.withheld for one in findings),
        stage_times_s=dict(run.stage_times_s),
    )


def _one_object(run: ModelRun, given: list[Given]) -> Given:
    """Return the volume, or the first image: images without a common frame of reference cannot share a mask object."""
    if len(given) > 1:
        run.notes.append(f"Only the first of {len(given)} images was outlined; send the others as series of their own.")
    return given[0]


def _masks(run: ModelRun, given: Given, prediction: Prediction) -> Iterator[tuple[CardSegment, Mask]]:
    """Yield each structure of the card with its own mask, one after the other. Raises `ModelUnavailable` where the
    model says nothing of a structure: that must not read as its absence."""
    shape = (len(given.sources), *given.model_input.values.shape[-2:])
    for one in run.card.segments:
        mask = _mask(prediction, one.values)
        if mask is None or mask.shape != shape:
            raise ModelUnavailable(
                f"Model {run.card.name} does not say which of the voxels {shape} are {one.key}, value "
                f"{', '.join(map(str, one.values))}. Correct value in [[segment]], or the model."
            )
        yield one, mask


def _mask(prediction: Prediction, values: Sequence[int]) -> Mask | None:
    """Return where any of the values is; `None` where the model says nothing of one of them."""
    if prediction.masks is None:
        return None if prediction.labels is None else np.isin(prediction.labels, values)
    found = [prediction.masks.get(value) for value in values]
    known = [mask for mask in found if mask is not None]
    return np.logical_or.reduce(known) if len(known) == len(values) else None


def _measured(
    run: ModelRun, masks: Iterable[tuple[CardSegment, Mask]], volume: Volume | None
) -> tuple[list[Segment], list[Finding]]:
    segments: list[Segment] = []
    findings: list[Finding] = []
    for one, mask in masks:
        withheld = None if volume is None else held_value(one.label, volume_of(mask, volume), one.plausible_ml)
        if withheld is not None:
            run.notes.append(withheld.message)
            findings.append(replace(_finding(one, (), None), presence=None, withheld=(withheld,)))
            continue
        if not mask.any():
            findings.append(_finding(one, (), None))
            continue
        segments.append(_segment(one, mask, len(segments) + 1))
        measured = () if volume is None else measurements(one.measure, mask, volume)
        findings.append(_finding(one, measured, len(segments)))
        if volume is not None:
            _tell_limits(run, one, mask, volume)
    if all(one.withheld for one in findings):
        raise NotAnalysable("IMPLAUSIBLE_VOLUME", "No volume is plausible. " + " ".join(run.notes))
    return segments, findings


def _tell_limits(run: ModelRun, one: CardSegment, mask: Mask, volume: Volume) -> None:
    """Say what of a structure could not be measured, or not wholly."""
    ends = [name for name, plane in (("first", mask[0]), ("last", mask[-1])) if plane.any()]
    if ends:
        run.notes.append(f"{one.label} reaches the {' and the '.join(ends)} slice: the scan may cut it off.")
    if "mean" in one.measure and volume.modality != "CT":
        run.notes.append(f"{one.label}: no mean, for the values of {volume.modality} images have no unit.")


def _segment(one: CardSegment, mask: Mask, number: int) -> Segment:
    return Segment(
        number=number,
        label=one.label,
        category=one.category,
        type=one.type,
        mask=mask,
        finding_key=one.key,
        anatomic_region=one.region,
        color_rgb=one.color_rgb,
    )


def _with_probabilities(run: ModelRun, segments: Sequence[Segment], prediction: Prediction) -> list[Segment]:
    """Add how sure the network is of each voxel, where it tells; a copy, so that the other classes can be let go."""
    values_of = {one.key: one.values for one in run.card.segments}
    chances = [_chance(prediction, values_of[segment.finding_key]) for segment in segments]
    return [
        segment if chance is None else replace(segment, probability_zyx=chance)
        for segment, chance in zip(segments, chances, strict=True)
    ]


def _chance(prediction: Prediction, values: Sequence[int]) -> NDArray[np.float32] | None:
    """Return how sure the network is that a voxel is any of the values: classes that exclude each other add up, of
    structures that may overlap the surest counts. `None` where it does not tell."""
    known = prediction.probabilities
    if known is None or max(values) >= known.shape[0]:
        return None
    if len(values) == 1:
        return probability_map(known, values[0])
    chosen = known[list(values)]
    together = chosen.sum(axis=0) if prediction.masks is None else chosen.max(axis=0)
    chance: NDArray[np.float32] = np.clip(together, 0.0, 1.0).astype(np.float32)
    return chance


def _finding(one: CardSegment, measured: tuple[Measurement, ...], number: int | None) -> Finding:
    return Finding(
        key=one.key,
        label=one.label,
        code=one.type,
        site=one.region or one.type,
        laterality=one.side,
        presence=Presence.ABSENT if number is None else None,
        measurements=measured,
        segment_number=number,
    )


def _key_slices(segments: Sequence[Segment]) -> tuple[int, ...]:
    """Return for each segment the slice with most of it, then the next best of all."""
    if not segments or segments[0].mask.shape[0] < 2:
        return ()
    areas = np.array([segment.mask.sum(axis=(1, 2)) for segment in segments])
    total = areas.sum(axis=0)
    best = [int(one) for one in areas.argmax(axis=1)]
    held = np.nonzero(total)[0]
    spread = held[np.linspace(0, len(held) - 1, _KEY_SLICES).round().astype(int)]
    return tuple(dict.fromkeys([*best, *(int(one) for one in spread)]))[:_KEY_SLICES]


def _saliencies(
    run: ModelRun, segments: Sequence[Segment], given: Given, prediction: Prediction
) -> tuple[Saliency, ...]:
    """Show how sure the network is of each structure, on the slices that hold most of it, where it tells."""
    if run.card.explain.get("method") != "probability":
        return ()
    if segments and prediction.probabilities is None:
        run.notes.append(
            "How sure the network is of each structure is not shown: it left no probabilities on the pixels of the "
            "images."
        )
    values_of = {one.key: one.values for one in run.card.segments}
    saliencies: list[Saliency] = []
    for segment in segments:
        chance = _chance(prediction, values_of[segment.finding_key])
        if chance is None:
            continue
        saliencies.extend(
            Saliency(
                finding_key=segment.finding_key,
                sop_instance_uid=str(given.sources[place].SOPInstanceUID),
                map=chance[place],
                method="Probability",
                frame_number=frame_number_of(given.sources[place]),
            )
            for place in strongest_slices(chance, _MAPS_PER_SEGMENT)
        )
    return tuple(saliencies)
