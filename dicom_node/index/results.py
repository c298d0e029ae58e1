"""Where the outbox begins: a result, its objects and their deliveries are written in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from dicom_node.analysis.answer import ReportLine
from dicom_node.core.entities import Artifact, Destination, JobOutcome, JobState, ResultState
from dicom_node.core.uids import repeated_job_key
from dicom_node.index.corrections import is_corrected_since
from dicom_node.index.jobs import STARTED, ClaimedJob, finish
from dicom_node.index.lineage import keys_of_line, line_in
from dicom_node.index.outbox.deliveries import plan_deliveries
from dicom_node.index.outbox.withdrawals import WITHDRAWN, supersede_results
from dicom_node.index.shadows import tell_agreement
from dicom_node.index.tables import artifacts, events, jobs, results
from dicom_node.index.transitions import Change, insert_result, move_result, record

_AT_A_TIME = 500  # values in one statement


def standing_key(connection: Connection, job_key: str) -> str:
    """Return under which key an analysis is answered: its own, or the next while the result there has been replaced.

    An answer that comes back, since a model or parameters of before are in use again, is a result of its own that
    follows the present one: what was replaced stays replaced.
    """
    key, times = job_key, 0
    while _standing(connection, key) == ResultState.SUPERSEDED:
        times += 1
        key = repeated_job_key(job_key, times)
    return key


def _standing(connection: Connection, job_key: str) -> str | None:
    return connection.execute(select(results.c.standing).where(results.c.job_key == job_key)).scalar()


def has_result(connection: Connection, job_key: str, output_keys: Collection[str] = ()) -> bool:
    """Tell whether this very analysis (same inputs, model, configuration) was already written in these output sets."""
    row = connection.execute(select(results.c.output_keys).where(results.c.job_key == job_key)).first()
    return row is not None and (not row.output_keys or set(output_keys) <= set(row.output_keys))


def kept_keys(connection: Connection, job_key: str) -> list[str]:
    """Return under which keys the objects of a result are kept, and their pictures."""
    query = select(artifacts.c.object_key, artifacts.c.preview_key).where(artifacts.c.job_key == job_key)
    return sorted({key for row in connection.execute(query) for key in row if key})


def taken_uids(connection: Connection, job_key: str, uids: Sequence[str]) -> list[str]:
    """Return which of these UIDs objects of other results have."""
    query = select(artifacts.c.uid).where(artifacts.c.job_key != job_key)
    parts = [uids[start : start + _AT_A_TIME] for start in range(0, len(uids), _AT_A_TIME)]
    return [uid for part in parts for uid in connection.execute(query.where(artifacts.c.uid.in_(part))).scalars()]


def first_started_at(connection: Connection, job_key: str) -> datetime | None:
    """Return when the analysis was first started that made a result: the times in its objects come from it."""
    return connection.execute(select(func.min(jobs.c.started_at)).where(jobs.c.job_key == job_key)).scalar()


def save_result(
    connection: Connection, job: ClaimedJob, job_key: str, outcome: JobOutcome, destinations: Sequence[Destination]
) -> bool:
    """Write result, objects, deliveries and states together; `False` when the job is not ours any more."""
    now = outcome_time(outcome)
    if not finish(connection, job, outcome.state, (job_key, outcome.reason, outcome.message), now):
        return False
    notes = outcome.summary.get("notes")
    if isinstance(notes, list) and notes:
        text = " ".join(map(str, notes))
        record(connection, job.study_instance_uid, now, ("notes", text), route=job.route)
    line = _keys_of_line(connection, job, outcome)
    does_not_hold = _why_not(connection, job, line)
    if not has_result(connection, job_key):
        if does_not_hold is None:
            supersede_results(connection, line, now)
        insert_result(
            connection, job_key, outcome.state, study_instance_uid=job.study_instance_uid, revision=job.revision,
            route=job.route, model=job.model, reason=outcome.reason, message=outcome.message,
            sequence=_next_sequence(connection, line), summary=dict(outcome.summary), created_at=now,
            shadow_of=job.shadow_of,
        )  # fmt: skip
    _keep_objects(connection, job_key, outcome)
    tell_agreement(connection, job, now)
    if does_not_hold is not None:
        _set_aside(connection, job_key, does_not_hold, now)
    else:
        plan_deliveries(connection, job_key, destinations, now)
    return True


def answer_again(
    connection: Connection, job: ClaimedJob, job_key: str, destinations: Sequence[Destination], now: datetime
) -> bool:
    """End a job whose answer is already known; its kept objects go out again where they have not arrived.

    Nothing goes out of a result that holds no longer; the timeline says which one stands.
    """
    known = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    if not finish(connection, job, JobState(known.state), (job_key, known.reason, known.message), now):
        return False
    text = f"Same images, model and configuration: {_which_stands(connection, known)}"
    record(connection, job.study_instance_uid, now, ("unchanged", text), route=job.route)
    tell_agreement(connection, job, now)
    if known.standing == ResultState.CURRENT and _why_not(connection, job, [job_key]) is None:
        plan_deliveries(connection, job_key, destinations, now)
    return True


def _which_stands(connection: Connection, known: Row[Any]) -> str:
    if known.standing == ResultState.CURRENT:
        return "the earlier result stands."
    gone = f"the earlier result does not hold any more ({known.standing}: {known.standing_reason})"
    mine = and_(results.c.study_instance_uid == known.study_instance_uid, results.c.route == known.route)
    holds = select(results.c.sequence, results.c.model).where(mine, results.c.standing == ResultState.CURRENT)
    now = connection.execute(holds.order_by(results.c.sequence.desc())).first()
    if now is None:
        return f"{gone}, and none stands. To have the study analysed anew: dicom-node rerun STUDY"
    return f"{gone}; result {now.sequence} by {now.model} stands."


def _why_not(connection: Connection, job: ClaimedJob, line: Collection[str]) -> tuple[ResultState, str] | None:
    """Return as what, and why, a job's result is to be kept and never sent; `None` where it holds.

    It may speak of images that were corrected or rejected while it was made, or of fewer than a quicker worker has
    answered about; or somebody has withdrawn meanwhile what it follows, the results of its `line`, or all of the study.
    """
    if is_corrected_since(connection, job.study_instance_uid, job.revision):
        return ResultState.WITHDRAWN, "Images it rests on were corrected or rejected while it was made."
    if withdrawn := _withdrawn_since_start(connection, job, line):
        return ResultState.WITHDRAWN, f"The study's results were withdrawn while it was made: {withdrawn}"
    mine = and_(results.c.study_instance_uid == job.study_instance_uid, results.c.route == job.route)
    later = and_(mine, results.c.revision > job.revision, results.c.standing == ResultState.CURRENT)
    newer = connection.execute(select(func.max(results.c.revision)).where(later)).scalar()
    if newer is None:
        return None
    return ResultState.SUPERSEDED, f"The result of revision {newer} was there before it."


def _withdrawn_since_start(connection: Connection, job: ClaimedJob, line: Collection[str]) -> str:
    """Return why results were withdrawn since this attempt began, in the order of the timeline; "" where none was."""
    told = select(events).where(
        events.c.study_instance_uid == job.study_instance_uid, events.c.kind.in_((STARTED, WITHDRAWN))
    )
    routes = set(connection.execute(select(results.c.route).where(results.c.job_key.in_(line))).scalars())
    why = ""
    for row in connection.execute(told.order_by(events.c.id)):
        if row.kind == STARTED:
            why = "" if row.detail.get("job") == job.id else why
        elif row.detail.get("whole_study") or row.detail.get("route") in {job.route, *routes}:
            why = str(row.detail.get("reason") or row.text)
    return why


def _set_aside(connection: Connection, job_key: str, held: tuple[ResultState, str], now: datetime) -> None:
    standing, reason = held
    line = (standing.lower(), f"The result was {standing.lower()} before it was sent. {reason}")
    move_result(connection, results.c.job_key == job_key, standing, reason, Change(now, line))


def _keep_objects(connection: Connection, job_key: str, outcome: JobOutcome) -> None:
    """Enter the objects; one that is there already, since the result was written before, stays and serves more sets."""
    known = select(artifacts.c.uid, artifacts.c.output_keys).where(artifacts.c.job_key == job_key)
    kept = {row.uid: row.output_keys for row in connection.execute(known)}
    for artifact in outcome.artifacts:
        if artifact.uid not in kept:
            connection.execute(insert(artifacts).values(job_key=job_key, **_columns(artifact)))
        elif kept[artifact.uid]:
            keys = _united(kept[artifact.uid], artifact.output_keys)
            connection.execute(update(artifacts).where(artifacts.c.uid == artifact.uid).values(output_keys=keys))
    row = connection.execute(select(results.c.output_keys).where(results.c.job_key == job_key)).one()
    written = _united(row.output_keys, outcome.output_keys)
    connection.execute(update(results).where(results.c.job_key == job_key).values(output_keys=written))


def _united(known: Sequence[str], more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*known, *more]))


def outcome_time(outcome: JobOutcome) -> datetime:
    """Return when the outcome was reached, from its summary."""
    return datetime.fromisoformat(str(outcome.summary["finished_at"]))


def _keys_of_line(connection: Connection, job: ClaimedJob, outcome: JobOutcome) -> list[str]:
    """Return the results that this one follows: those of its line, and those of its route, withdrawn ones included."""
    line = line_in(outcome.summary) or ReportLine(model=job.model, route=job.route)
    mine = and_(results.c.study_instance_uid == job.study_instance_uid, results.c.route == job.route)
    of_route = connection.execute(select(results.c.job_key).where(mine)).scalars()
    return [*keys_of_line(connection, job.study_instance_uid, line), *of_route]


def _next_sequence(connection: Connection, job_keys: Collection[str]) -> int:
    query = select(func.coalesce(func.max(results.c.sequence), 0)).where(results.c.job_key.in_(job_keys))
    return int(connection.execute(query).scalar_one()) + 1


def _columns(artifact: Artifact) -> Mapping[str, object]:
    return {
        "uid": artifact.uid, "kind": artifact.kind, "media_type": artifact.media_type,
        "description": artifact.description, "sop_class_uid": artifact.sop_class_uid,
        "series_instance_uid": artifact.series_instance_uid, "object_key": artifact.object_key,
        "sha256": artifact.sha256, "size_bytes": artifact.size_bytes, "preview_key": artifact.preview_key,
        "send_order": artifact.order, "output_keys": list(artifact.output_keys),
    }  # fmt: skip
