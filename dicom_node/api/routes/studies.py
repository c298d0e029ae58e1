"""Studies: the list, one study, its timeline and results; run again, send again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.api.access import CurrentPrincipal, SignedIn
from dicom_node.api.parts import CursorText, InstanceUid, JobKey, Parts, StudyUid
from dicom_node.api.problems import described
from dicom_node.core.entities import StudyState
from dicom_node.index import actions
from dicom_node.index.views import lists as views
from dicom_node.index.views import study as study_views
from dicom_node.index.views import versions as version_views
from dicom_node.index.views.types import ResultView, StudyPage, StudyView, TimelineEntry, VersionPage

router = APIRouter(prefix="/api", dependencies=[SignedIn], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True)
class Requeued:
    """What was put back: job ids for a rerun, delivery ids for a retry."""

    ids: Sequence[int]


class StatedReason(BaseModel):
    """Why something is taken back or given up."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str = Field(min_length=1, max_length=500, description="Stands in the timeline; told to readers.")


class WithdrawalRequest(StatedReason):
    """Why results are taken back, and of which route."""

    route: str | None = Field(None, max_length=64, description="Only the results of this route.")


class StudyListQuery(BaseModel):
    """Which studies to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200)
    state: StudyState | None = None
    query: str = Field("", max_length=64, description="UID or its beginning, words of the description, modality, AE.")
    before: CursorText | None = Field(None, description="`older` of another page: the page after it.")
    after: CursorText | None = Field(None, description="`newer` of another page: the page before it.")


@router.get("/studies", tags=["studies"], summary="List studies, newest first")
def list_studies(parts: Parts, asked: Annotated[StudyListQuery, Query()]) -> StudyPage:
    """One page of studies. Follow `older` as `before` and `newer` as `after` for the pages beside it."""
    wanted = views.StudyFilter(
        state=asked.state,
        text=asked.query.strip(),
        older_than=views.Cursor.parse(asked.before) if asked.before else None,
        newer_than=views.Cursor.parse(asked.after) if asked.after else None,
    )
    with parts.database.read() as connection:
        return views.list_studies(connection, asked.limit, wanted)


@router.get("/studies/{uid}", tags=["studies"], summary="One study", responses=described(404))
def get_study(parts: Parts, uid: StudyUid) -> StudyView:
    """Series, analyses with their decisions, results and deliveries of one study."""
    with parts.database.read() as connection:
        return study_views.study(connection, uid)


@router.get("/studies/{uid}/timeline", tags=["studies"], summary="What happened to a study", responses=described(404))
def get_timeline(parts: Parts, uid: StudyUid) -> list[TimelineEntry]:
    """Every association, decision, run and delivery of one study, oldest first."""
    with parts.database.read() as connection:
        return study_views.timeline(connection, uid)


@router.get(
    "/studies/{uid}/versions", tags=["studies"], summary="Images in more than one version", responses=described(404)
)
def get_versions(
    parts: Parts,
    uid: StudyUid,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[InstanceUid | None, Query(description="SOP Instance UID of the last one of another page.")] = None,
) -> VersionPage:
    """Instances that are or were in the study and came again with other content: who sent which version, when, and in
    which attributes they differ (keywords, no values); which is in use, and which may be a replacement."""
    with parts.database.read() as connection:
        return version_views.versions(connection, uid, limit, after or "")


@router.get("/studies/{uid}/results", tags=["results"], summary="Results of a study", responses=described(404))
def get_results(parts: Parts, uid: StudyUid) -> list[ResultView]:
    """All stored answers about one study, newest first. AI output, not verified."""
    with parts.database.read() as connection:
        return study_views.results(connection, uid)


@router.get("/results/{job_key}", tags=["results"], summary="One result", responses=described(404))
def get_result(parts: Parts, job_key: JobKey) -> ResultView:
    """One stored answer: findings, measurements, model, and the objects made from it. AI output, not verified."""
    with parts.database.read() as connection:
        return study_views.result(connection, job_key)


@router.post("/studies/{uid}/retry", tags=["operator"], summary="Send results again", responses=described(403, 404))
def retry_study(parts: Parts, principal: CurrentPrincipal, uid: StudyUid) -> Requeued:
    """Make every parked or waiting delivery of a study due now. The kept bytes are sent, nothing is rebuilt."""
    with parts.database.write() as connection:
        ids = actions.retry_study(connection, uid, principal, datetime.now(UTC))
    parts.wake()
    return Requeued(ids)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The job keys of the results that were withdrawn; none: nothing held any more."""

    ids: Sequence[str]


@router.post(
    "/studies/{uid}/withdraw", tags=["operator"], summary="Take results back", responses=described(403, 404, 409)
)
def withdraw_study(parts: Parts, principal: CurrentPrincipal, uid: StudyUid, wanted: WithdrawalRequest) -> Withdrawn:
    """Withdraw what holds of a study's results. Every destination that shows any of it is told so and why."""
    with parts.database.write() as connection:
        asked = (wanted.reason, wanted.route)
        job_keys = actions.withdraw_study(connection, uid, asked, principal, datetime.now(UTC))
    parts.wake()
    return Withdrawn(job_keys)


@router.post("/studies/{uid}/rerun", tags=["operator"], summary="Analyse again", responses=described(403, 404, 409))
def rerun_study(
    parts: Parts,
    principal: CurrentPrincipal,
    uid: StudyUid,
    route: Annotated[str | None, Query(max_length=64, description="Only this route")] = None,
) -> Requeued:
    """Queue the finished analyses of the current revision again. Equal inputs and model give the same objects. On a
    study that no route wanted, which has none, the present routes decide anew."""
    with parts.database.write() as connection:
        ids = actions.rerun_study(connection, uid, route, principal, datetime.now(UTC))
    parts.wake()
    return Requeued(ids)
