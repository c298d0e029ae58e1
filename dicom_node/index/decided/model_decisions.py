"""What was decided on models: accepted by a person, live by golden studies. Rows are only ever added."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select

from dicom_node.core.entities import JobState
from dicom_node.index.tables import jobs, model_decisions, studies


class DecisionKind(StrEnum):
    """What was decided. `WITHDRAWN` takes back an acceptance, `GOLDEN_FAILED` an activation."""

    ACCEPTED = "ACCEPTED"
    WITHDRAWN = "WITHDRAWN"
    ACTIVATED = "ACTIVATED"
    GOLDEN_FAILED = "GOLDEN_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision on one content of a model folder; `decided_by` is who typed the command, as the system knows them.

    `digest` is the folder's for an acceptance, that of folder and code for an activation; `environment` is the kind
    of machine whose golden studies ran.
    """

    at: datetime
    kind: DecisionKind
    model: str
    version: str
    digest: str
    decided_by: str
    environment: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """An analysis that was not made because its model might not run then."""

    study_instance_uid: str
    route: str


def add_decision(connection: Connection, decision: Decision) -> None:
    """Write a decision down."""
    connection.execute(
        insert(model_decisions).values(
            at=decision.at, kind=decision.kind, model=decision.model, version=decision.version,
            digest=decision.digest, decided_by=decision.decided_by[:128], environment=decision.environment,
            detail=dict(decision.detail),
        )
    )  # fmt: skip


def decisions_on(connection: Connection, model: str = "") -> Sequence[Decision]:
    """Return what was decided on a model, or on all, the newest first."""
    query = select(model_decisions).order_by(model_decisions.c.id.desc())
    if model:
        query = query.where(model_decisions.c.model == model)
    return [
        Decision(
            at=row.at, kind=DecisionKind(row.kind), model=row.model, version=row.version, digest=row.digest,
            decided_by=row.decided_by, environment=row.environment, detail=row.detail,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def turned_away(connection: Connection, model: str, reasons: Collection[str]) -> Sequence[TurnedAway]:
    """Return the analyses of current study revisions that ended for one of these reasons, the oldest first."""
    query = (
        select(jobs.c.study_instance_uid, jobs.c.route)
        .join(studies, studies.c.study_instance_uid == jobs.c.study_instance_uid)
        .where(
            jobs.c.model == model,
            jobs.c.revision == studies.c.revision,
            jobs.c.state == JobState.NOT_ANALYSABLE,
            jobs.c.reason.in_(list(reasons)),
        )
        .order_by(jobs.c.id)
    )
    return [TurnedAway(row.study_instance_uid, row.route) for row in connection.execute(query)]
