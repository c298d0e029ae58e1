"""Studies: the list, one study, its timeline and results; run again, send again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import CursorText, InstanceUid, JobKey, Parts, Stripped, StudyUid
from dicom_node.api.results import ResultAnswer, StudyAnswer, result_answer, result_answers, study_answer
from dicom_node.api.upload_form import RequestWords
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import StudyState
from dicom_node.index.decided import actions
from dicom_node.index.views import lists as views
from dicom_node.index.views import study as study_views
from dicom_node.index.views import versions as version_views
from dicom_node.index.views.types import StudyPage, TimelineEntry, VersionPage

_NOTHING_STATED = RequestWords()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))


_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
#: White space by everybody's count: what `\s` means differs in these two.
_BLANK = r"\s\x85\ufeff"


@dataclass(frozen=True, slots=True)
class Requeued:
    """What was put back: job ids for a rerun, delivery ids for a retry."""

    ids: Sequence[int]


class StatedReason(BaseModel):
    """Why something is taken back or given up."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str,
        Field(
            min_length=1, max_length=500, pattern=rf"^[^{_CONTROL}]*[^{_BLANK}{_CONTROL}][^{_CONTROL}]*$",
            description="Stands in the timeline; told to readers. Not only white space.",
        ),
        Stripped,
    ]  # fmt: skip


class WithdrawalRequest(StatedReason):
    """Why results are taken back, and of which route."""

    route: str | None = Field(None, max_length=64, description="Only the results of this route.")


class StudyListQuery(BaseModel):
    """Which studies to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200)
    state: StudyState | None = Field(None, description="Only those in this state.", examples=["REPORTED"])
    query: str = Field("", max_length=64, description="UID or its beginning, words of the description, modality, AE.")
    cursor: CursorText | None = Field(None, description="`older` of another page: the page after it.")
    before: CursorText | None = Field(None, description="The same, as it was called before `cursor`.")
    after: CursorText | None = Field(None, description="`newer` of another page: the page before it.")


class TimelineQuery(BaseModel):
    """Which part of a timeline."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(1000, ge=1, le=1000)
    cursor: Annotated[str, StringConstraints(max_length=128, pattern=r"^\d{1,17}_[01]_[0-9A-Za-z.:-]+$")] | None = (
        Field(None, description="Taken from the `Link` of the page before.", examples=["1773480000000000_1_42"])
    )


class VersionsQuery(BaseModel):
    """Which part of the images in more than one version."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(200, ge=1, le=1000)
    cursor: InstanceUid | None = Field(None, description="SOP Instance UID of the last one of another page.")
    after: InstanceUid | None = Field(None, description="The same, as it was called before `cursor`.")


class ResultsQuery(BaseModel):
    """Which part of a study's results."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=200)
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Taken from the `Link` of the page before: a job key.", examples=["3f" * 32]
    )


@router.get(
    "/studies",
    tags=["studies"],
    summary="List studies, newest first",
    responses=PAGED,
    dependencies=[audited(AuditedAct.QUERY)],
)
def list_studies(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[StudyListQuery, Query()]
) -> StudyPage:
    """One page of studies. `older` and `newer` are cursors of the pages beside it: `cursor` and `after`."""
    behind = asked.cursor or asked.before
    wanted = views.StudyFilter(
        state=asked.state,
        text=asked.query.strip(),
        older_than=views.Cursor.parse(behind) if behind else None,
        newer_than=views.Cursor.parse(asked.after) if asked.after else None,
    )
    with parts.database.read() as connection:
        page = views.list_studies(connection, asked.limit, wanted)
    if page.older:
        pages.lead_to(page.older)
    return page


@router.get(
    "/studies/{uid}",
    tags=["studies"],
    summary="One study",
    responses=described(404),
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_study(parts: Parts, uid: StudyUid) -> StudyAnswer:
    """Why one study is wanted, its series, analyses with their decisions, results and deliveries."""
    with parts.database.read() as connection:
        return study_answer(study_views.study(connection, uid, parts.settings.hl7.patient_authority))


@router.get(
    "/studies/{uid}/timeline",
    tags=["studies"],
    summary="What happened to a study",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_timeline(
    parts: Parts, pages: Annotated[ListPages, Depends()], uid: StudyUid, asked: Annotated[TimelineQuery, Query()]
) -> list[TimelineEntry]:
    """Every association, decision, run and delivery of one study, oldest first."""
    with parts.database.read() as connection:
        placed = study_views.placed_timeline(connection, uid, _place(asked.cursor) if asked.cursor else None)
    return [entry for _, entry in pages.cut(placed, asked.limit, lambda one: _cursor(one[0]))]


def _cursor(place: study_views.TimelinePlace) -> str:
    return f"{(place.at - _EPOCH) // timedelta(microseconds=1)}_{place.kind}_{place.key}"


def _place(cursor: str) -> study_views.TimelinePlace:
    microseconds, kind, key = cursor.split("_", 2)
    return study_views.TimelinePlace(_EPOCH + timedelta(microseconds=int(microseconds)), int(kind), key)


@router.get(
    "/studies/{uid}/versions",
    tags=["studies"],
    summary="Images in more than one version",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_versions(
    parts: Parts, pages: Annotated[ListPages, Depends()], uid: StudyUid, asked: Annotated[VersionsQuery, Query()]
) -> VersionPage:
    """Instances that are or were in the study and came again with other content: who sent which version, when, and in
    which attributes they differ (keywords, no values); which is in use, and which may be a replacement."""
    with parts.database.read() as connection:
        page = version_views.versions(connection, uid, asked.limit + 1, asked.cursor or asked.after or "")
    shown = pages.cut(page.instances, asked.limit, lambda one: one.sop_instance_uid)
    return VersionPage(total=page.total, instances=shown)


@router.get(
    "/studies/{uid}/results",
    tags=["results"],
    summary="Results of a study",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_results(
    parts: Parts, pages: Annotated[ListPages, Depends()], uid: StudyUid, asked: Annotated[ResultsQuery, Query()]
) -> list[ResultAnswer]:
    """All stored answers about one study, newest first. AI output, not verified."""
    with parts.database.read() as connection:
        found = study_views.results(connection, uid, asked.limit + 1, asked.cursor)
    return result_answers(pages.cut(found, asked.limit, lambda one: one.job_key))


@router.get(
    "/results/{job_key}",
    tags=["results"],
    summary="One result",
    responses=described(404),
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_result(parts: Parts, job_key: JobKey) -> ResultAnswer:
    """One stored answer: findings, measurements, model, and the objects made from it. AI output, not verified."""
    with parts.database.read() as connection:
        return result_answer(study_views.result(connection, job_key))


@router.post(
    "/studies/{uid}/retry",
    tags=["operator"],
    summary="Send results again",
    dependencies=[Operates, audited(AuditedAct.RETRY)],
    responses=described(403, 404),
)
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
    "/studies/{uid}/withdraw",
    tags=["operator"],
    summary="Take results back",
    dependencies=[Operates, audited(AuditedAct.WITHDRAWAL)],
    responses=described(403, 404, 409),
)
def withdraw_study(parts: Parts, principal: CurrentPrincipal, uid: StudyUid, wanted: WithdrawalRequest) -> Withdrawn:
    """Withdraw what holds of a study's results. Every destination that shows any of it is told so and why."""
    with parts.database.write() as connection:
        asked = (wanted.reason, wanted.route)
        job_keys = actions.withdraw_study(connection, uid, asked, principal, datetime.now(UTC))
    parts.wake()
    return Withdrawn(job_keys)


@router.post(
    "/studies/{uid}/rerun",
    tags=["operator"],
    summary="Analyse again",
    dependencies=[Operates, audited(AuditedAct.RERUN)],
    responses=described(403, 404, 409),
)
def rerun_study(
    parts: Parts,
    principal: CurrentPrincipal,
    uid: StudyUid,
    route: Annotated[str | None, Query(max_length=64, description="Only this route", examples=["chest-ct"])] = None,
    stated: Annotated[RequestWords, Body()] = _NOTHING_STATED,
) -> Requeued:
    """Queue the finished analyses of the current revision again. Equal inputs and model give the same objects; another
    indication or purpose gives a new result in the place of the old. On a study that no route wanted, which has none,
    the present routes decide anew."""
    asked = (route, stated.stated())
    with parts.database.write() as connection:
        ids = actions.rerun_with(connection, uid, asked, principal, datetime.now(UTC))
    parts.wake()
    return Requeued(ids)
