"""A result told again because a destination does not take what it was told in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, select, update

from dicom_node.index.events import record
from dicom_node.lifecycle import check_job, check_study
from dicom_node.model import JobState, StudyState
from dicom_node.tables import jobs, studies

#: Kind of the timeline's line about it.
TOLD_AGAIN = "told-again"
_FINISHED = (JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED)


def tell_again(connection: Connection, job_key: str, why: str, now: datetime) -> bool:
    """Queue the job of a result again, to be told in the sets that destinations take now.

    `False` where a newer revision, or a run that is under way, will tell the study anyway. The first start stays, so
    that objects which are wanted again come out equal.
    """
    same = and_(
        studies.c.study_instance_uid == jobs.c.study_instance_uid,
        studies.c.revision == jobs.c.revision,
        studies.c.state != StudyState.RECEIVING,
    )
    query = select(jobs, studies.c.state.label("study_state")).join(studies, same)
    row = connection.execute(
        query.where(jobs.c.job_key == job_key, jobs.c.state.in_(_FINISHED)).with_for_update()
    ).first()
    if row is None:
        return False
    check_job(JobState(row.state), JobState.QUEUED)
    check_study(StudyState(row.study_state), StudyState.ANALYSING)
    # Without its earlier key it is no operator's rerun: what has arrived is not sent again.
    connection.execute(
        update(jobs).where(jobs.c.id == row.id).values(
            state=JobState.QUEUED, attempts=0, not_before=now, turn_at=now, lease_owner="", lease_until=None, reason="",
            message="", finished_at=None, job_key="",
        )
    )  # fmt: skip
    mine = studies.c.study_instance_uid == row.study_instance_uid
    connection.execute(update(studies).where(mine).values(state=StudyState.ANALYSING, reason="", updated_at=now))
    record(connection, row.study_instance_uid, now, (TOLD_AGAIN, why), route=row.route)
    return True
