"""Whose result it is: copied headers, one patient, the job's time, derived UIDs, repeatable bytes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import MANUFACTURER, __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.outputs.artifact_kinds import OutputSet, SrClass
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from dicom_node.sr_writer import to_part10, write_objects
from dicom_node.sr_writer.copied import COPIED, TYPE_2
from tests.support.results import analysis_examples as examples


def written(answer: Analysis | NotAnalysed, **context: Any) -> list[Dataset]:
    """Return everything written, as a receiver would read it."""
    objects = write_objects(answer, examples.context(**context))
    return [dcmread(BytesIO(to_part10(item.dataset))) for item in objects]


def elements(dataset: Dataset) -> Iterator[Any]:
    yield from dataset.iterall()


@pytest.mark.parametrize("answer", [examples.radiograph_analysis(), examples.ct_analysis(), examples.not_analysed()])
def test_patient_and_study_are_copied_as_they_are(answer: Analysis | NotAnalysed) -> None:
    source = answer.sources[0]
    for dataset in written(answer):
        for keyword in COPIED:
            if keyword in source:
                assert dataset[keyword].value == source[keyword].value, keyword


def test_what_the_source_lacks_is_there_and_empty() -> None:
    missing: dict[str, Any] = dict.fromkeys(TYPE_2)
    source = examples.radiograph(**missing)
    for dataset in written(examples.radiograph_analysis(source)):
        assert [str(dataset[keyword].value or "") for keyword in TYPE_2] == [""] * len(TYPE_2)


def test_the_source_is_not_changed() -> None:
    answer = examples.ct_analysis()
    before = copy.deepcopy(answer.sources)
    written(answer)
    assert all(old == new for old, new in zip(before, answer.sources, strict=True))


def test_an_odd_value_in_the_source_neither_stops_the_writer_nor_is_mended() -> None:
    source = examples.radiograph(PatientSex="X", StudyID="", PatientAge="056Y")
    assert {dataset.PatientSex for dataset in written(examples.radiograph_analysis(source))} == {"X"}


@pytest.mark.parametrize(
    ("keyword", "reason"),
    [
        ("PatientID", "PATIENT_MISMATCH"),
        ("PatientName", "PATIENT_MISMATCH"),
        ("PatientBirthDate", "PATIENT_MISMATCH"),
        ("AccessionNumber", "STUDY_MISMATCH"),
    ],
)
def test_images_of_two_patients_or_studies_are_refused_without_naming_them(keyword: str, reason: str) -> None:
    volume = examples.ct_volume()
    setattr(volume[3], keyword, "19991231")
    with pytest.raises(NotAnalysable) as refusal:
        written(examples.ct_analysis(volume))
    assert refusal.value.reason == reason
    assert "19991231" not in str(refusal.value)


def test_an_image_without_patient_id_beside_one_with_is_refused() -> None:
    volume = examples.ct_volume()
    del volume[2].PatientID
    with pytest.raises(NotAnalysable):
        written(examples.ct_analysis(volume))


def test_an_image_that_only_lacks_the_issuer_is_no_other_patient() -> None:
    volume = examples.ct_volume()
    del volume[2].IssuerOfPatientID
    assert written(examples.ct_analysis(volume))


def test_an_answer_about_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one header"):
        written(examples.not_analysed(()))


@pytest.mark.parametrize(
    ("offset", "local"), [("+0530", "20260314145653"), ("-0400", "20260314052653"), ("+0000", "20260314092653")]
)
def test_every_time_is_the_start_of_the_job_in_the_zone_of_the_source(offset: str, local: str) -> None:
    source = examples.radiograph(TimezoneOffsetFromUTC=offset)
    for dataset in written(examples.radiograph_analysis(source)):
        assert dataset.TimezoneOffsetFromUTC == offset
        # The report's image library says when the images were made: Date and Time of its content items.
        others = {*COPIED, "Date", "Time"}
        own = [e for e in elements(dataset) if e.VR in {"DA", "TM", "DT"} and e.keyword not in others and e.value]
        assert {"InstanceCreationDate", "ContentTime", "SeriesDate"} <= {element.keyword for element in own}
        expected = {"DA": local[:8], "TM": local[8:], "DT": local + offset}
        assert all(str(element.value) == expected[element.VR] for element in own), own


@pytest.mark.parametrize(
    ("started_at", "local"),
    [
        (datetime(2026, 1, 14, 23, 30, tzinfo=UTC), "20260115003000"),
        (datetime(2026, 7, 14, 9, tzinfo=UTC), "20260714110000"),
    ],
    ids=["winter", "summer"],
)
def test_a_source_without_a_zone_gives_results_in_the_sites_time_without_one(started_at: datetime, local: str) -> None:
    context = examples.context(started_at=started_at, time_zone_name="Europe/Berlin")
    for item in write_objects(examples.radiograph_analysis(), context):
        assert item.dataset.ContentDate + item.dataset.ContentTime == local
        assert "TimezoneOffsetFromUTC" not in item.dataset


def test_a_zone_that_cannot_be_one_is_copied_but_not_followed() -> None:
    source = examples.radiograph(TimezoneOffsetFromUTC="+9900")
    assert all(dataset.TimezoneOffsetFromUTC == "+9900" for dataset in written(examples.radiograph_analysis(source)))


@pytest.mark.parametrize("make", [examples.radiograph_analysis, examples.ct_analysis, examples.not_analysed])
def test_equal_inputs_give_equal_bytes(make: Any) -> None:
    first, second = ([to_part10(item.dataset) for item in write_objects(make(), examples.context())] for _ in range(2))
    assert first == second


def test_another_job_shares_no_instance_with_the_first() -> None:
    first = {dataset.SOPInstanceUID for dataset in written(examples.ct_analysis())}
    second = {dataset.SOPInstanceUID for dataset in written(examples.ct_analysis(), job_key="b2" * 32)}
    assert len(first) == len(second) == 5
    assert not first & second


def test_each_kind_has_its_own_series_and_none_is_the_source_series() -> None:
    answer = examples.ct_analysis()
    objects = write_objects(answer, examples.context())
    series = {(item.kind, item.dataset.SeriesInstanceUID) for item in objects}
    assert len(series) == 3
    assert answer.sources[0].SeriesInstanceUID not in {uid for _, uid in series}


def test_the_report_comes_last_and_pictures_first() -> None:
    objects = write_objects(examples.ct_analysis(), examples.context())
    kinds = [ArtifactKind.SECONDARY_CAPTURE] * 3 + [ArtifactKind.SEGMENTATION, ArtifactKind.STRUCTURED_REPORT]
    assert [item.kind for item in objects] == kinds
    assert [item.order for item in objects] == [1, 2, 3, 4, 5]


def test_a_successor_lies_in_the_series_of_the_report_it_replaces() -> None:
    earlier = write_objects(examples.ct_analysis(), examples.context())[-1].dataset
    later = written(examples.ct_analysis(), job_key="c3" * 32, predecessor=examples.predecessor(earlier, 4))[-1]
    assert later.SeriesInstanceUID == earlier.SeriesInstanceUID
    assert later.SOPInstanceUID != earlier.SOPInstanceUID
    assert later.InstanceNumber == 5
    replaced = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID == earlier.SOPInstanceUID


def test_reports_of_different_classes_are_different_instances() -> None:
    classes: tuple[SrClass, ...] = ("comprehensive3d", "comprehensive", "enhanced")
    uids = {
        written(examples.radiograph_analysis(), output_sets=(OutputSet(structured_report=name),))[-1].SOPInstanceUID
        for name in classes
    }
    assert len(uids) == 3


def test_every_object_says_who_made_it_with_which_model() -> None:
    for dataset in written(examples.ct_analysis()):
        assert (dataset.Manufacturer, dataset.SoftwareVersions) == (MANUFACTURER, __version__)
        assert dataset.DeviceSerialNumber == derived_uid("node", "test")
        equipment = dataset.ContributingEquipmentSequence[0]
        assert equipment.ManufacturerModelName == "ct-lung-density"
        assert list(equipment.SoftwareVersions) == ["1.0.0", "3c" * 32]
        assert equipment.DeviceUID == dataset.DeviceUID == examples.CT_MODEL.device_uid
        assert dataset.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


@pytest.mark.parametrize(("intended_use", "words"), [("clinical", False), ("research", True)])
def test_every_object_is_marked_unverified_and_research_when_it_is(intended_use: str, words: bool) -> None:
    for dataset in written(examples.ct_analysis(), intended_use=intended_use):
        assert dataset.SeriesDescription.startswith("AI ")
        assert "NOT VERIFIED" in dataset.SeriesDescription
        assert ("RESEARCH ONLY" in dataset.SeriesDescription) is words
        assert len(dataset.SeriesDescription) <= 64


def test_a_missing_side_stays_empty_and_a_known_one_is_kept() -> None:
    def laterality(**changes: Any) -> str | None:
        source = examples.radiograph(**changes)
        value: str | None = written(examples.radiograph_analysis(source))[0].get("Laterality")
        return value

    assert laterality() is None
    assert laterality(BodyPartExamined=None) == ""
    assert laterality(BodyPartExamined="HAND", ImageLaterality="R") == "R"
    assert laterality(BodyPartExamined="KNEE", Laterality="L") == "L"
