"""Where the outbox begins: a result, its objects and their deliveries are written in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from dicom_node.analysis.context import ReportLine
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import (
    Artifact,
    DecisionState,
    Destination,
    JobOutcome,
    JobState,
    ObjectState,
    ResultState,
)
from dicom_node.core.uids import repeated_job_key
from dicom_node.index.database import is_among
from dicom_node.index.decided.reviews import (
    REVIEWED,
    ClaimedReview,
    held_result,
    holds_claim,
    is_mine,
    let_review_fall,
    note_answer,
)
from dicom_node.index.drift.recording import keep_features
from dicom_node.index.drift.stops import as_it_stands, deliverable, tell_shadow
from dicom_node.index.jobs import STARTED, ClaimedJob, finish
from dicom_node.index.lineage import keys_of_line, line_in, line_of
from dicom_node.index.outbox.deliveries import plan_deliveries
from dicom_node.index.outbox.destinations import SUSPENDED, suspensions
from dicom_node.index.outbox.withdrawals import WITHDRAWN, supersede_results
from dicom_node.index.received.corrections import is_corrected_since
from dicom_node.index.shadows import tell_agreement
from dicom_node.index.tables import artifacts, events, jobs, results, reviews
from dicom_node.index.transitions import Change, insert_result, move_result, move_review, record

_AT_A_TIME = 500  # values in one statement


def standing_key(connection: Connection, job_key: str) -> str:
    """Return under which key an analysis is answered: its own, or the next while the result there has been replaced.

    An answer that comes back, since a model or parameters of before are in use again, is a result of its own that
    follows the present one: what was replaced stays replaced.
    """
    key, times = job_key, 0
    while _standing(connection, key) == ResultState.SUPERSEDED:
        reviewed = _reviewed_key(connection, key)
        times += not reviewed
        key = reviewed or repeated_job_key(job_key, times)
    return key


def _reviewed_key(connection: Connection, job_key: str) -> str:
    """Return under which key a result is told as a person has verified it, "" where nobody has: it is the same
    answer, and an analysis without change must not put a preliminary one in its place."""
    mine = and_(reviews.c.job_key == job_key, reviews.c.state == DecisionState.DONE)
    return connection.execute(select(reviews.c.result_key).where(mine)).scalar() or ""


def is_reviewed(connection: Connection, job_key: str) -> bool:
    """Tell whether a result was made by a person's review: it stands, whatever output sets there are now."""
    return connection.execute(select(results.c.review_id).where(results.c.job_key == job_key)).scalar() is not None


def _standing(connection: Connection, job_key: str) -> str | None:
    return connection.execute(select(results.c.standing).where(results.c.job_key == job_key)).scalar()


def has_result(connection: Connection, job_key: str, output_keys: Collection[str] = ()) -> bool:
    """Tell whether this very analysis (same inputs, model, configuration) was already written in these output sets."""
    columns = select(results.c.output_keys, results.c.review_id, results.c.standing)
    row = connection.execute(columns.where(results.c.job_key == job_key)).first()
    if row is None:
        return False
    is_final = row.review_id is not None or row.standing == ResultState.REJECTED
    return is_final or not row.output_keys or set(output_keys) <= set(row.output_keys)


def is_written_in(connection: Connection, job_key: str, output_keys: Collection[str]) -> bool:
    """Tell whether a result has objects in all these output sets."""
    written = connection.execute(select(results.c.output_keys).where(results.c.job_key == job_key)).scalar()
    return set(output_keys) <= set(written or ())


def add_objects(connection: Connection, job_key: str, outcome: JobOutcome) -> None:
    """Enter what was made of a result in further output sets; what is there already stays."""
    held_result(connection, job_key)
    _keep_objects(connection, job_key, outcome)


def kept_keys(connection: Connection, job_key: str) -> list[str]:
    """Return under which keys the objects of a result are kept, and their pictures."""
    mine = and_(artifacts.c.job_key == job_key, artifacts.c.state == ObjectState.STORED)
    query = select(artifacts.c.object_key, artifacts.c.preview_key).where(mine)
    return sorted({key for row in connection.execute(query) for key in row if key})


def taken_uids(connection: Connection, job_key: str, uids: Sequence[str]) -> list[str]:
    """Return which of these UIDs objects of other results have."""
    query = select(artifacts.c.uid).where(artifacts.c.job_key != job_key)
    parts = [uids[start : start + _AT_A_TIME] for start in range(0, len(uids), _AT_A_TIME)]
    return [uid for part in parts for uid in connection.execute(query.where(is_among(artifacts.c.uid, part))).scalars()]


def first_started_at(connection: Connection, job_key: str) -> datetime | None:
    """Return when the analysis was first started that made a result: the times in its objects come from it."""
    return connection.execute(select(func.min(jobs.c.started_at)).where(jobs.c.job_key == job_key)).scalar()


def save_result(
    connection: Connection, job: ClaimedJob, job_key: str, outcome: JobOutcome, destinations: Sequence[Destination]
) -> bool:
    """Write result, objects, deliveries and states together; `False` when the job is not ours any more."""
    now = outcome_time(outcome)
    job = as_it_stands(connection, job)
    destinations = deliverable(connection, job.route, destinations)
    if not finish(connection, job, outcome.state, (job_key, outcome.reason, outcome.message), now):
        return False
    tell_shadow(connection, job, now)
    notes = outcome.summary.get("notes")
    if isinstance(notes, list) and notes:
        text = " ".join(map(str, notes))
        record(connection, job.study_instance_uid, now, ("notes", text), route=job.route)
    line = _keys_of_line(connection, job, outcome)
    does_not_hold = _why_not(connection, job, line)
    if not has_result(connection, job_key):
        if does_not_hold is None and job.shadow_of != job.route:
            supersede_results(connection, line, now)
        insert_result(
            connection, job_key, outcome.state, study_instance_uid=job.study_instance_uid, revision=job.revision,
            route=job.route, model=job.model, reason=outcome.reason, message=outcome.message,
            sequence=_next_sequence(connection, line), summary=dict(outcome.summary), created_at=now,
            shadow_of=job.shadow_of,
        )  # fmt: skip
        keep_features(connection, job, job_key, outcome, now)
    _keep_objects(connection, job_key, outcome)
    tell_agreement(connection, job, now)
    if does_not_hold is not None:
        _set_aside(connection, job_key, does_not_hold, now)
    else:
        plan_deliveries(connection, job_key, destinations, now)
        _tell_who_waits(connection, job, destinations, now)
    return True


def _tell_who_waits(
    connection: Connection, job: ClaimedJob, destinations: Sequence[Destination], now: datetime
) -> None:
    """Say in the timeline which destinations do not get the result yet, because a person or the node suspended them."""
    suspended = suspensions(connection)
    for name in (one.name for one in destinations if one.name in suspended):
        text = f"{suspended[name].in_words(name)} What is owed to it waits."
        record(connection, job.study_instance_uid, now, (SUSPENDED, text), route=job.route, destination=name)


def answer_again(
    connection: Connection, job: ClaimedJob, job_key: str, destinations: Sequence[Destination], now: datetime
) -> bool:
    """End a job whose answer is already known; its kept objects go out again where they have not arrived.

    Nothing goes out of a result that holds no longer; the timeline says which one stands.
    """
    known = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    job = as_it_stands(connection, job)
    if not finish(connection, job, JobState(known.state), (job_key, known.reason, known.message), now):
        return False
    tell_shadow(connection, job, now)
    text = f"Same images, model and configuration: {_which_stands(connection, known)}"
    record(connection, job.study_instance_uid, now, ("unchanged", text), route=job.route)
    tell_agreement(connection, job, now)
    if known.standing == ResultState.CURRENT and _why_not(connection, job, [job_key]) is None:
        if known.shadow_of == job.route and not job.shadow_of:
            _out_of_shadow(connection, known, now)
        plan_deliveries(connection, job_key, deliverable(connection, job.route, destinations), now)
    return True


def _out_of_shadow(connection: Connection, known: Row[Any], now: datetime) -> None:
    """Let a result that was made while its route was in shadow take the place of those before it, now that it may."""
    mine = results.c.job_key == known.job_key
    connection.execute(update(results).where(mine).values(shadow_of=""))
    before = set(keys_of_line(connection, known.study_instance_uid, line_of(known))) - {known.job_key}
    supersede_results(connection, before, now)


def save_reviewed_result(
    connection: Connection,
    claimed: ClaimedReview,
    job_key: str,
    outcome: JobOutcome,
    destinations: Sequence[Destination],
) -> bool:
    """Write the result that tells a decision, in the place of the one that was reviewed; `False` when the claim is not
    ours any more, or what was reviewed holds no more: then the decision has fallen.

    Nothing of the reviewed result is taken back: it stays to be read beside what a person says of it.
    """
    now, reviewed_key = outcome_time(outcome), claimed.review.of_job_key
    if falls(connection, claimed, now) or not holds_claim(connection, claimed):
        return False
    reviewed = held_result(connection, reviewed_key)
    told = Change(now, (REVIEWED, _told_by(claimed.review)), {"route": reviewed.route, "review": claimed.id})
    mine = results.c.job_key == reviewed_key
    move_result(connection, mine, ResultState.SUPERSEDED, "The result that a person has verified took its place.", told)
    line = keys_of_line(connection, reviewed.study_instance_uid, line_of(reviewed))
    insert_result(
        connection, job_key, outcome.state, study_instance_uid=reviewed.study_instance_uid, revision=reviewed.revision,
        route=reviewed.route, model=reviewed.model, reason=outcome.reason, message=outcome.message,
        sequence=_next_sequence(connection, [*line, reviewed_key]), summary=dict(outcome.summary), created_at=now,
        review_state=claimed.review.state, review_id=claimed.id, shadow_of=reviewed.shadow_of,
    )  # fmt: skip
    _keep_objects(connection, job_key, outcome)
    note_answer(connection, reviewed_key, job_key)
    if not reviewed.shadow_of:
        plan_deliveries(connection, job_key, destinations, now)
    return move_review(connection, is_mine(claimed), DecisionState.DONE, Change(now), result_key=job_key, note="")


def falls(connection: Connection, claimed: ClaimedReview, now: datetime) -> bool:
    """Let a decision fall whose result holds no more, so that nobody tries to tell it; tell whether it does."""
    reviewed = held_result(connection, claimed.review.of_job_key)
    if reviewed.standing == ResultState.CURRENT:
        return False
    why = f"The result that was reviewed is {reviewed.standing}: {reviewed.standing_reason}"
    let_review_fall(connection, claimed, why, now)
    return True


def _told_by(review: Review) -> str:
    return f"The result is verified: {review.state.lower()} by {review.reviewer.account}. What the model said stays."


def _which_stands(connection: Connection, known: Row[Any]) -> str:
    if known.standing == ResultState.CURRENT:
        return "the earlier result stands."
    gone = f"the earlier result does not hold any more ({known.standing}: {known.standing_reason})"
    mine = and_(results.c.study_instance_uid == known.study_instance_uid, results.c.route == known.route)
    holds = select(results.c.sequence, results.c.model).where(mine, results.c.standing == ResultState.CURRENT)
    now = connection.execute(holds.order_by(results.c.sequence.desc())).first()
    if now is None and known.standing == ResultState.REJECTED:
        return f"{gone}; a reviewer has rejected this very answer."
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
