"""Masks become segments with codes from the card, and their volume where it is plausible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.answer import Analysis, Saliency, Segment, frame_number_of
from dicom_node.core.codes import MILLILITER, VOLUME
from dicom_node.core.entities import Finding, Measurement, Presence
from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.answers.inputs import Given, predictions, read_inputs
from dicom_node.inference.answers.plausible import held_value
from dicom_node.inference.cards.outputs import CardSegment
from dicom_node.inference.explain.maps import probability_map, strongest_slices
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel, Prediction

Mask = NDArray[np.bool_]

_KEY_SLICES = 6
_MAPS_PER_SEGMENT = 3


def answer(run: ModelRun, model: LoadedModel) -> Analysis:
    """Outline every structure of the card and measure it. A structure whose volume is not plausible is told in a note,
    and neither its mask nor its volume is reported.

    Raises `NotAnalysable` (IMPLAUSIBLE_VOLUME) when nothing may be reported, or `ModelUnavailable`.
    """
    given = [_one_object(run, read_inputs(run))]
    found = predictions(run, model, given)
    masks = _masks(run, given[0], found[0])
    with run.stage("measure"):
        segments, findings = _measured(run, masks, given[0].volume.voxel_ml if given[0].volume else None)
        saliencies = _saliencies(run, segments, given, found)
        if run.keeps_probabilities:
            segments = _with_probabilities(run, segments, found)
    return Analysis(
        model=run.identity,
        sources=tuple(source for one in given for source in one.sources),
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
        if prediction.masks is not None:
            mask = prediction.masks.get(one.value)
        else:
            mask = None if prediction.labels is None else prediction.labels == one.value
        if mask is None or mask.shape != shape:
            raise ModelUnavailable(
                f"Model {run.card.name} does not say which of the voxels {shape} are {one.key}, value {one.value}. "
                "Correct value in [[segment]], or the model."
            )
        yield one, mask


def _measured(
    run: ModelRun, masks: Iterable[tuple[CardSegment, Mask]], voxel_ml: float | None
) -> tuple[list[Segment], list[Finding]]:
    segments: list[Segment] = []
    findings: list[Finding] = []
    for one, mask in masks:
        volume_ml = None if voxel_ml is None else float(np.count_nonzero(mask)) * voxel_ml
        withheld = None if volume_ml is None else held_value(one.label, _volume(volume_ml), one.plausible_ml)
        if withheld is not None:
            run.notes.append(withheld.message)
            findings.append(replace(_finding(one, None, None), presence=None, withheld=(withheld,)))
            continue
        if not mask.any():
            findings.append(_finding(one, None, None))
            continue
        _tell_cut(run, one, mask, voxel_ml)
        segments.append(_segment(one, mask, len(segments) + 1))
        findings.append(_finding(one, volume_ml, len(segments)))
    if all(one.withheld for one in findings):
        raise NotAnalysable("IMPLAUSIBLE_VOLUME", "No volume is plausible. " + " ".join(run.notes))
    return segments, findings


def _tell_cut(run: ModelRun, one: CardSegment, mask: Mask, voxel_ml: float | None) -> None:
    ends = [name for name, plane in (("first", mask[0]), ("last", mask[-1])) if plane.any()]
    if ends and voxel_ml is not None:
        run.notes.append(f"{one.label} reaches the {' and the '.join(ends)} slice: the scan may cut it off.")


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


def _with_probabilities(run: ModelRun, segments: Sequence[Segment], found: Sequence[Prediction]) -> list[Segment]:
    """Add how sure the network is of each voxel, where it tells; a copy, so that the other classes can be let go."""
    if len(found) != 1 or found[0].probabilities is None:
        return list(segments)
    values = found[0].probabilities
    index_of = {one.key: one.value for one in run.card.segments}
    return [
        replace(segment, probability_zyx=probability_map(values, index_of[segment.finding_key]))
        if index_of[segment.finding_key] < values.shape[0]
        else segment
        for segment in segments
    ]


def _volume(volume_ml: float) -> Measurement:
    return Measurement(VOLUME, float(f"{volume_ml:.4g}"), MILLILITER)


def _finding(one: CardSegment, volume_ml: float | None, number: int | None) -> Finding:
    measurements = () if volume_ml is None else (_volume(volume_ml),)
    return Finding(
        key=one.key,
        label=one.label,
        code=one.type,
        site=one.region or one.type,
        laterality=one.side,
        presence=Presence.ABSENT if number is None else None,
        measurements=measurements,
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
    run: ModelRun, segments: Sequence[Segment], given: Sequence[Given], found: Sequence[Prediction]
) -> tuple[Saliency, ...]:
    """Show how sure the network is of each structure, on the slices that hold most of it, where it tells."""
    if run.card.explain.get("method") != "probability" or any(one.probabilities is None for one in found):
        return ()
    values = np.concatenate([one.probabilities for one in found if one.probabilities is not None], axis=1)
    sources = [source for one in given for source in one.sources]
    index_of = {one.key: one.value for one in run.card.segments}
    saliencies: list[Saliency] = []
    for segment in segments:
        if index_of[segment.finding_key] >= values.shape[0]:
            continue
        chance = probability_map(values, index_of[segment.finding_key])
        saliencies.extend(
            Saliency(
                finding_key=segment.finding_key,
                sop_instance_uid=str(sources[place].SOPInstanceUID),
                map=chance[place],
                method="Probability",
                frame_number=frame_number_of(sources[place]),
            )
            for place in strongest_slices(chance, _MAPS_PER_SEGMENT)
        )
    return tuple(saliencies)
