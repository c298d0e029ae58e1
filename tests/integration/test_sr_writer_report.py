"""What the structured report says, and the shape viewers need it in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from dicom_node import __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, Saliency, SourceFrame
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Finding, Measurement, OrderContext, Presence, Region
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.reasons import REASONS
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.terms import coding
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.report.statements import coded_reason
from dicom_node.sr_writer.writing import to_part10
from tests.support.results import analysis_examples as examples
from tests.support.validators.objects import assert_valid_dicom

FINDING, PRESENCE, CERTAINTY, TRACKING_UID = "121071", "121052", "111012", "112040"
SCORE = codes.MODEL_SCORE.value
TRACKING, SEGMENT, STATEMENTS, SUMMARY = "112039", "121191", "C0034375", "111017"
GROUP, MEASUREMENTS, LIBRARY, PARAMETER = "125007", "126010", "111028", "111002"


def report(answer: Analysis | NotAnalysed, **context: Any) -> Dataset:
    context.setdefault("output_sets", (OutputSet(secondary_capture=False),))
    return write_objects(answer, examples.context(**context))[-1].dataset


def items(item: Dataset) -> Iterator[Dataset]:
    """Walk the whole tree."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from items(child)


def named(item: Dataset, code: str) -> list[Dataset]:
    return [child for child in item.ContentSequence if child.ConceptNameCodeSequence[0].CodeValue == code]


def meaning(group: Dataset, code: str) -> str:
    return str(named(group, code)[0].ConceptCodeSequence[0].CodeMeaning)


def groups(document: Dataset) -> list[Dataset]:
    return named(named(document, MEASUREMENTS)[0], GROUP)


def comments(document: Dataset) -> list[str]:
    return [item.TextValue for item in items(document) if item.ConceptNameCodeSequence[0].CodeValue == "121106"]


def summary(document: Dataset) -> str | None:
    """Return the code of what the report says as a whole."""
    said = [one for container in named(document, STATEMENTS) for one in named(container, SUMMARY)]
    return str(said[0].ConceptCodeSequence[0].CodeValue) if said else None


def group_of(document: Dataset, finding_code: str) -> Dataset:
    return next(g for g in groups(document) if named(g, FINDING)[0].ConceptCodeSequence[0].CodeValue == finding_code)


@pytest.mark.parametrize("make", [examples.radiograph_analysis, examples.ct_analysis])
def test_the_tree_has_the_shape_viewers_rely_on(make: Any) -> None:
    document = report(make())
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert named(document, LIBRARY)
    uids = [named(group, TRACKING_UID)[0].UID for group in groups(document)]
    assert len(set(uids)) == len(uids) > 0
    numbers = [item for group in groups(document) for item in group.ContentSequence if item.ValueType == "NUM"]
    assert numbers
    assert all(item.ContentSequence for item in numbers)


def test_the_group_with_a_region_comes_first_because_viewers_open_it() -> None:
    first, *others = groups(report(examples.radiograph_analysis()))
    assert named(first, FINDING)[0].ConceptCodeSequence[0].CodeValue == examples.PLEURAL_EFFUSION.value
    regions = [item for item in first.ContentSequence if item.ValueType == "SCOORD"]
    assert len(regions) == 1
    assert list(regions[0].GraphicData[:2]) == list(regions[0].GraphicData[-2:]) == [56.0, 90.0]
    assert not any(named(group, "111030") for group in others)


@pytest.mark.parametrize("make", [examples.radiograph_analysis, examples.ct_analysis])
def test_every_group_has_one_place_for_all_its_numbers_because_viewers_draw_those(make: Any) -> None:
    for group in groups(report(make())):
        assert len([item for item in group.ContentSequence if item.ValueType == "SCOORD"]) == 1
        for number in (item for item in group.ContentSequence if item.ValueType == "NUM"):
            assert not [one for one in items(number) if one.ValueType == "SCOORD"]


def test_a_class_without_a_number_is_placed_on_the_whole_image_because_viewers_need_a_place() -> None:
    untold = groups(report(examples.radiograph_analysis()))[-1]
    assert not any(item.ValueType == "NUM" for item in untold.ContentSequence)
    (place,) = [item for item in untold.ContentSequence if item.ValueType == "SCOORD"]
    assert place.ConceptNameCodeSequence[0].CodeMeaning == "Source"
    assert list(place.GraphicData) == [0, 0, 280, 0, 280, 300, 0, 300, 0, 0]


def test_a_sum_over_segments_is_a_volumetric_group_that_names_them_all() -> None:
    analysis = examples.ct_analysis()
    both = replace(analysis.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    document = report(replace(analysis, findings=(both, *analysis.findings)))
    told = {
        named(group, TRACKING)[0].TextValue: named(group, SEGMENT)[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        for group in groups(document)
    }
    assert told == {"Right lung": 1, "Left lung": 2, "Both lungs": [1, 2]}


def test_a_sum_is_placed_on_the_box_around_what_it_sums_up() -> None:
    analysis = examples.ct_analysis()
    both = replace(analysis.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    group = groups(report(replace(analysis, findings=(*analysis.findings, both))))[-1]
    (place,) = [one for one in group.ContentSequence if one.ValueType == "SCOORD"]
    shown = place.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    index = [source.SOPInstanceUID for source in analysis.sources].index(shown)
    rows, columns = np.nonzero(analysis.segments[0].mask[index] | analysis.segments[1].mask[index])
    assert place.GraphicData[:2] == [columns.min(), rows.min()]
    assert place.GraphicData[4:6] == [columns.max() + 1, rows.max() + 1]


def test_no_number_of_a_sum_stands_where_one_of_its_parts_does() -> None:
    """Viewers write beside the right edge, at half the height, of what was measured: for both lungs and the left one
    that would be one spot of one slice."""
    analysis = examples.ct_analysis()
    parts = [int(one.mask.sum(axis=(1, 2)).argmax()) for one in analysis.segments]
    elsewhere = next(index for index in range(len(analysis.sources)) if index not in parts)
    both = replace(analysis.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    document = report(replace(analysis, findings=(*analysis.findings, both), key_slices=(parts[0], elsewhere)))

    spots = [place_of(group) for group in groups(document)]

    assert len(set(spots)) == len(spots) == 3


def place_of(group: Dataset) -> tuple[str, float, float]:
    """Return image, right edge and middle of what the volume of a group was measured on."""
    (place,) = [one for one in group.ContentSequence if one.ValueType == "SCOORD"]
    columns, rows = place.GraphicData[0::2], place.GraphicData[1::2]
    image = place.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    return str(image), max(columns), (min(rows) + max(rows)) / 2


def test_what_only_measures_but_is_of_another_kind_sums_up_no_segment() -> None:
    analysis = examples.ct_analysis()
    other = replace(analysis.findings[0], key="age", label="Age", code=examples.PNEUMONIA, segment_number=None)
    group = group_of(report(replace(analysis, findings=(*analysis.findings, other))), examples.PNEUMONIA.value)
    assert group.ContentTemplateSequence[0].TemplateIdentifier == "1501"
    assert named(group, SEGMENT) == []


def test_an_absent_structure_beside_outlined_ones_is_coded_as_absent() -> None:
    analysis = examples.ct_analysis()
    absent = replace(analysis.findings[0], key="nodule", code=examples.PNEUMONIA, presence=Presence.ABSENT,
                     measurements=(), segment_number=None)  # fmt: skip
    document = report(replace(analysis, findings=(*analysis.findings, absent)))
    assert meaning(group_of(document, examples.PNEUMONIA.value), PRESENCE) == "Absent"


def test_every_class_the_model_looked_at_is_reported_with_its_presence() -> None:
    document = report(examples.radiograph_analysis())
    presence = {meaning(group, FINDING): meaning(group, PRESENCE) for group in groups(document)}
    assert presence == {
        "Pneumonia": "Present",
        "Pleural effusion": "Present",
        "Pneumothorax": "Absent",
        "Pulmonary edema": "Undetermined",
    }


def test_a_score_is_a_percentage_and_an_undetermined_finding_has_none() -> None:
    document = report(examples.radiograph_analysis())
    score = named(group_of(document, "233604007"), SCORE)[0].MeasuredValueSequence[0]
    assert score.NumericValue == 83.2
    assert score.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert named(group_of(document, "19242006"), SCORE) == []


def test_only_a_calibrated_model_says_how_certain_a_finding_is() -> None:
    analysis = examples.radiograph_analysis()
    assert named(group_of(report(analysis), "233604007"), CERTAINTY) == []
    calibrated = report(replace(analysis, model=replace(analysis.model, calibrated=True)))
    assert len(named(group_of(calibrated, "233604007"), CERTAINTY)) == 1


def test_a_rank_among_other_images_has_its_own_name_and_is_no_certainty() -> None:
    analysis = examples.radiograph_analysis()
    ranked = tuple(replace(one, score=codes.SHARE_OF_NORMALS) for one in analysis.findings)
    document = report(replace(analysis, findings=ranked, model=replace(analysis.model, calibrated=True)))
    group = group_of(document, "233604007")
    assert named(group, CERTAINTY) == []
    assert len(named(group, codes.SHARE_OF_NORMALS.value)) == 1


def test_threshold_digest_and_node_version_can_be_found_for_each_finding() -> None:
    document = report(examples.radiograph_analysis())
    texts = [item.TextValue for item in named(group_of(document, "36118008"), PARAMETER)]
    expected = ["threshold=0.4", "score=uncalibrated", "digest=" + "9f" * 32, f"node=dicom-ai-node {__version__}"]
    assert texts == expected


def test_a_number_that_is_not_finite_is_left_out_and_said_to_be() -> None:
    analysis = examples.ct_analysis()
    finding = analysis.findings[0]
    broken = replace(finding.measurements[0], value=float("nan"))
    changed = replace(finding, measurements=(broken, finding.measurements[1]), probability=float("inf"))
    document = report(replace(analysis, findings=(changed, analysis.findings[1])))
    assert len([item for item in groups(document)[0].ContentSequence if item.ValueType == "NUM"]) == 1
    assert "Right lung: Volume could not be computed." in comments(document)
    assert "Right lung: Certainty of Finding could not be computed." in comments(document)


def test_the_side_of_a_finding_is_coded() -> None:
    document = report(examples.ct_analysis())
    site = named(groups(document)[0], "363698007")[0]
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Right"


def test_a_heatmap_explains_its_finding_and_no_other() -> None:
    objects = write_objects(examples.radiograph_analysis(), examples.context())
    heatmap = next(item for item in objects if item.picture_key.startswith("heatmap:pneumonia:"))
    explained = {
        meaning(group, FINDING): item.ReferencedSOPSequence[0]
        for group in groups(objects[-1].dataset)
        for item in named(group, "130401")
    }
    assert list(explained) == ["Pneumonia"]
    assert explained["Pneumonia"].ReferencedSOPInstanceUID == heatmap.dataset.SOPInstanceUID


def test_a_parametric_map_explains_its_finding_beside_the_heatmap() -> None:
    analysis = examples.ct_analysis()
    source = analysis.sources[4]
    heat = np.full((source.Rows, source.Columns), 0.5, dtype=np.float32)
    saliency = Saliency(finding_key="left-lung", sop_instance_uid=source.SOPInstanceUID, map=heat, method="Probability")
    context = examples.context(output_sets=(OutputSet(parametric_map=True),))
    objects = write_objects(replace(analysis, saliencies=(saliency,)), context)
    expected = [
        str(one.dataset.SOPInstanceUID)
        for one in objects
        if one.kind is ArtifactKind.PARAMETRIC_MAP or one.picture_key.startswith("heatmap:left-lung:")
    ]
    right, left = groups(objects[-1].dataset)
    explaining = [str(one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for one in named(left, "130401")]
    assert len(expected) == 2
    assert explaining == expected
    assert named(right, "130401") == []


@pytest.mark.parametrize("make", [examples.radiograph_analysis, examples.ct_analysis, examples.not_analysed])
def test_all_that_is_referred_to_is_listed_as_evidence(make: Any) -> None:
    document = report(make())
    listed = {
        instance.ReferencedSOPInstanceUID
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    referred = {r.ReferencedSOPInstanceUID for item in items(document) for r in item.get("ReferencedSOPSequence", [])}
    assert referred
    assert referred <= listed


def test_segment_and_group_share_their_tracking_uid() -> None:
    *_, segmentation, document = [o.dataset for o in write_objects(examples.ct_analysis(), examples.context())]
    tracked = {segment.TrackingUID: segment.SegmentNumber for segment in segmentation.SegmentSequence}
    for group in groups(document):
        reference = named(group, "121191")[0].ReferencedSOPSequence[0]
        assert tracked[named(group, TRACKING_UID)[0].UID] == reference.ReferencedSegmentNumber


def test_the_report_is_complete_preliminary_and_unverified() -> None:
    document = report(examples.ct_analysis())
    assert (document.CompletionFlag, document.PreliminaryFlag) == ("COMPLETE", "PRELIMINARY")
    assert document.VerificationFlag == "UNVERIFIED"


@pytest.mark.parametrize(("changes", "context"), [({"partial": True}, {}), ({}, {"study_partial": True})])
def test_a_partial_result_says_so(changes: dict[str, Any], context: dict[str, Any]) -> None:
    document = report(examples.ct_analysis(**changes), **context)
    assert document.CompletionFlag == "PARTIAL"
    assert any("PARTIAL" in item.get("TextValue", "") for item in items(document))


def test_notes_and_limits_are_in_the_report_in_ascii() -> None:
    document = report(examples.ct_analysis(notes=("Slices ≥ 5 mm – Müller’s method",)))
    assert comments(document) == [
        "Slices >= 5 mm - Muller's method",
        "Limits: Not validated for contrast-enhanced scans.",
    ]


def negative(**changes: Any) -> Analysis:
    """Every class evaluated, every one absent."""
    analysis = examples.radiograph_analysis()
    absent = [
        replace(one, presence=Presence.ABSENT, probability=0.021, threshold=0.5, region=None, explanation_key=None)
        for one in analysis.findings
    ]
    return replace(analysis, findings=tuple(absent), saliencies=(), **changes)


def test_nothing_found_is_said_in_a_sentence_in_a_code_and_for_every_class() -> None:
    document = report(negative())
    assert {meaning(group, PRESENCE) for group in groups(document)} == {"Absent"}
    assert len(groups(document)) == 4
    assert all(named(group, SCORE) for group in groups(document))
    assert summary(document) == "111241"
    (sentence,) = [text for text in comments(document) if text.startswith("NOTHING FOUND")]
    assert "Pneumonia, Pleural effusion, Pneumothorax, Pulmonary edema" in sentence
    assert "does not exclude disease" in sentence


@pytest.mark.parametrize(
    ("presences", "partial", "expected"),
    [
        ("AAAA", False, "111241"),
        ("AAPA", False, "111242"),
        ("AAAA", True, "111243"),
        ("AUAA", False, "111243"),
        ("PAAA", True, "111244"),
        ("PUAA", False, "111244"),
    ],
)
def test_the_summary_tells_apart_what_was_found_and_what_was_evaluated(
    presences: str, partial: bool, expected: str
) -> None:
    letters = {"A": Presence.ABSENT, "P": Presence.PRESENT, "U": Presence.UNDETERMINED}
    analysis = negative()
    findings = [replace(f, presence=letters[x]) for f, x in zip(analysis.findings, presences, strict=True)]
    assert summary(report(replace(analysis, findings=tuple(findings), partial=partial))) == expected


def test_an_answer_that_only_measures_claims_to_have_found_nothing_and_to_have_missed_nothing() -> None:
    document = report(examples.ct_analysis())
    assert summary(document) is None
    assert not any("NOTHING FOUND" in text for text in comments(document))


def test_a_class_that_could_not_be_told_is_named_as_neither() -> None:
    assert any(
        text.startswith("UNDETERMINED: Pulmonary edema") for text in comments(report(examples.radiograph_analysis()))
    )


def test_a_refusal_holds_no_finding_and_cannot_be_read_as_negative() -> None:
    document = report(examples.not_analysed())
    concepts = {item.ConceptNameCodeSequence[0].CodeValue for item in items(document)}
    assert not concepts & {FINDING, PRESENCE, CERTAINTY}
    assert summary(document) is None
    texts = " ".join(comments(document))
    assert "AI ANALYSIS NOT PERFORMED. Reason GAP_IN_SERIES" in texts
    assert "not a negative result" in texts
    assert "NOTHING FOUND" not in texts
    assert document.CompletionFlag == "PARTIAL"
    assert document.SeriesDescription.startswith("AI NOT ANALYSED")


def test_a_refusal_says_its_reason_in_a_code() -> None:
    (group,) = groups(report(examples.not_analysed()))
    assert meaning(group, "111065") == "Not Attempted"
    (why,) = named(group, "NOTANALYSED")
    code = why.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("GAP_IN_SERIES", "99AINODE")


@pytest.mark.parametrize("reason", [*(one.code for one in REASONS), "A_MODELS_OWN_REASON"])
def test_every_reason_makes_a_code_that_fits(reason: str) -> None:
    code = coded_reason(reason)
    assert code.value == reason
    assert 0 < len(code.meaning) <= 64
    assert code.meaning.isascii()


def test_a_region_lies_on_its_own_slice() -> None:
    analysis = examples.ct_analysis()
    slices = (analysis.sources[5], analysis.sources[2])
    findings = tuple(nodule(number, source) for number, source in enumerate(slices, start=1))
    document = report(replace(analysis, findings=findings, segments=()))
    referred = [
        named(group, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for group in groups(document)
    ]
    assert referred == [source.SOPInstanceUID for source in slices]
    assert [group.ContentTemplateSequence[0].TemplateIdentifier for group in groups(document)] == ["1410", "1410"]


def test_a_region_on_a_frame_of_a_large_object_names_the_frame() -> None:
    frames = []
    for number, source in enumerate(examples.ct_volume(), start=1):
        frame = SourceFrame(source)
        frame.SOPClassUID, frame.SOPInstanceUID = EnhancedCTImageStorage, derived_uid("enhanced")
        frame.frame_number = number
        frames.append(frame)
    found = nodule(1, frames[0])
    assert found.region is not None
    found = replace(found, region=replace(found.region, frame_number=6))
    analysis = examples.ct_analysis(sources=tuple(frames), findings=(found,), segments=())
    (group,) = groups(report(analysis))
    reference = named(group, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedFrameNumber) == (derived_uid("enhanced"), 6)


def nodule(number: int, source: Dataset) -> Finding:
    box = ((10.0, 12.0), (20.0, 12.0), (20.0, 22.0), (10.0, 22.0), (10.0, 12.0))
    return Finding(
        key=f"nodule-{number}", label=f"Nodule {number}", code=examples.PNEUMONIA, site=codes.LUNG,
        presence=Presence.PRESENT, probability=0.9, threshold=0.5,
        region=Region(sop_instance_uid=str(source.SOPInstanceUID), points_xy_px=box),
    )  # fmt: skip


def test_a_refusal_is_also_a_picture() -> None:
    objects = write_objects(examples.not_analysed(), examples.context())
    assert [item.picture_key for item in objects] == ["not-analysed", ""]


def test_the_order_that_asked_for_the_images_is_named() -> None:
    request = Dataset()
    request.AccessionNumber = "ACC-99"
    request.RequestedProcedureID = "RP-1"
    source = examples.radiograph(RequestAttributesSequence=[request], PlacerOrderNumberImagingServiceRequest="PL-5")
    named_request = report(examples.radiograph_analysis(source)).ReferencedRequestSequence[0]
    assert named_request.AccessionNumber == "ACC-99"
    assert named_request.RequestedProcedureID == "RP-1"
    assert named_request.PlacerOrderNumberImagingServiceRequest == "PL-5"
    assert named_request.FillerOrderNumberImagingServiceRequest == ""


def test_the_procedure_is_the_one_the_source_codes() -> None:
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "24627-2", "LN", "CT Chest"
    source = examples.radiograph(ProcedureCodeSequence=[procedure])
    reported = named(report(examples.radiograph_analysis(source)), "121058")[0].ConceptCodeSequence[0]
    assert (reported.CodeValue, reported.CodeMeaning) == ("24627-2", "CT Chest")


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("CT", "CT unspecified body region"), ("CR", "Imaging procedure"), ("MG", "Imaging procedure")],
)
def test_without_a_coded_procedure_the_modality_decides(modality: str, expected: str) -> None:
    source = examples.radiograph(Modality=modality)
    assert meaning(report(examples.radiograph_analysis(source)), "121058") == expected


def test_a_mean_says_that_it_is_one() -> None:
    mean = Measurement(codes.ATTENUATION_COEFFICIENT, -843.0, codes.HOUNSFIELD_UNIT, codes.MEAN)
    analysis = examples.ct_analysis()
    finding = replace(analysis.findings[0], measurements=(mean,))
    first, *_ = groups(report(replace(analysis, findings=(finding,))))
    (attenuation,) = named(first, codes.ATTENUATION_COEFFICIENT.value)
    assert meaning(attenuation, "121401") == "Mean"


def test_the_private_coding_scheme_is_identified_where_it_is_used() -> None:
    private = Measurement(codes.LUNG_DENSITY_PERCENTILE_15, -930.0, codes.HOUNSFIELD_UNIT)
    analysis = examples.ct_analysis()
    finding = replace(analysis.findings[0], measurements=(private,))
    *captures, document = [
        one.dataset for one in write_objects(replace(analysis, findings=(finding,)), examples.context())
    ]
    (scheme,) = document.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99AINODE"
    assert coding(codes.LUNG_DENSITY_PERCENTILE_15)["system"] == f"urn:oid:{scheme.CodingSchemeUID}"
    assert not any("CodingSchemeIdentificationSequence" in capture for capture in captures)


def test_the_schemes_the_source_identified_stay_identified() -> None:
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = "99SITE", "Codes of this hospital"
    document = report(examples.radiograph_analysis(examples.radiograph(CodingSchemeIdentificationSequence=[scheme])))
    assert scheme in document.CodingSchemeIdentificationSequence


def test_why_and_what_for_the_analysis_was_asked_stands_in_the_report_and_it_stays_valid(
    tmp_path: Path,
) -> None:
    order = OrderContext(reason="Dyspnoe, Müller's sign")
    document = report(examples.radiograph_analysis(), order=order, purpose="follow-up")
    assert [one.TextValue for one in named(document, codes.INDICATIONS.value)] == ["Dyspnoe, Muller's sign"]
    assert [one.TextValue for one in named(document, codes.PURPOSE_OF_ANALYSIS.value)] == ["follow-up"]
    (tmp_path / "sr.dcm").write_bytes(to_part10(document))
    assert_valid_dicom(tmp_path / "sr.dcm")
    assert not named(report(examples.radiograph_analysis()), codes.INDICATIONS.value)
