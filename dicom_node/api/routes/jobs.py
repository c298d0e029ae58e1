"""Analyses on their way: all of them, one, and each change of one as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import Field, TypeAdapter
from starlette.responses import Response, StreamingResponse

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, NumberPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import InstanceUid, Parts
from dicom_node.api.routes.events import EventStream, JoinFeed, Listener, event, while_admitted
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import JobState
from dicom_node.core.errors import IndexUnavailable, NotFound
from dicom_node.core.lifecycle import FINISHED_JOB
from dicom_node.index.database import Database
from dicom_node.index.views.jobs import JobFilter, job_line, job_lines
from dicom_node.index.views.types import JobLine

router = APIRouter(prefix=V1, tags=["jobs"], dependencies=[Reads], responses=described(401, 403, 422, 429, 503))

#: How often a job that somebody listens to is looked at, and after how many looks without news a listener is told so.
_LOOK_S = 1.0
_LOOKS_PER_HEARTBEAT = 15
_WRITTEN = TypeAdapter(JobLine)
_OVER = FINISHED_JOB | {JobState.SUPERSEDED}
JobId = Annotated[int, Path(alias="id", ge=1, le=2**62, description="Number of the job", examples=[1])]


class JobListQuery(NumberPageQuery):
    """Which analyses to list."""

    state: JobState | None = Field(None, description="Only those in this state.", examples=["RUNNING"])
    study: InstanceUid | None = Field(None, description="Only those of the study with this UID.")


@router.get("/jobs", summary="List analyses, newest first", responses=PAGED, dependencies=[audited(AuditedAct.QUERY)])
def list_jobs(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[JobListQuery, Query()]
) -> list[JobLine]:
    """Every analysis: what it is of, where it stands, how it ended."""
    wanted = JobFilter(state=asked.state, study_instance_uid=asked.study or "", older_than=asked.cursor)
    with parts.database.read() as connection:
        return pages.cut(job_lines(connection, asked.limit + 1, wanted), asked.limit, lambda line: line.id)


@router.get("/jobs/{id}", summary="One analysis", responses=described(404), dependencies=[audited(AuditedAct.QUERY)])
def get_job(parts: Parts, job_id: JobId) -> JobLine:
    """State, stage and progress, times, attempts, route and model of one analysis, and why it ended as it did."""
    with parts.database.read() as connection:
        return job_line(connection, job_id)


@router.get(
    "/jobs/{id}/events",
    summary="Follow one analysis",
    dependencies=[audited(AuditedAct.QUERY)],
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "Nothing came behind the event that `Last-Event-ID` names, and nothing will."},
        **described(404),
    },
)
def follow_job(
    request: Request,
    parts: Parts,
    join: JoinFeed,
    job_id: JobId,
    last_event_id: Annotated[str, Header(max_length=64, description="The `id` of the last event that came.")] = "",
) -> Response:
    """Events named `job` carry what `GET /api/v1/jobs/{id}` answers, at once and at each change of state or stage that
    is seen, once a second; `heartbeat` comes every 15 s without one. The stream ends with the analysis. At most 16 may
    listen, to all together, 4 of them for one person or key; where all places are taken, whoever has two more than who
    comes loses the oldest.
    """
    with parts.database.read() as connection:
        line = job_line(connection, job_id)
    if line.state in _OVER and last_event_id == _id_of(line):
        return Response(status_code=204)  # a browser asks no more
    listener = join()
    return EventStream(listener, while_admitted(request, _changes(parts.database, listener, line, last_event_id)))


def _changes(database: Database, listener: Listener, line: JobLine, told: str) -> Iterator[str]:
    yield "retry: 3000\n\n"
    quiet = 0
    while not listener.is_over:
        if _id_of(line) != told:
            told, quiet = _id_of(line), 0
            yield event("job", _WRITTEN.dump_python(line, mode="json"), told)
        if line.state in _OVER:
            return
        quiet += 1
        if quiet % _LOOKS_PER_HEARTBEAT == 0:
            yield event("heartbeat", {})
        listener.next_change(_LOOK_S)
        try:
            with database.read() as connection:
                line = job_line(connection, line.id)
        except IndexUnavailable:
            continue  # looked at again
        except NotFound:
            return


def _id_of(line: JobLine) -> str:
    """Return what tells one event from the next: equal ids, equal attempt, state and stage."""
    return f"{line.attempts}-{line.state}-{line.stage}"
