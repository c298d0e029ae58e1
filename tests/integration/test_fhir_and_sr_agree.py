"""The SR, the segmentation and the FHIR report say the same about one finding and call it by the same UID."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.sr_writer import write_objects
from tests.support.results.analysis_examples import context, ct_analysis, radiograph_analysis
from tests.support.results.fhir_examples import OPTIONS

TRACKING_UNIQUE_IDENTIFIER = "112040"


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def of_kind(written: list[WrittenObject], kind: ArtifactKind) -> Dataset:
    return next(one.dataset for one in written if one.kind is kind)


def tracked_by_sr(report: Dataset) -> set[str]:
    named = [item for item in items(report) if "ConceptNameCodeSequence" in item]
    return {
        str(item.UID)
        for item in named
        if item.ConceptNameCodeSequence[0].get("CodeValue") == TRACKING_UNIQUE_IDENTIFIER
    }


def observations(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    resources = [entry["resource"] for entry in bundle["entry"]]
    return [one for one in resources if one["resourceType"] == "Observation"]


@pytest.mark.parametrize("answer", [radiograph_analysis(), ct_analysis()], ids=["classifier", "segmentation"])
def test_every_observation_is_a_measurement_group_of_the_sr(answer: Analysis) -> None:
    written = list(write_objects(answer, context()))
    bundle = build_bundle(answer, context(), written, OPTIONS)

    uids = {one["identifier"][0]["value"].removeprefix("urn:oid:") for one in observations(bundle)}
    assert uids == tracked_by_sr(of_kind(written, ArtifactKind.STRUCTURED_REPORT))


def test_every_segment_is_tracked_by_an_observation() -> None:
    answer = ct_analysis()
    written = list(write_objects(answer, context()))
    bundle = build_bundle(answer, context(), written, OPTIONS)

    segments = {str(one.TrackingUID) for one in of_kind(written, ArtifactKind.SEGMENTATION).SegmentSequence}
    assert segments <= {one["identifier"][0]["value"].removeprefix("urn:oid:") for one in observations(bundle)}


def test_the_report_lists_every_written_object() -> None:
    answer = ct_analysis()
    written = list(write_objects(answer, context()))
    bundle = build_bundle(answer, context(), written, OPTIONS)

    (study,) = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "ImagingStudy"]
    listed = {instance["uid"] for series in study["series"] for instance in series["instance"]}
    assert listed == {str(one.SOPInstanceUID) for one in [*answer.sources, *(item.dataset for item in written)]}
