"""What a person keeps from being deleted, and lets go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter
from sqlalchemy import Connection

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts, StudyUid
from dicom_node.api.routes.studies import StatedReason
from dicom_node.core.audit import AuditedAct
from dicom_node.index.retention.holds import hold_of, hold_study, release_study
from dicom_node.index.views.types import HoldView

router = APIRouter(prefix=V1, tags=["operator"], dependencies=[Reads], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStudy:
    """Whether a study is kept by a person; `hold` is null where nobody does: then the settings decide."""

    study_instance_uid: str
    hold: HoldView | None


@router.post(
    "/studies/{uid}/hold",
    summary="Keep a study from being deleted",
    dependencies=[Operates, audited(AuditedAct.HOLD)],
    responses=described(403, 404, 409),
)
def hold(parts: Parts, principal: CurrentPrincipal, uid: StudyUid, wanted: StatedReason) -> HeldStudy:
    """Nothing of the study is deleted, whatever its age and however full the disk is, until somebody releases it."""
    with parts.database.write() as connection:
        hold_study(connection, uid, wanted.reason, principal, datetime.now(UTC))
        return _held(connection, uid)


@router.post(
    "/studies/{uid}/release",
    summary="Let a held study go",
    dependencies=[Operates, audited(AuditedAct.RELEASE)],
    responses=described(403, 404, 409),
)
def release(parts: Parts, principal: CurrentPrincipal, uid: StudyUid) -> HeldStudy:
    """The settings decide on the study again; by its age it may be deleted at once."""
    with parts.database.write() as connection:
        release_study(connection, uid, principal, datetime.now(UTC))
        return _held(connection, uid)


def _held(connection: Connection, uid: str) -> HeldStudy:
    found = hold_of(connection, uid)
    view = None if found is None else HoldView(reason=found.reason, held_by=found.held_by, since=found.since)
    return HeldStudy(study_instance_uid=uid, hold=view)
