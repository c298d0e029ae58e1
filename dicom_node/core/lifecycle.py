"""Which state may follow which, for everything that has states. Pure; `index.transitions` asks here before it writes.

Staying in a state is listed only where it means something: a job taken over after its lease ran out (RUNNING), a
delivery put off to a later time (PENDING). A finished job or a sent object must not be finished or sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from enum import StrEnum
from typing import Any

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

#: A study or a job in one of these is worked on no more, unless it is analysed again.
FINISHED_STUDY = frozenset({StudyState.REPORTED, StudyState.NOT_ANALYSED, StudyState.FAILED})
FINISHED_JOB = frozenset({JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED})
#: The destination has the object.
ARRIVED = frozenset({DeliveryState.SENT, DeliveryState.COMMITTED})
#: The destination is still owed the object.
OPEN = frozenset({DeliveryState.PENDING, DeliveryState.PARKED})
#: Destinations must not show the result any more.
TAKEN_BACK = frozenset({ResultState.WITHDRAWN, ResultState.REJECTED})

#: RECEIVING follows everything: a late image opens the next revision. ANALYSING follows a finished study on rerun.
STUDY_TRANSITIONS: Mapping[StudyState, Set[StudyState]] = {
    StudyState.RECEIVING: {StudyState.RECEIVING, StudyState.COMPLETE},
    StudyState.COMPLETE: {StudyState.RECEIVING, StudyState.ANALYSING, StudyState.NOT_ANALYSED},
    StudyState.ANALYSING: {StudyState.RECEIVING, StudyState.ANALYSING} | FINISHED_STUDY,
    StudyState.REPORTED: {StudyState.RECEIVING, StudyState.ANALYSING},
    StudyState.NOT_ANALYSED: {StudyState.RECEIVING, StudyState.ANALYSING},
    StudyState.FAILED: {StudyState.RECEIVING, StudyState.ANALYSING},
}

#: QUEUED follows RUNNING when an attempt failed and others are left, and every finished state on rerun. SUPERSEDED
#: follows RUNNING when the worker is gone (its lease ran out) and a late image came: a second attempt would analyse
#: half of the next revision as if it were all. A worker that lives ends its job, and its answer counts.
JOB_TRANSITIONS: Mapping[JobState, Set[JobState]] = {
    JobState.QUEUED: {JobState.RUNNING, JobState.SUPERSEDED},
    JobState.RUNNING: {JobState.RUNNING, JobState.QUEUED, JobState.SUPERSEDED} | FINISHED_JOB,
    JobState.DONE: {JobState.QUEUED},
    JobState.PARTIAL: {JobState.QUEUED},
    JobState.NOT_ANALYSABLE: {JobState.QUEUED},
    JobState.FAILED: {JobState.QUEUED},
    JobState.SUPERSEDED: set(),
}

#: PENDING follows PARKED and SENT by the operator's retry, and SENT when the receiver says that it has no such object;
#: PARKED, when it has said so again and again. COMMITTED is proved to have arrived: nobody sends it again by a word.
#: What is found to be gone there later is sent once more, or parked. DISCARDED is a named person's word.
DELIVERY_TRANSITIONS: Mapping[DeliveryState, Set[DeliveryState]] = {
    DeliveryState.PENDING: {
        DeliveryState.PENDING,
        DeliveryState.SENT,
        DeliveryState.PARKED,
        DeliveryState.DISCARDED,
    },
    DeliveryState.SENT: {DeliveryState.COMMITTED, DeliveryState.PENDING, DeliveryState.PARKED},
    DeliveryState.COMMITTED: {DeliveryState.PENDING, DeliveryState.PARKED},
    DeliveryState.PARKED: {DeliveryState.PENDING, DeliveryState.DISCARDED},
    DeliveryState.DISCARDED: set(),
}

#: What an operator, or a result made again, may have sent anew: whatever is not proved, and not given up.
SENDABLE = frozenset({DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.PARKED})

#: PENDING follows what has ended when the peer asks for the same transaction again.
COMMITMENT_TRANSITIONS: Mapping[CommitmentState, Set[CommitmentState]] = {
    CommitmentState.PENDING: {CommitmentState.PENDING, CommitmentState.REPORTED, CommitmentState.GIVEN_UP},
    CommitmentState.REPORTED: {CommitmentState.PENDING},
    CommitmentState.GIVEN_UP: {CommitmentState.PENDING},
}

#: What no longer holds is never made to hold again: a better answer is a new result. WITHDRAWN follows SUPERSEDED,
#: since destinations still show what was replaced; and so does REJECTED, with the result that replaced it.
RESULT_TRANSITIONS: Mapping[ResultState, Set[ResultState]] = {
    ResultState.CURRENT: {ResultState.SUPERSEDED, ResultState.WITHDRAWN, ResultState.REJECTED},
    ResultState.SUPERSEDED: {ResultState.WITHDRAWN, ResultState.REJECTED},
    ResultState.WITHDRAWN: set(),
    ResultState.REJECTED: set(),
}

OBJECT_TRANSITIONS: Mapping[ObjectState, Set[ObjectState]] = {
    ObjectState.STORED: {ObjectState.PURGED},
    ObjectState.PURGED: set(),
}

#: A deletion is noted before the first file goes; what has ended is the study's past.
DELETION_TRANSITIONS: Mapping[DeletionState, Set[DeletionState]] = {
    DeletionState.MARKED: {DeletionState.DELETED, DeletionState.STOPPED},
    DeletionState.DELETED: set(),
    DeletionState.STOPPED: set(),
}

DESTINATION_TRANSITIONS: Mapping[DestinationState, Set[DestinationState]] = {
    DestinationState.ACTIVE: {DestinationState.SUSPENDED},
    DestinationState.SUSPENDED: {DestinationState.ACTIVE},
}

#: A result is unreviewed again when what was decided on it is told by no report.
REVIEW_TRANSITIONS: Mapping[ReviewState, Set[ReviewState]] = {
    ReviewState.UNREVIEWED: {ReviewState.ACCEPTED, ReviewState.MODIFIED, ReviewState.REJECTED},
    ReviewState.ACCEPTED: {ReviewState.UNREVIEWED},
    ReviewState.MODIFIED: {ReviewState.UNREVIEWED},
    ReviewState.REJECTED: set(),
}

#: A decision that no second reader is asked for begins as DECIDED; a rejection is done when it is decided.
DECISION_TRANSITIONS: Mapping[DecisionState, Set[DecisionState]] = {
    DecisionState.AWAITS_SECOND: {DecisionState.DECIDED, DecisionState.FALLEN},
    DecisionState.DECIDED: {DecisionState.DONE, DecisionState.FALLEN, DecisionState.FAILED},
    DecisionState.DONE: set(),
    DecisionState.FALLEN: set(),
    DecisionState.FAILED: set(),
}

#: A decision in one of these is told by no report: the result can be decided on anew.
UNTOLD_DECISION = frozenset({DecisionState.FALLEN, DecisionState.FAILED})

#: All of them, by what has the states.
TRANSITIONS: Mapping[str, Mapping[Any, Set[Any]]] = {
    "study": STUDY_TRANSITIONS,
    "job": JOB_TRANSITIONS,
    "result": RESULT_TRANSITIONS,
    "review": REVIEW_TRANSITIONS,
    "decision": DECISION_TRANSITIONS,
    "object": OBJECT_TRANSITIONS,
    "deletion": DELETION_TRANSITIONS,
    "destination": DESTINATION_TRANSITIONS,
    "delivery": DELIVERY_TRANSITIONS,
    "commitment": COMMITMENT_TRANSITIONS,
}


def check_study(old: StudyState, new: StudyState) -> None:
    """Raise `IllegalTransition` unless a study in state `old` may become `new`."""
    _check("study", old, new)


def check_job(old: JobState, new: JobState) -> None:
    """Raise `IllegalTransition` unless a job in state `old` may become `new`."""
    _check("job", old, new)


def check_delivery(old: DeliveryState, new: DeliveryState) -> None:
    """Raise `IllegalTransition` unless a delivery in state `old` may become `new`."""
    _check("delivery", old, new)


def check_result(old: ResultState, new: ResultState) -> None:
    """Raise `IllegalTransition` unless a result that stands as `old` may stand as `new`."""
    _check("result", old, new)


def check_review(old: ReviewState, new: ReviewState) -> None:
    """Raise `IllegalTransition` unless what a person has said of a result may become `new`."""
    _check("review", old, new)


def check_decision(old: DecisionState, new: DecisionState) -> None:
    """Raise `IllegalTransition` unless a decision in state `old` may become `new`."""
    _check("decision", old, new)


def check_commitment(old: CommitmentState, new: CommitmentState) -> None:
    """Raise `IllegalTransition` unless a request for storage commitment in state `old` may become `new`."""
    _check("commitment", old, new)


def check_object(old: ObjectState, new: ObjectState) -> None:
    """Raise `IllegalTransition` unless a made object in state `old` may become `new`."""
    _check("object", old, new)


def check_deletion(old: DeletionState, new: DeletionState) -> None:
    """Raise `IllegalTransition` unless the deletion of a part of a study in state `old` may become `new`."""
    _check("deletion", old, new)


def check_destination(old: DestinationState, new: DestinationState) -> None:
    """Raise `IllegalTransition` unless a destination in state `old` may become `new`."""
    _check("destination", old, new)


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


def _check(what: str, old: StrEnum, new: StrEnum) -> None:
    allowed = TRANSITIONS[what][old]
    if new not in allowed:
        listed = ", ".join(sorted(allowed)) or "nothing; it is final"
        raise IllegalTransition(f"A {what} in state {old} cannot become {new}. After {old} may come: {listed}.")
