"""What people decide on results, and who is reviewing one: rows, and the claims of whoever makes the reviewed result.

Whoever changes anything here holds the row of the result first: two who decide at once come one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update

from dicom_node.analysis.stored_findings import reviewed_from
from dicom_node.core.assessment.review import Review, Reviewer, ReviewReason
from dicom_node.core.entities import DecisionState, JobState, MediaType, ReviewState
from dicom_node.core.errors import NotFound
from dicom_node.core.lifecycle import FINISHED_JOB, UNTOLD_DECISION
from dicom_node.index.database import insert_of, is_among
from dicom_node.index.due import count_leases_anew, is_due
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.tables import artifacts, instances, jobs, results, review_locks, reviews, studies
from dicom_node.index.transitions import Change, move_review
from dicom_node.index.versions import IS_SOURCE

#: Kind of the timeline's line about a decision and what came of it.
REVIEWED = "reviewed"
#: A decision that stands: no other is taken beside it.
STANDS = reviews.c.state.not_in(UNTOLD_DECISION)
#: No attempt is put off for longer: a time further ahead is of another clock.
LONGEST_WAIT_S = 600.0


# --- decisions ---------------------------------------------------------------------------------------------------


def held_result(connection: Connection, job_key: str) -> Row[Any]:
    """Return the row of a result and hold it until the transaction ends. Raises `NotFound`."""
    row = connection.execute(select(results).where(results.c.job_key == job_key).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"There is no result {job_key}. The answer on its study lists those there are.")
    return row


def standing_review(connection: Connection, job_key: str) -> Row[Any] | None:
    """Return the decision on a result that has neither fallen nor failed, if there is one."""
    mine = and_(reviews.c.job_key == job_key, STANDS)
    return connection.execute(select(reviews).where(mine)).one_or_none()


def reviews_of(connection: Connection, job_key: str) -> Sequence[Row[Any]]:
    """Return all decisions on a result, and the one that made it, oldest first."""
    mine = or_(reviews.c.job_key == job_key, reviews.c.result_key == job_key)
    return connection.execute(select(reviews).where(mine).order_by(reviews.c.id)).all()


def review_numbered(connection: Connection, number: int) -> Row[Any]:
    """Return one decision. Raises `NotFound`."""
    row = connection.execute(select(reviews).where(reviews.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"There is no review {number}.")
    return row


def source_keys(connection: Connection, job_key: str, wanted: Collection[str]) -> dict[str, str]:
    """Return where the images lie from which a result was made, by SOP Instance UID: those of `wanted` among them."""
    summary = connection.execute(select(results.c.summary).where(results.c.job_key == job_key)).scalar()
    mine = set(wanted) & set((summary or {}).get("source_sop_instance_uids") or ())
    query = select(instances.c.sop_instance_uid, instances.c.object_key)
    rows = connection.execute(query.where(is_among(instances.c.sop_instance_uid, mine), IS_SOURCE))
    return {row.sop_instance_uid: row.object_key for row in rows}


def dicom_objects_of(connection: Connection, job_key: str) -> Sequence[Row[Any]]:
    """Return the DICOM objects of a result, in the order of sending."""
    mine = and_(artifacts.c.job_key == job_key, artifacts.c.media_type == MediaType.DICOM)
    return connection.execute(select(artifacts).where(mine).order_by(artifacts.c.send_order, artifacts.c.uid)).all()


def lacks_images(connection: Connection, study_instance_uid: str) -> bool:
    """Hold the study, and tell whether its images were deleted, or are at this moment."""
    mine = studies.c.study_instance_uid == study_instance_uid
    columns = (studies.c.deleting, studies.c.images_deleted_at)
    row = connection.execute(select(*columns).where(mine).with_for_update()).one()
    return bool(row.deleting) or row.images_deleted_at is not None


def is_latest_answer(connection: Connection, result: Row[Any]) -> bool:
    """Tell whether the study as it is now was answered with this result, and nothing analyses it anew."""
    now = and_(
        jobs.c.study_instance_uid == studies.c.study_instance_uid,
        jobs.c.revision == studies.c.revision,
        studies.c.study_instance_uid == result.study_instance_uid,
    )
    answered = and_(jobs.c.job_key == result.job_key, jobs.c.state.in_(FINISHED_JOB))
    return connection.execute(select(jobs.c.id).join(studies, now).where(answered).limit(1)).first() is not None


def review_of(row: Row[Any]) -> Review:
    """Return a decision as what the builders are told of it."""
    return Review(
        of_job_key=row.job_key,
        state=ReviewState(row.review_state),
        reviewer=reviewer_of(row),
        decided_at=row.decided_at,
        findings=reviewed_from(row.findings),
        reasons=tuple(map(ReviewReason, row.reasons)),
        text=row.text,
        second_reader=_second_reader(row),
        second_decided_at=row.second_decided_at,
    )


def reviewer_of(row: Row[Any]) -> Reviewer:
    """Return who decided first."""
    return Reviewer(
        account=row.reviewer_account, name=row.reviewer_name, organization=row.reviewer_organization,
        identifier=row.reviewer_identifier,
    )  # fmt: skip


def _second_reader(row: Row[Any]) -> Reviewer | None:
    if not row.second_account:
        return None
    return Reviewer(
        account=row.second_account, name=row.second_name, organization=row.second_organization,
        identifier=row.second_identifier,
    )  # fmt: skip


# --- who is reviewing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLock:
    """Who is reviewing a result, and until when nobody else may decide on it."""

    job_key: str
    account: str
    identity: str
    name: str
    until: datetime


def lock_on(connection: Connection, job_key: str, now: datetime) -> ReviewLock | None:
    """Return who is reviewing a result at this moment, if anybody is."""
    query = select(review_locks).where(review_locks.c.job_key == job_key, review_locks.c.until > now)
    row = connection.execute(query).one_or_none()
    return None if row is None else ReviewLock(**row._mapping)


def set_lock(connection: Connection, lock: ReviewLock) -> None:
    """Say who is reviewing a result, in the place of whoever was."""
    values = asdict(lock)
    fresh = insert_of(connection)(review_locks).values(**values)
    connection.execute(fresh.on_conflict_do_update(index_elements=[review_locks.c.job_key], set_=values))


def remove_lock(connection: Connection, job_key: str, identity: str) -> None:
    """Say that somebody is not reviewing a result any more; that of another stays."""
    mine = and_(review_locks.c.job_key == job_key, review_locks.c.identity == identity)
    connection.execute(delete(review_locks).where(mine))


# --- making the reviewed result -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedReview:
    """A decision whose result is ours to make until the lease runs out. `job` answered with the reviewed result."""

    id: int
    fence: int
    attempt: int
    #: Why the attempt before was not the last; empty: it is the first, or nobody could say.
    last_failure: str
    digest: str
    review: Review
    summary: Mapping[str, Any]
    job: ClaimedJob

    @property
    def study_instance_uid(self) -> str:
        """The study it is about."""
        return self.job.study_instance_uid


def claim_review(connection: Connection, owner: str, now: datetime, lease_s: float) -> ClaimedReview | None:
    """Take the decision whose turn it is of those whose result is to be made; `None` when there is none."""
    count_leases_anew(connection, reviews, reviews.c.state == DecisionState.DECIDED, now, lease_s)
    waits = or_(reviews.c.note == "", is_due(reviews.c.not_before, now, LONGEST_WAIT_S))
    is_free = or_(reviews.c.lease_until.is_(None), reviews.c.lease_until < now)
    query = select(reviews).where(reviews.c.state == DecisionState.DECIDED, waits, is_free).order_by(reviews.c.id)
    row = connection.execute(query.limit(1).with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    lease = {"lease_owner": owner, "lease_until": now + timedelta(seconds=lease_s), "fence": row.fence + 1}
    mine = update(reviews).where(reviews.c.id == row.id)
    connection.execute(mine.values(attempts=row.attempts + 1, **lease))
    return replace(_known(connection, row), fence=row.fence + 1, attempt=row.attempts + 1)


def review_told_by(connection: Connection, result_key: str) -> ClaimedReview | None:
    """Return the decision that a reviewed result tells, as it was when that was made; `None` for one of a model."""
    row = connection.execute(select(reviews).where(reviews.c.result_key == result_key)).one_or_none()
    return None if row is None else _known(connection, row)


def _known(connection: Connection, row: Row[Any]) -> ClaimedReview:
    return ClaimedReview(
        id=row.id, fence=row.fence, attempt=row.attempts, last_failure=row.note, digest=row.digest,
        review=review_of(row),
        summary=connection.execute(select(results.c.summary).where(results.c.job_key == row.job_key)).scalar_one(),
        job=_answered_job(connection, row),
    )  # fmt: skip


def _answered_job(connection: Connection, review: Row[Any]) -> ClaimedJob:
    """Return the job that answered with the reviewed result, as it would be now: it begins when all have decided."""
    same = and_(jobs.c.study_instance_uid == review.study_instance_uid, jobs.c.route == review.route)
    row = connection.execute(select(jobs).where(same, jobs.c.revision == review.revision)).one()
    return ClaimedJob(
        id=row.id, study_instance_uid=row.study_instance_uid, revision=row.revision, route=row.route, model=row.model,
        series_instance_uid=row.series_instance_uid, study_partial=row.study_partial, decision=row.decision,
        attempt=row.attempts, fence=row.fence, started_at=review.second_decided_at or review.decided_at,
        earlier_job_key=review.job_key, shadow_of=row.shadow_of,
    )  # fmt: skip


def is_mine(claimed: ClaimedReview) -> ColumnElement[bool]:
    """Return the condition that a claim still holds."""
    return and_(reviews.c.id == claimed.id, reviews.c.fence == claimed.fence, reviews.c.state == DecisionState.DECIDED)


def holds_claim(connection: Connection, claimed: ClaimedReview) -> bool:
    """Tell whether a claim still holds, and hold it until the transaction ends."""
    return connection.execute(select(reviews.c.id).where(is_mine(claimed)).with_for_update()).first() is not None


def renew_review(connection: Connection, claimed: ClaimedReview, now: datetime, lease_s: float) -> None:
    """Keep a claim for another while; one that somebody else has by now stays theirs."""
    until = now + timedelta(seconds=lease_s)
    connection.execute(update(reviews).where(is_mine(claimed)).values(lease_until=until))


def put_off_review(connection: Connection, claimed: ClaimedReview, note: str, until: datetime) -> None:
    """Give a claim back whose result could not be made, and say why; it is tried again from then."""
    _give_back(connection, claimed, note, until, claimed.attempt)


def give_review_back(connection: Connection, claimed: ClaimedReview, note: str, until: datetime) -> None:
    """Give a claim back without an attempt lost: what keeps it from being made lies not in it."""
    _give_back(connection, claimed, note, until, claimed.attempt - 1)


def _give_back(connection: Connection, claimed: ClaimedReview, note: str, until: datetime, attempts: int) -> None:
    again = {"lease_owner": "", "lease_until": None, "not_before": until, "note": note, "attempts": attempts}
    connection.execute(update(reviews).where(is_mine(claimed)).values(**again))


def let_review_fall(connection: Connection, claimed: ClaimedReview, why: str, now: datetime) -> None:
    """Say that what was decided is told by no result: what was reviewed holds no more."""
    told = Change(now, (REVIEWED, f"The review is told by no report. {why}"), {"route": claimed.job.route})
    move_review(connection, is_mine(claimed), DecisionState.FALLEN, told, note=why)


def give_review_up(connection: Connection, claimed: ClaimedReview, why: str, now: datetime) -> bool:
    """Say that the report of what was decided cannot be made; `False` where the claim is not ours any more.

    What was reviewed stands as it was, unreviewed.
    """
    held_result(connection, claimed.review.of_job_key)
    line = f"The report of the review cannot be made and is tried no more. The result is unreviewed again. {why}"
    told = Change(now, (REVIEWED, line), {"route": claimed.job.route, "review": claimed.id})
    return move_review(connection, is_mine(claimed), DecisionState.FAILED, told, note=why)


def note_answer(connection: Connection, before: str, after: str) -> None:
    """Have the jobs that answered with a result lead to the reviewed one."""
    mine = and_(jobs.c.job_key == before, jobs.c.state != JobState.RUNNING)
    connection.execute(update(jobs).where(mine).values(job_key=after))
