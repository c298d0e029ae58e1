"""How urgent a job is: what the route says, or else the images."""

from __future__ import annotations

import pytest

from dicom_node.core.entities import Series, Study, StudyState
from dicom_node.core.priority import LAGS, Priority, priority_of, turn_at
from tests.support.results.arrivals import START, STUDY, instance


def study_of(*words: str) -> Study:
    images = tuple(
        instance(str(number), attributes={"modality": "CT"} | ({"requested_procedure_priority": word} if word else {}))
        for number, word in enumerate(words)
    )
    return Study(
        study_instance_uid=STUDY, revision=1, state=StudyState.RECEIVING, first_received_at=START,
        last_received_at=START, series=(Series(series_instance_uid="1.2", instances=images),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("STAT",), Priority.STAT),
        (("stat ",), Priority.STAT),
        (("HIGH",), Priority.HIGH),
        (("MEDIUM",), Priority.ROUTINE),
        (("ROUTINE", "LOW"), Priority.ROUTINE),
        (("LOW",), Priority.LOW),
        (("LOW", "", "STAT"), Priority.STAT),
        (("",), Priority.ROUTINE),
        (("URGENT!!",), Priority.ROUTINE),
    ],
)
def test_the_most_urgent_word_of_the_images_counts(words: tuple[str, ...], expected: Priority) -> None:
    assert priority_of(study_of(*words), "images") is expected


def test_a_route_may_decide_whatever_the_images_say() -> None:
    assert priority_of(study_of("LOW"), "stat") is Priority.STAT
    assert priority_of(study_of("STAT"), "low") is Priority.LOW


def test_more_urgent_is_earlier_and_no_priority_waits_for_ever() -> None:
    turns = [turn_at(priority, START) for priority in Priority]

    assert turns == sorted(turns)
    assert max(LAGS.values()).days <= 1
