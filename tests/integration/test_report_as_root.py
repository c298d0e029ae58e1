"""The report is the root of its result: it names the images, every object of its set, and nothing else (IHE AIR)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import WrittenObject
from dicom_node.config.outgoing import PRESETS
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.uids import derived_uid
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples

ALL_KINDS = OutputSet(presentation_state=True, parametric_map=True, key_objects=True, encapsulated_pdf=True)
FEW_KINDS = OutputSet(structured_report="comprehensive", segmentation="off")
ANSWERS = [examples.radiograph_analysis, examples.ct_analysis, examples.not_analysed]
LIBRARY, GROUP = "111028", "126200"


def written(answer: Analysis | NotAnalysed, *output_sets: OutputSet) -> tuple[WrittenObject, ...]:
    return write_objects(answer, examples.context(output_sets=output_sets))


def items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from items(child)


def named_in_tree(document: Dataset) -> set[str]:
    return {str(r.ReferencedSOPInstanceUID) for item in items(document) for r in item.get("ReferencedSOPSequence", [])}


def named_as_evidence(document: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def named_series(document: Dataset) -> set[str]:
    return {
        str(series.SeriesInstanceUID)
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
    }


def library(document: Dataset) -> list[Dataset]:
    (found,) = [one for one in document.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == LIBRARY]
    return list(found.ContentSequence)


def described(item: Dataset) -> dict[str, Any]:
    """Return the descriptors of a group or an entry by their meaning."""
    found: dict[str, Any] = {}
    for one in item.get("ContentSequence", []):
        if one.RelationshipType == "HAS ACQ CONTEXT":
            meaning = one.ConceptNameCodeSequence[0].CodeMeaning
            found[meaning] = _value(one)
    return found


def _value(item: Dataset) -> Any:
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        return float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue
    if item.ValueType == "CODE":
        return item.ConceptCodeSequence[0].CodeValue
    return str(item.get("Date") or item.get("Time") or item.get("UID") or item.get("TextValue"))


@pytest.mark.parametrize("wanted", [ALL_KINDS, PRESETS["air"]], ids=["all", "air"])
@pytest.mark.parametrize("make", ANSWERS)
def test_the_root_names_every_object_of_its_set_and_the_images_and_nothing_else(make: Any, wanted: OutputSet) -> None:
    answer = make()
    *others, root = written(answer, wanted)

    expected = {str(one.dataset.SOPInstanceUID) for one in others} | {str(one.SOPInstanceUID) for one in answer.sources}
    assert root.kind is ArtifactKind.STRUCTURED_REPORT
    assert others
    assert named_in_tree(root.dataset) == expected
    assert named_as_evidence(root.dataset) == expected


def test_each_set_has_a_root_that_names_its_own_objects_only() -> None:
    answer = examples.ct_analysis()
    objects = written(answer, ALL_KINDS, FEW_KINDS)
    images = {str(one.SOPInstanceUID) for one in answer.sources}

    for wanted in (ALL_KINDS, FEW_KINDS):
        mine = [one for one in objects if wanted.key in one.output_keys]
        (root,) = [one.dataset for one in mine if one.kind is ArtifactKind.STRUCTURED_REPORT]
        own = {str(one.dataset.SOPInstanceUID) for one in mine if one.dataset is not root}
        assert named_in_tree(root) == named_as_evidence(root) == own | images


def test_the_root_names_the_series_in_which_its_objects_lie() -> None:
    answer = examples.ct_analysis()
    *others, root = written(answer, ALL_KINDS)
    series = {str(one.dataset.SeriesInstanceUID) for one in others} | {str(answer.sources[0].SeriesInstanceUID)}

    assert named_series(root.dataset) == series


def test_a_finding_is_tracked_by_the_same_identifiers_in_segmentation_and_report() -> None:
    objects = written(examples.ct_analysis(), ALL_KINDS)
    (segmentation,) = [one.dataset for one in objects if one.kind is ArtifactKind.SEGMENTATION]
    in_segments = {(str(one.TrackingUID), str(one.TrackingID)) for one in segmentation.SegmentSequence}

    texts = {
        (one.ConceptNameCodeSequence[0].CodeValue, str(one.get("UID") or one.TextValue))
        for one in items(objects[-1].dataset)
        if one.ConceptNameCodeSequence[0].CodeValue in {"112039", "112040"}
    }
    assert len(in_segments) == 2
    assert {("112040", uid) for uid, _ in in_segments} | {("112039", name) for _, name in in_segments} == texts


@pytest.mark.parametrize("make", ANSWERS)
def test_every_object_names_the_algorithm_as_contributing_equipment(make: Any) -> None:
    answer = make()
    for one in written(answer, ALL_KINDS):
        (equipment,) = one.dataset.ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert equipment.Manufacturer == answer.model.manufacturer
        assert equipment.ManufacturerModelName == answer.model.name
        assert equipment.DeviceUID == answer.model.device_uid
        assert answer.model.version in equipment.SoftwareVersions


@pytest.mark.parametrize("make", ANSWERS)
def test_equal_inputs_give_equal_bytes_whatever_the_kind(make: Any) -> None:
    first, second = ([(one.kind, to_part10(one.dataset)) for one in written(make(), ALL_KINDS)] for _ in range(2))

    assert [kind for (kind, one), (_, other) in zip(first, second, strict=True) if one != other] == []


@pytest.mark.parametrize("make", ANSWERS)
def test_content_date_and_time_are_when_the_analysis_started(make: Any) -> None:
    started_at = examples.STARTED_AT.astimezone(None)
    for one in written(make(), ALL_KINDS):
        # A presentation state has its own names for the two.
        name = "PresentationCreation" if one.kind is ArtifactKind.PRESENTATION_STATE else "Content"
        times = one.dataset[f"{name}Date"].value, one.dataset[f"{name}Time"].value
        assert times == (started_at.strftime("%Y%m%d"), started_at.strftime("%H%M%S")), one.kind


def test_the_library_says_once_what_the_slices_of_a_volume_have_in_common() -> None:
    volume = examples.ct_volume()
    group = library(written(examples.ct_analysis(volume), OutputSet())[-1].dataset)[0]

    common = described(group)
    assert common["Modality"] == "CT"
    assert common["Study Date"] == "20260314"
    assert common["Frame of Reference UID"] == volume[0].FrameOfReferenceUID
    assert common["Pixel Data Rows"] == (64.0, "{pixels}")
    assert common["Vertical Pixel Spacing"] == (0.8, "mm")
    assert common["Slice Thickness"] == (2.5, "mm")
    assert [common[f"Image Orientation (Patient) Row {axis}"][0] for axis in "XYZ"] == [1.0, 0.0, 0.0]
    entries = [one for one in group.ContentSequence if one.ValueType == "IMAGE"]
    assert len(entries) == len(volume)
    assert not any("ContentSequence" in one for one in entries)


def test_two_projections_of_one_series_say_at_their_entries_what_differs() -> None:
    frontal = examples.radiograph(PatientOrientation=["L", "F"], AcquisitionTime="101500")
    lateral = examples.radiograph(columns=200, PatientOrientation=["A", "F"], AcquisitionTime="10")
    lateral.SOPInstanceUID = derived_uid("lateral")
    answer = examples.radiograph_analysis(frontal, sources=(frontal, lateral))

    group = library(written(answer, OutputSet())[-1].dataset)[0]
    first, second = [described(one) for one in group.ContentSequence if one.ValueType == "IMAGE"]
    assert described(group)["Patient Orientation Column"] == "F"
    assert described(group)["Modality"] == "CR"
    assert (first["Patient Orientation Row"], second["Patient Orientation Row"]) == ("L", "A")
    assert (first["Pixel Data Columns"], second["Pixel Data Columns"]) == ((280.0, "{pixels}"), (200.0, "{pixels}"))
    assert first["Acquisition Time"] == "101500"
    assert "Acquisition Time" not in second


def test_a_library_of_two_series_has_a_group_for_each() -> None:
    one, other = examples.radiograph(), examples.radiograph(SeriesInstanceUID=derived_uid("other-series"))
    other.SOPInstanceUID = derived_uid("other")
    groups = library(written(examples.radiograph_analysis(one, sources=(one, other)), FEW_KINDS)[-1].dataset)

    images = [[i for i in g.ContentSequence if i.ValueType == "IMAGE"] for g in groups]
    assert [len(entries) for entries in images] == [1, 1, 1]
    assert {g.ConceptNameCodeSequence[0].CodeValue for g in groups} == {GROUP}


def test_an_image_of_a_modality_without_a_code_is_listed_without_descriptors() -> None:
    source = examples.radiograph(Modality="OT")
    group = library(written(examples.radiograph_analysis(source), OutputSet())[-1].dataset)[0]

    assert [one.ValueType for one in group.ContentSequence] == ["IMAGE"]
