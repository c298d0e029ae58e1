"""Maps of what a finding rests on, as numbers in the geometry of the source (Parametric Map, PS3.3 A.75).

Viewers colour and fuse them as they like. Values 0..1 are stored in 16 bits, which every reader of images takes, where
few take pixels that are floats; the mapping to real values undoes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed, Saliency
from dicom_node.analysis.written import WrittenObject
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Code, Finding, ModelIdentity
from dicom_node.sr_writer.identity import ResultIdentity, stamp
from dicom_node.sr_writer.overlays.segmentation import coded, made_by, make_repeatable, source_headers
from dicom_node.sr_writer.source_frames import (
    have_places,
    lacking_place,
    refer_to_frames,
    shows,
    source_key,
    stand_in_uids,
)
from dicom_node.sr_writer.text import long_string
from dicom_node.sr_writer.writing import ImagesLack, Writing

SERIES_NUMBER = 9904
#: Where influence is drawn from the probabilities of a segmentation, the map is the probability itself.
_PROBABILITY = "Probability"
_STEPS = 2**16 - 1


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The maps of one finding that can share an object, each with the source it lies on."""

    finding: Finding
    saliencies: Sequence[Saliency]
    sources: Sequence[Dataset]


def parametric_maps(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make one object per finding with maps on images that have a place in the patient.

    None for radiographs: the object must have a frame of reference (PS3.3 A.75.3), and theirs would be invented. Raises
    `ImagesLack`, after those that can be made, where sections lack theirs.
    """
    if isinstance(writing.answer, NotAnalysed):
        return
    mapped_findings = list(_all_mapped(writing.answer))
    placed = [one for one in mapped_findings if have_places(one.sources)]
    for number, mapped in enumerate(placed, start=1):
        yield WrittenObject(
            kind=ArtifactKind.PARAMETRIC_MAP,
            dataset=_parametric_map(mapped, writing.identity, number),
            order=number,
            description=f"Map: {mapped.finding.label}",
            finding_key=mapped.finding.key,
        )
    lost = [
        source
        for one in mapped_findings
        if not have_places(one.sources)
        for source in one.sources
        if _is_section(source)
    ]
    if lost:
        raise ImagesLack(lacking_place(lost))


def _is_section(source: Dataset) -> bool:
    """Whether an image is of a kind that has a place in the patient."""
    return source.get("Modality") in {"CT", "MR", "PT"}


def _all_mapped(analysis: Analysis) -> Iterator[_Mapped]:
    for finding in analysis.findings:
        groups: dict[object, list[tuple[Saliency, Dataset]]] = {}
        for saliency in analysis.saliencies:
            if saliency.finding_key == finding.key:
                source = next(one for one in analysis.sources if shows(one, saliency))
                groups.setdefault((_space(source), saliency.method), []).append((saliency, source))
        for pairs in groups.values():
            yield _Mapped(finding, [saliency for saliency, _ in pairs], [source for _, source in pairs])


def _space(source: Dataset) -> object:
    """Return what images must share to share an object."""
    frame_of_reference = str(source.get("FrameOfReferenceUID") or "")
    return str(source.SeriesInstanceUID), frame_of_reference, int(source.Rows), int(source.Columns)


def _parametric_map(mapped: _Mapped, identity: ResultIdentity, number: int) -> Dataset:
    sources = source_headers(mapped.sources)
    standing = stand_in_uids(mapped.sources, sources)
    seed = (mapped.finding.key, *(source_key(source) for source in mapped.sources))
    dataset: Dataset = ParametricMap(
        source_images=sources,
        pixel_array=np.stack([_stored(saliency) for saliency in mapped.saliencies]),
        series_instance_uid=identity.uid("pm-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("pm", *seed),
        instance_number=number,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(mapped, identity.model)],
        voi_lut_transformations=[VOILUTTransformation(window_center=(_STEPS + 1) / 2, window_width=_STEPS + 1)],
        content_label="AI_MAP",
        **made_by(identity),
    )
    refer_to_frames(dataset, standing)
    make_repeatable(dataset, identity.uid("pm-dimensions", *seed))
    stamp(dataset, identity, f"maps {identity.model.name}")
    return dataset


def _stored(saliency: Saliency) -> NDArray[np.uint16]:
    return np.asarray(np.rint(np.clip(saliency.map, 0.0, 1.0) * _STEPS), dtype=np.uint16)


def _mapping(mapped: _Mapped, model: ModelIdentity) -> RealWorldValueMapping:
    """Say what the numbers are: the share of the strongest influence on a score, or a probability; without a unit."""
    method = mapped.saliencies[0].method
    quantity: Code = codes.VISUAL_EXPLANATION
    if method == _PROBABILITY:
        quantity = codes.score_code(mapped.finding, model)
    return RealWorldValueMapping(
        lut_label="AI_MAP",
        lut_explanation=long_string(f"{mapped.finding.label}: {method}"),
        unit=coded(codes.NO_UNITS),
        value_range=(0, _STEPS),
        slope=1 / _STEPS,
        intercept=0,
        quantity_definition=coded(quantity),
    )
