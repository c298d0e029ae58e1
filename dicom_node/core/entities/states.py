"""Where things stand: the states of all that has any. Which may follow which is in `lifecycle`."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    """Where one revision of a study stands; which may follow which is in `lifecycle`."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    ANALYSING = "ANALYSING"
    REPORTED = "REPORTED"
    NOT_ANALYSED = "NOT_ANALYSED"
    FAILED = "FAILED"


class JobState(StrEnum):
    """Where one analysis (study revision x route) stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    PARTIAL = "PARTIAL"
    NOT_ANALYSABLE = "NOT_ANALYSABLE"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class JobStage(StrEnum):
    """How far one analysis has come on its way from the queue to its destinations, in this order.

    What no model answers for (a study that is declined, a review) goes without loading and running.
    """

    QUEUED = "queued"
    #: Images, model and whoever gets the result are put together; then it waits until a worker process is free.
    PLANNING = "planning"
    #: The worker process starts, or brings the model into memory; one that has it there already passes this by.
    LOADING = "loading"
    #: The model answers.
    RUNNING = "running"
    #: Objects, FHIR resources and messages are made of the answer.
    BUILDING = "building"
    #: What was made is kept and entered.
    SAVING = "saving"
    #: Destinations are still owed something of the result.
    DELIVERING = "delivering"
    FINISHED = "finished"


class DeliveryState(StrEnum):
    """Where one object stands on its way to one destination."""

    PENDING = "PENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    PARKED = "PARKED"
    DISCARDED = "DISCARDED"


class Proof(StrEnum):
    """How a destination was proved to have an object."""

    COMMITMENT = "COMMITMENT"
    QUERY = "QUERY"


class ResultState(StrEnum):
    """Whether a result holds: replaced by a later one, withdrawn by a person or a correction, rejected in review."""

    CURRENT = "CURRENT"
    SUPERSEDED = "SUPERSEDED"
    WITHDRAWN = "WITHDRAWN"
    REJECTED = "REJECTED"


class ObjectState(StrEnum):
    """Whether the bytes of an object are kept; of a purged one a tombstone stays."""

    STORED = "STORED"
    PURGED = "PURGED"


class KeptKind(StrEnum):
    """What is kept of a study, in the order in which it may go: the images that came, then what was made of them."""

    IMAGES = "IMAGES"
    RESULTS = "RESULTS"


class DeletionState(StrEnum):
    """Where the deletion of a study's images or results stands: noted and under way, done, or stopped because the
    study came to life again."""

    MARKED = "MARKED"
    DELETED = "DELETED"
    STOPPED = "STOPPED"


class DestinationState(StrEnum):
    """Whether anything is sent to a destination: suspended by a person, or because it refused the credentials."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class ReviewState(StrEnum):
    """What a named person has said of a result."""

    UNREVIEWED = "UNREVIEWED"
    ACCEPTED = "ACCEPTED"
    MODIFIED = "MODIFIED"
    REJECTED = "REJECTED"


class DecisionState(StrEnum):
    """Where a person's decision on a result stands: it waits for a second reader, what follows is being made, it is
    done, it fell (the second reader objected, or the result was replaced before the reviewed one was made), or it
    failed: the reviewed result could not be made, and nobody tries any more."""

    AWAITS_SECOND = "AWAITS_SECOND"
    DECIDED = "DECIDED"
    DONE = "DONE"
    FALLEN = "FALLEN"
    FAILED = "FAILED"


class CommitmentState(StrEnum):
    """Where a request for storage commitment stands: to be reported, reported, or given up."""

    PENDING = "PENDING"
    REPORTED = "REPORTED"
    GIVEN_UP = "GIVEN_UP"


class InstanceRole(StrEnum):
    """What a received object is to the node: only `SOURCE` objects trigger analysis or count for completeness.

    A `REJECTED` one would be a source, but a rejection note in use names it (see `rejections`).
    """

    SOURCE = "SOURCE"
    REJECTED = "REJECTED"
    EVIDENCE = "EVIDENCE"
    OWN_RESULT = "OWN_RESULT"
