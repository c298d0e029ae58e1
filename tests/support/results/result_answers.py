"""Answers of every kind about the studies of the matrix: found, nothing found, declined, partial, successor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed, Saliency, Segment, frame_number_of
from dicom_node.core import codes
from dicom_node.core.entities import Finding, Measurement, Presence, Region
from dicom_node.core.outputs.artifact_kinds import OutputSet
from tests.support.results import analysis_examples as examples

Answer = Analysis | NotAnalysed


def every_output_set() -> tuple[OutputSet, ...]:
    """Return sets with every option on, that name every choice between kinds of object once.

    Made from the fields of the settings, so that a new kind joins the matrix by itself.
    """
    hints = get_type_hints(OutputSet)
    choices = {name: [value for value in get_args(hint) if value != "off"] for name, hint in hints.items()
               if get_origin(hint) is Literal}  # fmt: skip
    switches = {name: True for name, hint in hints.items() if hint is bool}
    count = max(len(values) for values in choices.values())
    return tuple(
        OutputSet(**switches, **{name: values[index % len(values)] for name, values in choices.items()})
        for index in range(count)
    )


def classified(sources: Sequence[Dataset]) -> Analysis:
    """Return classes with and without a region, one with a heat map, one absent, one not told, on a middle image."""
    image = sources[len(sources) // 2]
    frame = frame_number_of(image)
    whole = examples.radiograph_analysis(image)
    findings = tuple(
        replace(one, region=replace(one.region, frame_number=frame)) if one.region else one for one in whole.findings
    )
    return replace(
        whole,
        sources=tuple(sources),
        findings=findings,
        saliencies=tuple(replace(one, frame_number=frame) for one in whole.saliencies),
        key_slices=(len(sources) // 2,) if len(sources) > 1 else (),
    )


def segmented(sources: Sequence[Dataset]) -> Analysis:
    """Return two structures with masks and measurements; what only sums them up has no mask of its own."""
    answer = examples.ct_analysis(tuple(sources), key_slices=(len(sources) // 2,))
    total = replace(answer.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    return replace(answer, findings=(total, *answer.findings))


def marked(sources: Sequence[Dataset]) -> Analysis:
    """Return what a detector with masks says: a class with score, box, mask, measurement and heat map in one."""
    image = sources[len(sources) // 2]
    mask = np.zeros((len(sources), int(image.Rows), int(image.Columns)), dtype=bool)
    mask[len(sources) // 2, 10:20, 5:25] = True
    uid, frame = str(image.SOPInstanceUID), frame_number_of(image)
    corners = ((5.0, 10.0), (25.0, 10.0), (25.0, 20.0), (5.0, 20.0), (5.0, 10.0))
    found = Finding(
        key="effusion", label="Pleural effusion", code=examples.PLEURAL_EFFUSION, site=examples.PLEURA,
        laterality=codes.LEFT, presence=Presence.PRESENT, probability=0.9, threshold=0.5, segment_number=1,
        measurements=(Measurement(codes.DIAMETER, 21.5, codes.MILLIMETER, codes.MAXIMUM),),
        region=Region(sop_instance_uid=uid, points_xy_px=corners, frame_number=frame),
    )  # fmt: skip
    segment = Segment(
        number=1, label="Pleural effusion", category=codes.ANATOMICAL_STRUCTURE, type=examples.PLEURA, mask=mask,
        finding_key="effusion", probability_zyx=np.where(mask, np.float32(0.8), np.float32(0.1)),
    )  # fmt: skip
    heat = Saliency(
        finding_key="effusion", sop_instance_uid=uid, frame_number=frame, method="Grad-CAM, layer features",
        map=mask[len(sources) // 2].astype(np.float32), in_three_panels=True,
    )  # fmt: skip
    return Analysis(
        model=examples.CXR_MODEL, sources=tuple(sources), findings=(found,), segments=(segment,), saliencies=(heat,)
    )


def nothing_found(sources: Sequence[Dataset]) -> Analysis:
    """Return classes that were all looked for and are all absent."""
    answer = examples.radiograph_analysis(sources[0], sources=tuple(sources), saliencies=())
    absent = (
        replace(one, presence=Presence.ABSENT, probability=0.02, threshold=0.5, region=None, explanation_key=None)
        for one in answer.findings
    )
    return replace(answer, findings=tuple(absent))


def empty_masks(sources: Sequence[Dataset]) -> Analysis:
    """Return a segmentation that segmented nothing."""
    answer = examples.ct_analysis(tuple(sources), key_slices=(), histogram=None)
    segments = (replace(one, mask=np.zeros_like(one.mask)) for one in answer.segments)
    return replace(
        answer, segments=tuple(segments), findings=tuple(replace(f, measurements=()) for f in answer.findings)
    )


def declined(sources: Sequence[Dataset]) -> NotAnalysed:
    """Return the refusal of the study."""
    return examples.not_analysed(tuple(sources))


def partial(sources: Sequence[Dataset]) -> Analysis:
    """Return an answer about a part of what was wanted."""
    return replace(segmented(sources), partial=True)


STORIES: Mapping[str, Callable[[Sequence[Dataset]], Answer]] = {
    "classified": classified,
    "segmented": segmented,
    "marked": marked,
    "nothing-found": nothing_found,
    "empty-masks": empty_masks,
    "declined": declined,
    "partial": partial,
}


def options(**changes: Any) -> dict[str, Any]:
    """Return the values of a context in which every kind of object is wanted."""
    return {"output_sets": every_output_set(), "institution": "Hospital"} | changes
