"""The only place that writes a state: of studies, jobs, results, reviews, deliveries, destinations and requests for
storage commitment, of made objects and of deletions; and of the timeline, which tells each change and by whom.

Each change reads the present state and holds its row (on SQLite the whole database is held), asks `lifecycle`, writes
the state with the columns that go with it, and leaves a line in the study's timeline that names who did it, all in the
caller's transaction. What others are told of (`core.event_types`) is owed to them in it, too: exactly once, whatever is
killed. `which` chooses one row and may name the lease or fence that the caller must still have: where
another has it by now, nothing is written and the answer is `False`. A unit test fails on any other module that writes
a state.
"""

from __future__ import annotations

from dicom_node.index.transitions.commitments import keep_commitment, move_commitment
from dicom_node.index.transitions.deletions import end_deletion, mark_deletion, move_objects
from dicom_node.index.transitions.deliveries import (
    cancel_deliveries,
    insert_delivery,
    make_deliveries_due,
    move_delivery,
)
from dicom_node.index.transitions.destinations import move_destination, tell_of_route
from dicom_node.index.transitions.jobs import insert_job, move_job, supersede_job, supersede_waiting_jobs
from dicom_node.index.transitions.notifications import make_notifications_due, move_notification
from dicom_node.index.transitions.results import insert_result, insert_review, move_result, move_review
from dicom_node.index.transitions.steps import NO_LEASE, Change, record
from dicom_node.index.transitions.studies import insert_studies, move_study

__all__ = [
    "NO_LEASE",
    "Change",
    "cancel_deliveries",
    "end_deletion",
    "insert_delivery",
    "insert_job",
    "insert_result",
    "insert_review",
    "insert_studies",
    "keep_commitment",
    "make_deliveries_due",
    "make_notifications_due",
    "mark_deletion",
    "move_commitment",
    "move_delivery",
    "move_destination",
    "move_job",
    "move_notification",
    "move_objects",
    "move_result",
    "move_review",
    "move_study",
    "record",
    "supersede_job",
    "supersede_waiting_jobs",
    "tell_of_route",
]
