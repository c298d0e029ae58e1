"""Which state may follow which."""

import itertools

import pytest

from dicom_node.core.entities import (
    CommitmentState,
    DecisionState,
    DeletionState,
    DeliveryState,
    DestinationState,
    JobState,
    ObjectState,
    ResultState,
    ReviewState,
    StudyState,
)
from dicom_node.core.errors import IllegalTransition
from dicom_node.core.lifecycle import (
    ARRIVED,
    FINISHED_JOB,
    OPEN,
    SENDABLE,
    TRANSITIONS,
    check_commitment,
    check_delivery,
    check_job,
    check_study,
    study_state_after,
)

STATES = {
    "study": StudyState,
    "job": JobState,
    "delivery": DeliveryState,
    "commitment": CommitmentState,
    "result": ResultState,
    "object": ObjectState,
    "destination": DestinationState,
    "review": ReviewState,
    "decision": DecisionState,
    "deletion": DeletionState,
}


@pytest.mark.parametrize("what", STATES)
def test_every_state_has_its_followers_listed_and_is_reached(what):
    transitions, states = TRANSITIONS[what], STATES[what]
    assert list(transitions) == list(states)
    first, *later = states
    reached, following = {first}, set(transitions[first])
    while following - reached:
        reached |= following
        following = set().union(*(transitions[state] for state in reached))
    assert reached == {first, *later}


def test_there_is_no_table_that_nobody_knows():
    assert set(TRANSITIONS) == set(STATES)


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
    assert old in FINISHED_JOB
    check_job(old, JobState.QUEUED)
    for new in set(JobState) - {JobState.QUEUED}:
        with pytest.raises(IllegalTransition):
            check_job(old, new)


def test_a_job_taken_over_or_tried_again_stays_alive():
    check_job(JobState.RUNNING, JobState.RUNNING)
    check_job(JobState.RUNNING, JobState.QUEUED)


@pytest.mark.parametrize("old", [JobState.QUEUED, JobState.RUNNING])
def test_a_job_that_a_late_image_overtook_is_superseded_whether_it_waits_or_was_abandoned(old):
    check_job(old, JobState.SUPERSEDED)


def test_a_superseded_job_is_final():
    with pytest.raises(IllegalTransition, match="it is final"):
        check_job(JobState.SUPERSEDED, JobState.QUEUED)


def test_a_committed_object_is_sent_again_by_nobodys_word_but_when_it_is_gone():
    check_delivery(DeliveryState.SENT, DeliveryState.COMMITTED)
    check_delivery(DeliveryState.COMMITTED, DeliveryState.PENDING)
    assert DeliveryState.COMMITTED not in SENDABLE
    with pytest.raises(IllegalTransition):
        check_delivery(DeliveryState.COMMITTED, DeliveryState.SENT)


def test_the_operator_may_retry_what_is_parked_or_sent():
    check_delivery(DeliveryState.PARKED, DeliveryState.PENDING)
    check_delivery(DeliveryState.SENT, DeliveryState.PENDING)
    with pytest.raises(IllegalTransition):
        check_delivery(DeliveryState.PARKED, DeliveryState.SENT)


def test_only_what_has_not_arrived_is_discarded_and_then_it_stays_so():
    for old in DeliveryState:
        if old in OPEN:
            check_delivery(old, DeliveryState.DISCARDED)
        else:
            with pytest.raises(IllegalTransition):
                check_delivery(old, DeliveryState.DISCARDED)
    with pytest.raises(IllegalTransition, match="it is final"):
        check_delivery(DeliveryState.DISCARDED, DeliveryState.PENDING)


def test_every_delivery_has_arrived_or_is_open_or_was_discarded():
    assert sorted([*ARRIVED, *OPEN, DeliveryState.DISCARDED]) == sorted(DeliveryState)


@pytest.mark.parametrize("old", [CommitmentState.REPORTED, CommitmentState.GIVEN_UP])
def test_a_request_for_commitment_that_has_ended_is_only_opened_by_asking_again(old):
    check_commitment(old, CommitmentState.PENDING)
    for new in (CommitmentState.REPORTED, CommitmentState.GIVEN_UP):
        with pytest.raises(IllegalTransition):
            check_commitment(old, new)


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
