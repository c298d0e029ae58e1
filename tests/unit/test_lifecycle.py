"""Which state may follow which."""

import itertools

import pytest

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.errors import IllegalTransition
from dicom_node.core.lifecycle import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    STUDY_TRANSITIONS,
    check_delivery,
    check_job,
    check_study,
    study_state_after,
)


def test_every_state_has_its_followers_listed():
    assert set(STUDY_TRANSITIONS) == set(StudyState)
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryState)


@pytest.mark.parametrize("state", list(StudyState))
def test_a_late_image_reopens_a_study_in_any_state(state):
    check_study(state, StudyState.RECEIVING)


def test_a_study_goes_from_arrival_to_report():
    way = [StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING, StudyState.REPORTED]
    for old, new in itertools.pairwise(way):
        check_study(old, new)


@pytest.mark.parametrize("new", [StudyState.ANALYSING, StudyState.REPORTED, StudyState.FAILED])
def test_a_study_still_arriving_is_not_analysed(new):
    with pytest.raises(IllegalTransition, match=f"RECEIVING cannot become {new}"):
        check_study(StudyState.RECEIVING, new)


@pytest.mark.parametrize("old", [JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED])
def test_a_finished_job_can_only_be_run_again(old):
    check_job(old, JobState.QUEUED)
    for new in set(JobState) - {JobState.QUEUED}:
        with pytest.raises(IllegalTransition):
            check_job(old, new)


def test_a_job_taken_over_or_tried_again_stays_alive():
    check_job(JobState.RUNNING, JobState.RUNNING)
    check_job(JobState.RUNNING, JobState.QUEUED)


def test_a_superseded_job_is_final():
    check_job(JobState.QUEUED, JobState.SUPERSEDED)
    with pytest.raises(IllegalTransition, match="it is final"):
        check_job(JobState.SUPERSEDED, JobState.QUEUED)


def test_a_committed_object_is_never_sent_again():
    check_delivery(DeliveryState.SENT, DeliveryState.COMMITTED)
    with pytest.raises(IllegalTransition):
        check_delivery(DeliveryState.COMMITTED, DeliveryState.PENDING)


def test_the_operator_may_retry_what_is_parked_or_sent():
    check_delivery(DeliveryState.PARKED, DeliveryState.PENDING)
    check_delivery(DeliveryState.SENT, DeliveryState.PENDING)
    with pytest.raises(IllegalTransition):
        check_delivery(DeliveryState.PARKED, DeliveryState.SENT)


@pytest.mark.parametrize(
    ("jobs", "study"),
    [
        ([], StudyState.NOT_ANALYSED),
        ([JobState.SUPERSEDED], StudyState.NOT_ANALYSED),
        ([JobState.DONE, JobState.RUNNING], StudyState.ANALYSING),
        ([JobState.FAILED, JobState.QUEUED], StudyState.ANALYSING),
        ([JobState.DONE, JobState.FAILED], StudyState.REPORTED),
        ([JobState.PARTIAL, JobState.NOT_ANALYSABLE], StudyState.REPORTED),
        ([JobState.NOT_ANALYSABLE, JobState.FAILED], StudyState.NOT_ANALYSED),
        ([JobState.FAILED, JobState.FAILED], StudyState.FAILED),
        ([JobState.FAILED, JobState.SUPERSEDED], StudyState.FAILED),
        ([JobState.DONE, JobState.SUPERSEDED], StudyState.REPORTED),
    ],
)
def test_a_study_stands_where_its_jobs_stand(jobs, study):
    assert study_state_after(jobs) is study
