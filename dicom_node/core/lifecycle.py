"""Which state may follow which, for studies, jobs and deliveries. Pure; every state change of the node asks here.

Staying in a state is listed only where it means something: a job taken over after its lease ran out (RUNNING), a
delivery put off to a later time (PENDING). A finished job or a sent object must not be finished or sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from enum import StrEnum

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.errors import IllegalTransition

_FINISHED_STUDY = frozenset({StudyState.REPORTED, StudyState.NOT_ANALYSED, StudyState.FAILED})

#: RECEIVING follows everything: a late image opens the next revision. ANALYSING follows a finished study on rerun.
STUDY_TRANSITIONS: Mapping[StudyState, Set[StudyState]] = {
    StudyState.RECEIVING: {StudyState.RECEIVING, StudyState.COMPLETE},
    StudyState.COMPLETE: {StudyState.RECEIVING, StudyState.ANALYSING, StudyState.NOT_ANALYSED},
    StudyState.ANALYSING: {StudyState.RECEIVING, StudyState.ANALYSING} | _FINISHED_STUDY,
    StudyState.REPORTED: {StudyState.RECEIVING, StudyState.ANALYSING},
    StudyState.NOT_ANALYSED: {StudyState.RECEIVING, StudyState.ANALYSING},
    StudyState.FAILED: {StudyState.RECEIVING, StudyState.ANALYSING},
}

#: QUEUED follows RUNNING when an attempt failed and others are left, and every finished state on rerun.
JOB_TRANSITIONS: Mapping[JobState, Set[JobState]] = {
    JobState.QUEUED: {JobState.RUNNING, JobState.SUPERSEDED},
    JobState.RUNNING: {
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.DONE,
        JobState.PARTIAL,
        JobState.NOT_ANALYSABLE,
        JobState.FAILED,
    },
    JobState.DONE: {JobState.QUEUED},
    JobState.PARTIAL: {JobState.QUEUED},
    JobState.NOT_ANALYSABLE: {JobState.QUEUED},
    JobState.FAILED: {JobState.QUEUED},
    JobState.SUPERSEDED: set(),
}

#: PENDING follows PARKED and SENT by the operator's retry, and SENT when the receiver could not commit the object.
DELIVERY_TRANSITIONS: Mapping[DeliveryState, Set[DeliveryState]] = {
    DeliveryState.PENDING: {DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.PARKED},
    DeliveryState.SENT: {DeliveryState.COMMITTED, DeliveryState.PENDING},
    DeliveryState.COMMITTED: set(),
    DeliveryState.PARKED: {DeliveryState.PENDING},
}


def check_study(old: StudyState, new: StudyState) -> None:
    """Raise `IllegalTransition` unless a study in state `old` may become `new`."""
    _check("study", old, new, STUDY_TRANSITIONS[old])


def check_job(old: JobState, new: JobState) -> None:
    """Raise `IllegalTransition` unless a job in state `old` may become `new`."""
    _check("job", old, new, JOB_TRANSITIONS[old])


def check_delivery(old: DeliveryState, new: DeliveryState) -> None:
    """Raise `IllegalTransition` unless a delivery in state `old` may become `new`."""
    _check("delivery", old, new, DELIVERY_TRANSITIONS[old])


def study_state_after(job_states: Collection[JobState]) -> StudyState:
    """Return the state of a study from those of its jobs; superseded jobs do not count.

    One reported job makes the study REPORTED even if another failed: the failure stays visible on its own job. No
    job at all means that no route wanted the study: NOT_ANALYSED.
    """
    counting = {state for state in job_states if state is not JobState.SUPERSEDED}
    if counting & {JobState.QUEUED, JobState.RUNNING}:
        return StudyState.ANALYSING
    if counting & {JobState.DONE, JobState.PARTIAL}:
        return StudyState.REPORTED
    if counting == {JobState.FAILED}:
        return StudyState.FAILED
    return StudyState.NOT_ANALYSED


def _check(what: str, old: StrEnum, new: StrEnum, allowed: Set[StrEnum]) -> None:
    if new not in allowed:
        listed = ", ".join(sorted(allowed)) or "nothing; it is final"
        raise IllegalTransition(f"A {what} in state {old} cannot become {new}. After {old} may come: {listed}.")
