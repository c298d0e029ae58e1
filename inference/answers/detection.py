"""Boxes become findings: each box above the threshold one finding, with its outline on the image it shows best on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, frame_number_of
from dicom_node.core.codes import DIAMETER, MAXIMUM, MILLIMETER
from dicom_node.core.entities import Finding, Measurement, Presence, Region
from dicom_node.inference.answers.inputs import Given, predictions, read_inputs
from dicom_node.inference.cards.outputs import CardFinding, threshold_of
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import Box, LoadedModel

#: More than a reader looks at; the rest is counted in a note.
_MOST_BOXES = 20
_KEY_SLICES = 6


@dataclass(frozen=True, slots=True)
class _Seen:
    """A box and the input it was seen on."""

    box: Box
    given: Given

    @property
    def slice_index(self) -> int:
        """Where the box is cut in the middle."""
        middle = (self.box.low_xyz_px[2] + self.box.high_xyz_px[2]) / 2
        return min(int(middle), len(self.given.sources) - 1)

    @property
    def source(self) -> Dataset:
        return self.given.sources[self.slice_index]


def answer(run: ModelRun, model: LoadedModel) -> Analysis:
    """Report what the model detects; a class with no box above the threshold is reported absent.

    Raises `NotAnalysable`, or `ModelUnavailable` when the model cannot be used.
    """
    given = read_inputs(run)
    found = predictions(run, model, given)
    seen = [_Seen(box, one) for one, prediction in zip(given, found, strict=True) for box in prediction.boxes]
    reported: list[_Seen] = []
    findings: list[Finding] = []
    for card_finding in run.card.findings:
        threshold = threshold_of(run.parameters, card_finding.key)
        mine = [one for one in seen if one.box.output_index == card_finding.output_index]
        chosen = _chosen(run, card_finding, mine, threshold)
        reported.extend(chosen)
        findings.extend(_present(card_finding, one, place, threshold) for place, one in enumerate(chosen, start=1))
        if not chosen:
            findings.append(_absent(card_finding, mine, threshold))
    return Analysis(
        model=run.identity,
        sources=tuple(source for one in given for source in one.sources),
        findings=tuple(findings),
        key_slices=_key_slices(reported),
        notes=tuple(run.notes),
        stage_times_s=dict(run.stage_times_s),
    )


def _chosen(run: ModelRun, finding: CardFinding, seen: Sequence[_Seen], threshold: float) -> list[_Seen]:
    above = sorted((one for one in seen if one.box.score >= threshold), key=lambda one: -one.box.score)
    if len(above) > _MOST_BOXES:
        run.notes.append(f"{finding.label}: {len(above)} were detected; the {_MOST_BOXES} surest are reported.")
    return above[:_MOST_BOXES]


def _present(finding: CardFinding, seen: _Seen, place: int, threshold: float) -> Finding:
    return Finding(
        key=f"{finding.key}-{place}",
        label=f"{finding.label} {place}",
        code=finding.code,
        site=finding.site,
        presence=Presence.PRESENT,
        probability=seen.box.score,
        threshold=threshold,
        measurements=_measurements(seen),
        region=_outline(seen),
    )


def _absent(finding: CardFinding, seen: Sequence[_Seen], threshold: float) -> Finding:
    best = max((one.box.score for one in seen), default=None)
    return Finding(
        key=finding.key,
        label=finding.label,
        code=finding.code,
        site=finding.site,
        presence=Presence.ABSENT,
        probability=best,
        threshold=threshold,
    )


def _measurements(seen: _Seen) -> tuple[Measurement, ...]:
    """Return the largest extent of the box in mm; an image without a position has no sure scale."""
    if seen.given.volume is None:
        return ()
    extents_px = np.subtract(seen.box.high_xyz_px, seen.box.low_xyz_px)
    largest_mm = float((extents_px * np.array(seen.given.volume.spacing_zyx_mm[::-1])).max())
    return (Measurement(DIAMETER, round(largest_mm, 1), MILLIMETER, MAXIMUM),)


def _outline(seen: _Seen) -> Region:
    (left, top, _), (right, bottom, _) = seen.box.low_xyz_px, seen.box.high_xyz_px
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    source = seen.source
    return Region(
        sop_instance_uid=str(source.SOPInstanceUID), points_xy_px=corners, frame_number=frame_number_of(source)
    )


def _key_slices(reported: Sequence[_Seen]) -> tuple[int, ...]:
    in_volume = [one for one in reported if one.given.volume is not None]
    best = sorted(in_volume, key=lambda one: -one.box.score)
    return tuple(dict.fromkeys(one.slice_index for one in best))[:_KEY_SLICES]
