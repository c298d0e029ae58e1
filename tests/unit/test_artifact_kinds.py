"""The table of artifact kinds: complete, in the order of sending, and nobody beside it left out."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
from pydicom.uid import UID

from dicom_node.core.entities import ArtifactKind, MediaType
from dicom_node.core.outputs.artifact_kinds import (
    ARTIFACT_KINDS,
    LABEL_MAP,
    OPTIONAL_KINDS,
    RESULT_CLASSES,
    OutputSet,
    SegmentationType,
    SrClass,
    is_off,
    of_review,
)
from dicom_node.core.outputs.capability_match import in_words
from dicom_node.sr_writer.write import OWN_BUILDERS, SHARED_BUILDERS

_CHOICES = {"structured_report": get_args(SrClass), "segmentation": get_args(SegmentationType)}


def test_every_kind_is_in_the_table_in_the_order_of_sending() -> None:
    assert tuple(ARTIFACT_KINDS) == tuple(ArtifactKind)
    assert all(one.kind is kind for kind, one in ARTIFACT_KINDS.items())


def test_every_dicom_kind_has_one_builder_and_no_other_has() -> None:
    built = [*SHARED_BUILDERS, *OWN_BUILDERS]
    assert sorted(built) == sorted(kind for kind, one in ARTIFACT_KINDS.items() if one.media_type == MediaType.DICOM)
    assert ARTIFACT_KINDS[ArtifactKind.FHIR_BUNDLE].media_type == MediaType.FHIR
    assert ARTIFACT_KINDS[ArtifactKind.HL7_MESSAGE].media_type == MediaType.HL7


def test_every_option_of_an_output_set_asks_for_one_kind() -> None:
    assert sorted(one.option for one in OPTIONAL_KINDS) == sorted({one.name for one in fields(OutputSet)} - {"part_of"})


def test_what_a_review_makes_of_a_set_goes_where_the_set_goes() -> None:
    whole = OutputSet(encapsulated_pdf=True, rejection_note=True)
    made = of_review(whole)
    assert made.key == of_review(made).key == whole.key
    wanted = [one.kind for one in OPTIONAL_KINDS if not is_off(one.choice(made))]
    assert wanted == [ArtifactKind.ENCAPSULATED_PDF, ArtifactKind.STRUCTURED_REPORT]


@pytest.mark.parametrize("kind", [one.kind for one in OPTIONAL_KINDS if one.media_type == MediaType.DICOM])
def test_every_choice_of_an_option_has_its_sop_class(kind: ArtifactKind) -> None:
    one = ARTIFACT_KINDS[kind]
    choices = _CHOICES.get(one.option, (True, False))
    assert set(one.sop_classes) == {choice for choice in choices if not is_off(choice)}


def test_the_sop_classes_are_known_to_dicom_and_have_one_name_each() -> None:
    named = [(each.uid, each.name) for one in OPTIONAL_KINDS for each in one.sop_classes.values()]
    assert len(set(named)) == len({uid for uid, _ in named}) == len(RESULT_CLASSES)
    assert all(UID(uid).name != uid for uid in RESULT_CLASSES if uid != LABEL_MAP)  # newer than pydicom's dictionary


def test_a_set_is_told_in_words_in_the_order_of_sending() -> None:
    everything = {one.name: True for one in fields(OutputSet) if one.type == "bool"}
    assert in_words(OutputSet(**everything)) == (
        "SC", "SEG binary", "PM", "GSPS", "KOS", "PDF", "SR comprehensive3d", "rejection notes", "ORU",
    )  # fmt: skip
    assert in_words(OutputSet(structured_report="off", secondary_capture=False, segmentation="off")) == ()
