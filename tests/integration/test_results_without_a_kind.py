"""A kind of object that cannot be made: the report and all else come all the same, and everybody is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.written import WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer import secondary_capture, to_part10, write_objects, write_result
from dicom_node.sr_writer.documents import encapsulated_pdf as pdf
from dicom_node.sr_writer.documents import key_objects
from dicom_node.sr_writer.overlays import parametric_map, presentation_state, segmentation
from dicom_node.sr_writer.report import document
from tests.support.results import analysis_examples as examples
from tests.support.results.result_answers import declined, every_output_set, marked

#: Where each kind is made by a library, and what of it is broken here.
LIBRARIES: dict[ArtifactKind, tuple[ModuleType, str]] = {
    ArtifactKind.SECONDARY_CAPTURE: (secondary_capture, "Image"),
    ArtifactKind.SEGMENTATION: (segmentation, "Segmentation"),
    ArtifactKind.PARAMETRIC_MAP: (parametric_map, "ParametricMap"),
    ArtifactKind.PRESENTATION_STATE: (presentation_state, "GrayscaleSoftcopyPresentationState"),
    ArtifactKind.KEY_OBJECTS: (key_objects, "Dataset"),
    ArtifactKind.ENCAPSULATED_PDF: (pdf, "typst"),
}
SECRET = "Mueller^Joerg"
SLICES = examples.ct_volume(slices=3, size=32)
EVERYTHING = examples.context(output_sets=every_output_set()[:1])


@pytest.fixture(scope="module")
def whole() -> WrittenResult:
    """What is written when nothing goes wrong."""
    written = write_result(marked(SLICES), EVERYTHING)
    assert not written.not_made
    assert written.answer.notes == ()
    return written


class Broken:
    """A library that fails on whatever it is asked; its message quotes the patient."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __call__(self, *_: object, **__: object) -> object:
        raise self._error(SECRET)

    def __getattr__(self, _: str) -> object:
        raise self._error(SECRET)


def kinds(written: WrittenResult) -> set[ArtifactKind]:
    return {one.kind for one in written.objects}


def references(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def reports(written: WrittenResult) -> list[Dataset]:
    return [one.dataset for one in written.objects if one.kind is ArtifactKind.STRUCTURED_REPORT]


def texts(report: Dataset) -> str:
    return " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue")


@pytest.mark.parametrize("kind", LIBRARIES)
def test_the_report_and_all_else_come_without_a_kind_that_cannot_be_made(
    kind: ArtifactKind, whole: WrittenResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*LIBRARIES[kind], Broken(ValueError))
    written = write_result(marked(SLICES), EVERYTHING)

    assert kinds(written) == kinds(whole) - {kind}
    assert {one.kind for one in written.not_made} == {kind}
    missing = {str(one.dataset.SOPInstanceUID) for one in whole.objects if one.kind is kind}
    for report in reports(written):
        assert not missing & set(references(report))
        assert f"({kind})" in texts(report)
    assert any(f"({kind})" in note for note in written.answer.notes)
    for one in written.objects:
        to_part10(one.dataset)


@pytest.mark.parametrize("error", [TypeError, RuntimeError, KeyError, ZeroDivisionError, AttributeError])
def test_whatever_a_library_raises_costs_its_kind_only(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "Segmentation", Broken(error))
    written = write_result(marked(SLICES), examples.context(output_sets=(OutputSet(secondary_capture=False),)))
    assert kinds(written) == {ArtifactKind.STRUCTURED_REPORT}
    assert error.__name__ in texts(reports(written)[0])


def test_what_went_wrong_is_told_without_the_message_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "Segmentation", Broken(ValueError))
    written = write_result(examples.ct_analysis(), examples.context())

    (lost,) = written.not_made
    assert (lost.kind, lost.name, lost.error, lost.made) == (ArtifactKind.SEGMENTATION, "segmentation", "ValueError", 0)
    assert lost.where.startswith(Path(__file__).name + ":")
    assert SECRET not in repr(written.not_made) + " ".join(written.answer.notes)
    (report,) = reports(written)
    volumes = [float(e.value) for e in report.iterall() if e.keyword == "NumericValue"]
    assert {2411.0, 2103.5} <= set(volumes)


def test_equal_inputs_give_equal_bytes_without_a_kind_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "Segmentation", Broken(ValueError))
    once, again = (
        [to_part10(one.dataset) for one in write_result(examples.ct_analysis(), examples.context()).objects]
        for _ in range(2)
    )
    assert once == again


@pytest.mark.parametrize("interpretation", ["MYSTERY", "", None, "YBR_FULL"])
def test_a_source_of_unknown_colours_costs_what_shows_its_pixels_and_not_the_report(interpretation: str | None) -> None:
    image = examples.radiograph(PhotometricInterpretation=interpretation)
    wanted = OutputSet(presentation_state=True, encapsulated_pdf=True)
    written = write_result(examples.radiograph_analysis(image), examples.context(output_sets=(wanted,)))

    assert kinds(written) == {
        ArtifactKind.SECONDARY_CAPTURE,  # the summary, which shows no pixels
        ArtifactKind.ENCAPSULATED_PDF,
        ArtifactKind.STRUCTURED_REPORT,
    }
    (lost,) = written.not_made
    assert (lost.kind, lost.made) == (ArtifactKind.SECONDARY_CAPTURE, 1)


def test_an_error_in_the_report_itself_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MeasurementReport", Broken(ValueError))
    with pytest.raises(ValueError, match="Mueller"):
        write_result(examples.radiograph_analysis(), examples.context())


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_want_of_memory_or_disk_fails_the_attempt_since_the_next_may_have_it(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "Segmentation", Broken(error))
    with pytest.raises(error):
        write_result(examples.ct_analysis(), examples.context())


def test_images_of_two_patients_are_still_refused_whole() -> None:
    first, second = examples.radiograph(), examples.radiograph(PatientID="PID-0002")
    with pytest.raises(NotAnalysable, match="disagree in PatientID"):
        write_result(examples.radiograph_analysis(sources=(first, second)), examples.context())


def test_a_notice_of_refusal_comes_without_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondary_capture, "Image", Broken(ValueError))
    written = write_result(declined(examples.ct_volume()), examples.context())
    assert kinds(written) == {ArtifactKind.STRUCTURED_REPORT}
    assert "(SC)" in texts(reports(written)[0])


def test_a_check_of_the_builders_hears_the_error_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "Segmentation", Broken(ValueError))
    with pytest.raises(ValueError, match="Mueller"):
        write_objects(examples.ct_analysis(), examples.context())


def test_a_segmentation_that_the_images_have_no_frame_of_reference_for_is_told() -> None:
    slices = examples.ct_volume(slices=3, size=32)
    for one in slices:
        del one.FrameOfReferenceUID
    written = write_result(marked(slices), EVERYTHING)

    lost = {one.kind: one.lacks for one in written.not_made}
    assert lost == {
        ArtifactKind.SEGMENTATION: "FrameOfReferenceUID",
        ArtifactKind.PARAMETRIC_MAP: "FrameOfReferenceUID",
    }
    assert any("(SEG), none made because the images lack FrameOfReferenceUID." in one for one in written.answer.notes)
    assert all("lack FrameOfReferenceUID" in texts(report) for report in reports(written))
