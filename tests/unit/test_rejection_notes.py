"""What a Key Object Selection document rejects, read from its header."""

from __future__ import annotations

import io

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.core.entities import InstanceRole
from dicom_node.core.errors import RefusedObject
from dicom_node.core.received.rejections import TITLES, RejectionNote, rejection_in
from dicom_node.headers.header import read_header, read_header_of_file
from tests.support.studies.data_factories import encoded
from tests.support.studies.rejection_notes import QUALITY, rejection_note

STUDY, OTHER_STUDY = "1.2.3", "1.2.4"


def image(name: str, study: str = STUDY) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{study}.1.{name}"
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Doe^Jane", "4711", ""
    made.StudyDate, made.StudyTime, made.AccessionNumber = "20260105", "080000", ""
    return made


IMAGES = [image("1"), image("2")]
NAMED = frozenset(str(one.SOPInstanceUID) for one in IMAGES)


def read(note: Dataset, syntax: str = ExplicitVRLittleEndian) -> RejectionNote | None:
    found = read_header(encoded(note, syntax), str(syntax))
    assert found.role is InstanceRole.EVIDENCE
    return rejection_in(found.attributes)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("title", TITLES)
def test_the_four_titles_of_change_management_reject(title: str, syntax: str) -> None:
    assert read(rejection_note(IMAGES, title=title), syntax) == RejectionNote(title, NAMED)


@pytest.mark.parametrize("title", ["113000", "113010", "113030", "113040", ""])
def test_other_titles_reject_nothing(title: str) -> None:
    assert read(rejection_note(IMAGES, title=title)) is None


def test_the_number_of_another_scheme_is_another_title() -> None:
    note = rejection_note(IMAGES)
    note.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99ACME"
    assert read(note) is None


def test_what_belongs_to_other_studies_is_counted_and_not_named() -> None:
    note = rejection_note([*IMAGES, image("1", OTHER_STUDY)])
    assert read(note) == RejectionNote(QUALITY, NAMED, elsewhere=1)


def test_the_content_says_what_is_selected_of_the_evidence() -> None:
    note = rejection_note(IMAGES)
    del note.ContentSequence[1]
    assert read(note) == RejectionNote(QUALITY, frozenset({str(IMAGES[0].SOPInstanceUID)}))


@pytest.mark.parametrize("lacking", ["ContentSequence", "CurrentRequestedProcedureEvidenceSequence"])
def test_either_of_content_and_evidence_is_enough(lacking: str) -> None:
    note = rejection_note(IMAGES)
    delattr(note, lacking)
    assert read(note) == RejectionNote(QUALITY, NAMED)


def test_a_note_is_read_from_a_file_in_the_midst_of_which_its_data_set_begins() -> None:
    file = io.BytesIO(b"head" + encoded(rejection_note(IMAGES)))
    file.seek(4)
    assert rejection_in(read_header_of_file(file, str(ExplicitVRLittleEndian)).attributes) == RejectionNote(
        QUALITY, NAMED
    )


def test_a_note_whose_selection_cannot_be_read_is_refused_with_that_reason() -> None:
    note = rejection_note(IMAGES)
    del note.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    with pytest.raises(RefusedObject, match="the objects that it selects cannot be read"):
        read(note)
