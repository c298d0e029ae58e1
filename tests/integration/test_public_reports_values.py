"""What others have reported of values in headers, tried from files to results; each test links the report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.analysis.answer import Analysis
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_result
from dicom_node.sr_writer.writing import to_part10
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import request_for, small_chest_ct

Change = Callable[[int, Dataset], None]


def put(dataset: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """Put a value into a data set as the bytes that a sender wrote."""
    tag = Tag(keyword)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def padded_with_zero(index: int, dataset: Dataset) -> None:
    for keyword, vr, value in (
        ("PatientID", "LO", b"P-47"),
        ("PatientName", "PN", b"Doe^Jane"),
        ("AccessionNumber", "SH", b"A-11"),
    ):
        put(dataset, keyword, vr, value + (b"\0\0" if index % 2 else b"  "))


def latin_declared_as_ascii(_: int, dataset: Dataset) -> None:
    put(dataset, "SpecificCharacterSet", "CS", b"ISO 2022 IR 6 ")
    put(dataset, "PatientName", "PN", b"M\xfcller^J\xf6rg")
    put(dataset, "StudyDescription", "LO", b"Thorax f\xfcr Lunge ")


def latin_declared_as_unicode(index: int, dataset: Dataset) -> None:
    latin_declared_as_ascii(index, dataset)
    put(dataset, "SpecificCharacterSet", "CS", b"ISO_IR 192")


def leading_zeros(index: int, dataset: Dataset) -> None:
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID("1.2.826.0.1.007"), UID("1.2.826.0.1.007.01")
    dataset.FrameOfReferenceUID = UID("1.2.826.0.1.007.02")
    dataset.SOPInstanceUID = UID(f"1.2.826.0.1.007.01.{index:03}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def one_uid_for_all(_: int, dataset: Dataset) -> None:
    dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = dataset.StudyInstanceUID


def text_for_a_sequence(_: int, dataset: Dataset) -> None:
    put(dataset, "DeidentificationMethodCodeSequence", "LO", b"Siemens Healthcare Header Anonymizer")
    put(dataset, "RequestAttributesSequence", "LO", b"no sequence ")
    put(dataset, "ProcedureCodeSequence", "LO", b"no sequence ")


def number_listed_twice(_: int, dataset: Dataset) -> None:
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = dataset.PatientID, "TEXT"
    dataset.OtherPatientIDsSequence = [other]


A_TEXT = "a text for a sequence, github.com/fo-dicom/fo-dicom/issues/2183"
REPORTED: dict[str, Change] = {
    "zero behind texts, github.com/dcmjs-org/dcmjs/issues/130": padded_with_zero,
    "Latin-1 declared as ASCII, github.com/dcm4che/dcm4che/issues/272": latin_declared_as_ascii,
    "Latin-1 declared as UTF-8, github.com/dcm4che/dcm4che/issues/272": latin_declared_as_unicode,
    "zeros in UIDs, github.com/fo-dicom/fo-dicom/issues/1160": leading_zeros,
    "one UID for all, github.com/microsoft/dicom-server/pull/3257": one_uid_for_all,
    A_TEXT: text_for_a_sequence,
    "the number among the others, github.com/dcm4che/dcm4chee-arc-light/issues/4587": number_listed_twice,
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what is wrong; the node silences them, too
@pytest.mark.parametrize(
    ("reported", "syntax"),
    # Without VRs in the data set the text is read as the sequence that it should be.
    [*((one, ExplicitVRLittleEndian) for one in REPORTED), (A_TEXT, ImplicitVRLittleEndian)],
)
def test_what_senders_do_wrong_elsewhere_costs_no_result(reported: str, syntax: UID, tmp_path: Path) -> None:
    volume, truth = small_chest_ct()
    for index, dataset in enumerate(volume):
        REPORTED[reported](index, dataset)
        dataset.file_meta.TransferSyntaxUID = syntax

    answer = run_model(request_for(volume, SHIPPED_MODELS / "ct-lung-density", tmp_path))
    assert isinstance(answer, Analysis), answer
    context = examples.context(output_sets=(OutputSet(secondary_capture=False),))
    written = write_result(answer, context)

    assert answer.findings[0].measurements[0].value == pytest.approx(truth.both.volume_ml, rel=0.05)
    assert {ArtifactKind.STRUCTURED_REPORT, ArtifactKind.SEGMENTATION} == {one.kind for one in written.objects}
    for one in written.objects:
        assert one.dataset.StudyInstanceUID == volume[0].StudyInstanceUID
    assert "\\u0000" not in json.dumps(build_bundle(written.answer, context, written.objects, FhirOptions()))


def test_letters_behind_the_declared_ones_are_read_as_they_were_meant(tmp_path: Path) -> None:
    """Latin-1 in a data set that declares ASCII only: github.com/dcm4che/dcm4che/issues/272."""
    volume = small_chest_ct()[0]
    for index, dataset in enumerate(volume):
        latin_declared_as_ascii(index, dataset)

    answer = run_model(request_for(volume, SHIPPED_MODELS / "ct-lung-density", tmp_path))
    written = write_result(answer, examples.context(output_sets=(OutputSet(secondary_capture=False),)))

    names = {str(pydicom.dcmread(io.BytesIO(to_part10(one.dataset))).PatientName) for one in written.objects}
    assert names == {"M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller^J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg"}
