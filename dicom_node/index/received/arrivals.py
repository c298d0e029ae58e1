"""What arrives is entered here: instances, the study they belong to, and which associations carried it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, update

from dicom_node.core.entities import Instance, InstanceRole, PatientNumber, SendingPeer, StudyState
from dicom_node.core.principal import NODE
from dicom_node.core.received.rejections import KEY_OBJECT_SELECTION
from dicom_node.core.received.versions import NOTHING_COMPARED, Comparison
from dicom_node.index.damage import note_arrived
from dicom_node.index.database import insert_of, is_among
from dicom_node.index.outbox.withdrawals import WITHDRAWN, withdraw_results
from dicom_node.index.received.corrections import (
    Correction,
    StudyNews,
    correction_detail,
    correction_line,
    left_for,
    warn_of,
    withdraw_what_rests_on,
)
from dicom_node.index.received.own_results import made_here, pairs_of, tell_altered, uncompared
from dicom_node.index.received.patients import note_whose, number_of_study
from dicom_node.index.received.rejections import settle_rejections
from dicom_node.index.retention.deletions import come_to_life
from dicom_node.index.tables import associations, instances, jobs, studies
from dicom_node.index.transitions import Change, insert_studies, move_study, record, supersede_waiting_jobs
from dicom_node.index.versions import (
    IS_SOURCE,
    Added,
    Verdict,
    Versions,
    in_use_of,
    require_compared,
    save_places,
    versions_of,
)

#: Stands for a sender nobody remembers: the object was found in the spool after a crash.
UNKNOWN_SENDER = SendingPeer("", "", "")


def add_instance(connection: Connection, instance: Instance, comparison: Comparison = NOTHING_COMPARED) -> Added:
    """Enter one durable object; see `add_instances`."""
    return add_instances(connection, [instance], comparison)[0]


def add_instances(
    connection: Connection, arrivals: Sequence[Instance], comparison: Comparison = NOTHING_COMPARED
) -> list[Added]:
    """Enter durable objects in the order in which they came; idempotent. Return what each of them was.

    A source image that comes late, one that corrects another, and a note that rejects images opens the next revision of
    every study it changes.
    `comparison` says in what arrivals differ from what is there. A handful of statements, however many they are.
    Raises `NotYetCompared` where the comparison asks for what it lacks.
    """
    standing = _lock_studies(connection, arrivals, comparison.studies)
    revived = {one.study_instance_uid for one in arrivals if _is_deleted(standing[one.study_instance_uid])}
    for uid in sorted(revived):
        come_to_life(connection, standing[uid], arrivals[0].received_at)
    in_use = in_use_of(connection, [instance.sop_instance_uid for instance in arrivals])
    others = {uid for one in arrivals if (uid := one.sop_instance_uid) in in_use and one.sha256 != in_use[uid].sha256}
    known = versions_of(connection, others) if others else {}
    made = made_here(connection, arrivals)
    news: defaultdict[str, StudyNews] = defaultdict(StudyNews)
    verdicts: list[Added] = []
    for instance in arrivals:
        if instance.sop_instance_uid in in_use and instance.sop_instance_uid not in others:
            _remember_sender(connection, in_use[instance.sop_instance_uid], instance.sender)
            verdicts.append(Added.DUPLICATE)
            continue
        role = InstanceRole.OWN_RESULT if instance.sop_instance_uid in made else instance.role
        versions = known.setdefault(instance.sop_instance_uid, Versions())
        verdict = versions.enter(instance, role, comparison)
        verdicts.append(verdict.added)
        if verdict.added is not Added.DUPLICATE:
            _sort(news, instance, role, verdict)
    kept = [one for one, added in zip(arrivals, verdicts, strict=True) if added is not Added.DUPLICATE]
    own = pairs_of(kept, made)
    require_compared(known.values(), uncompared(own, comparison), comparison)
    tell_altered(connection, own, comparison)
    standing |= _hold(connection, news.keys() - standing.keys())
    with_images = {uid for uid, of_study in news.items() if of_study.images and has_images(connection, uid)}
    _save(connection, list(known.values()))
    settle_rejections(connection, news, comparison)
    whose = _whose(arrivals, verdicts)
    for uid in sorted(revived & whose.keys()):
        _withdraw_of_another(connection, uid, whose[uid], arrivals[0].received_at)
    note_whose(connection, whose)
    for uid in sorted(news):
        _tell_study(connection, standing[uid], news[uid], had_images=uid in with_images)
    note_arrived(connection, arrivals, max(instance.received_at for instance in arrivals))
    return verdicts


def _whose(arrivals: Sequence[Instance], verdicts: Sequence[Added]) -> dict[str, PatientNumber]:
    """Return whose each study is by the images that are in use from now on."""
    return {
        one.study_instance_uid: one.patient
        for one, verdict in zip(arrivals, verdicts, strict=True)
        if one.patient and one.role is InstanceRole.SOURCE and verdict not in (Added.NOT_USED, Added.OTHER_ENCODING)
    }


def _is_deleted(study: Any) -> bool:
    """Tell whether images of the study were deleted, or are at this moment."""
    return bool(study.deleting) or study.images_deleted_at is not None


def _withdraw_of_another(connection: Connection, uid: str, number: PatientNumber, at: datetime) -> None:
    """Withdraw what was said of a study whose images were deleted, and come again under another patient's number: with
    what they are compared otherwise is gone."""
    if number_of_study(connection, uid, "") in (None, number):
        return
    reason = "Its images were deleted here, and came again under another patient's number."
    withdraw_results(connection, uid, reason, Change(at, (WITHDRAWN, f"The result was withdrawn. {reason}")))


def _lock_studies(connection: Connection, arrivals: Sequence[Instance], others: Collection[str]) -> dict[str, Any]:
    """Make sure the arrivals' studies are there and hold them, and `others`, so that arrivals and decisions take turns;
    in the order of their UIDs, so that two receivers cannot wait for each other."""
    first = {instance.study_instance_uid: instance.received_at for instance in reversed(arrivals)}
    insert_studies(connection, first)
    return _hold(connection, {*first, *others})


def _hold(connection: Connection, uids: Collection[str]) -> dict[str, Any]:
    if not uids:
        return {}
    held = select(studies).where(is_among(studies.c.study_instance_uid, uids)).order_by(studies.c.study_instance_uid)
    return {row.study_instance_uid: row for row in connection.execute(held.with_for_update())}


def _sort(news: dict[str, StudyNews], instance: Instance, role: InstanceRole, verdict: Verdict) -> None:
    """Note an arrival that is no duplicate with the studies that it means something for."""
    of_study = news[instance.study_instance_uid]
    if verdict.added is Added.OTHER_ENCODING:
        of_study.encoded.append(instance)
    elif verdict.added is Added.NOT_USED:
        of_study.unused.append(instance)
    elif role is InstanceRole.SOURCE and (verdict.before is None or verdict.before.role is not role):
        of_study.images.append(instance)
    elif role is InstanceRole.SOURCE and verdict.before is not None:
        correction = Correction(instance, verdict.before, verdict.difference)
        of_study.corrected.append(correction)
        if correction.is_moved:
            of_study.images.append(instance)
            news[verdict.before.study_instance_uid].left.append(correction)
    elif verdict.before is not None:
        of_study.evidence.append(instance)
    if instance.sop_class_uid == KEY_OBJECT_SELECTION and role is InstanceRole.EVIDENCE:
        of_study.notes.append(instance)
        if verdict.before is not None:
            news[verdict.before.study_instance_uid].notes.append(instance)


def _save(connection: Connection, known: Sequence[Versions]) -> None:
    save_places(connection, [version for versions in known for version in versions.moved])
    rows = [
        {**_row(instance), "role": version.role, "superseded_at": version.superseded_at}
        for versions in known
        for instance, version in versions.fresh
    ]
    if rows:
        connection.execute(insert(instances), rows)


def _remember_sender(connection: Connection, version: Row[Any], sender: SendingPeer) -> None:
    if version.calling_ae_title == "" and sender != UNKNOWN_SENDER:
        connection.execute(update(instances).where(instances.c.id == version.id).values(**_sender_columns(sender)))


def _row(instance: Instance) -> dict[str, object]:
    columns = ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "study_instance_uid", "series_instance_uid",
               "sha256", "size_bytes", "object_key", "received_at")  # fmt: skip
    values = {name: getattr(instance, name) for name in columns}
    return {**values, "attributes": dict(instance.attributes), **_sender_columns(instance.sender)}


def _sender_columns(sender: SendingPeer) -> dict[str, Any]:
    return {
        "calling_ae_title": sender.calling_ae_title,
        "called_ae_title": sender.called_ae_title,
        "source_host": sender.host,
    }


# --- what arrivals mean for their studies -------------------------------------------------------------------------


def _tell_study(connection: Connection, study: Any, news: StudyNews, *, had_images: bool) -> None:
    """Bring a study up to date with what came for it, which is in the table already."""
    _tell_beside(connection, study.study_instance_uid, news)
    at = news.last_received_at
    if at is None:
        _tell_rejection(connection, study.study_instance_uid, news, study.revision)
        return
    if news.images and not had_images:
        first = news.images[0]
        line = ("received", "The first image arrived.")
        record(connection, study.study_instance_uid, first.received_at, line, **_sender_columns(first.sender))
    _update_study(connection, study, news, max(study.last_received_at, at), had_images=had_images)
    withdraw_what_rests_on(connection, study, news, at)
    warn_of(study.study_instance_uid, news)
    gone_to = f"all belong to {left_for(news)} now" if news.left else "rejection notes name all of them"
    if news.loses_images and not has_images(connection, study.study_instance_uid):
        _end_empty(connection, study.study_instance_uid, gone_to, at)


def _update_study(connection: Connection, study: Any, news: StudyNews, last: datetime, *, had_images: bool) -> None:
    """Note the latest arrival (associations overtake each other between taking the time and taking the lock), and open
    the next revision if this one was cut; one line tells both."""
    uid, first = study.study_instance_uid, news.first_received_at
    values: dict[str, object] = {"last_received_at": last, "updated_at": last}
    was_cut = is_late(connection, study)
    revision = study.revision + was_cut
    line, detail = correction_line(news), correction_detail(news, revision)
    _tell_rejection(connection, uid, news, revision)
    if line is not None and was_cut:
        line = (line[0], f"{line[1]} This opened revision {revision}.")
    if was_cut:
        late = ("revision", f"A {'late image' if news.images else 'rejection note'} opened revision {revision}.")
        came = {"sop_instance_uid": news.images[0].sop_instance_uid} if news.images else {}
        values |= {"revision": revision, "first_received_at": first}
        change = Change(first, line or late, came if line is None else detail)
        move_study(connection, uid, StudyState.RECEIVING, change, **values)
        supersede_waiting_jobs(connection, uid, first)
        return
    if line is not None:
        record(connection, uid, first, line, NODE, **detail)
    if news.images and not had_images:
        values["first_received_at"] = first
    connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(**values))


def _tell_rejection(connection: Connection, uid: str, news: StudyNews, revision: int) -> None:
    rejection = news.rejection
    if rejection is not None:
        line = (rejection.kind, rejection.text)
        record(connection, uid, rejection.at, line, NODE, **rejection.detail(revision))


def _end_empty(connection: Connection, uid: str, gone_to: str, at: datetime) -> None:
    """End a study that has no image left, instead of waiting for one."""
    move_study(connection, uid, StudyState.COMPLETE, Change(at))
    reason = f"No image is left in this study: {gone_to}."
    move_study(connection, uid, StudyState.NOT_ANALYSED, Change(at), reason=reason)


def _tell_beside(connection: Connection, uid: str, news: StudyNews) -> None:
    """Say once for each batch what came again without changing the study."""
    kept = (
        ("encoded", news.encoded, "came again in another encoding, with equal headers and pixels: nothing changes"),
        ("replaced", news.evidence, "that cannot be analysed came again with other content: the later one is in use"),
        ("unused", news.unused, "came again with other content that is not used: it was overtaken by a later arrival, "
         "or is no image where one is in use"),
    )  # fmt: skip
    for kind, arrivals, what in kept:
        if arrivals:
            first, number = arrivals[0], len(arrivals)
            objects = "1 object" if number == 1 else f"{number} objects"
            sop_instance_uid = first.sop_instance_uid
            text = (kind, f"{objects} {what}.")
            record(connection, uid, first.received_at, text, instances=number, sop_instance_uid=sop_instance_uid)


def has_images(connection: Connection, uid: str) -> bool:
    """Tell whether the study has a source image in use; the search ends at the first, however large the study is."""
    image = select(instances.c.id).where(instances.c.study_instance_uid == uid, IS_SOURCE)
    return connection.execute(image.limit(1)).first() is not None


def is_late(connection: Connection, study: Any) -> bool:
    """Tell whether this revision was already cut: decided upon, or a first route has taken its images."""
    if study.state != StudyState.RECEIVING:
        return True
    cut = select(jobs.c.id).where(
        jobs.c.study_instance_uid == study.study_instance_uid, jobs.c.revision == study.revision
    )
    return connection.execute(cut).first() is not None


def known_object_keys(connection: Connection, keys: list[str]) -> set[str]:
    """Return which of these objects have a row."""
    known = select(instances.c.object_key).where(is_among(instances.c.object_key, keys))
    return set(connection.execute(known).scalars())


# --- associations ------------------------------------------------------------------------------------------------


def open_association(
    connection: Connection, association_id: str, receiver_id: str, carried: Sequence[Instance]
) -> None:
    """Note that an association carries the study of these instances, or count them on it."""
    study_instance_uid, at = carried[0].study_instance_uid, max(instance.received_at for instance in carried)
    statement = insert_of(connection)(associations).values(
        association_id=association_id, study_instance_uid=study_instance_uid, receiver_id=receiver_id,
        opened_at=carried[0].received_at, seen_at=at, outcome="", instances=len(carried),
        **_sender_columns(carried[0].sender),
    )  # fmt: skip
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["association_id", "study_instance_uid"],
            set_={"seen_at": at, "instances": associations.c.instances + len(carried)},
        )
    )


def close_association(connection: Connection, association_id: str, outcome: str, at: datetime) -> None:
    """Note how an association ended: released, aborted or lost."""
    mine = associations.c.association_id == association_id
    connection.execute(
        update(associations).where(mine, associations.c.closed_at.is_(None)).values(closed_at=at, outcome=outcome)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What one association that has ended brought of one study, which is in `revision` by now."""

    association_id: str
    study_instance_uid: str
    calling_ae_title: str
    called_ae_title: str
    source_host: str
    opened_at: datetime
    closed_at: datetime
    outcome: str
    instances: int
    revision: int
    #: How many objects of each SOP class the study has by now.
    sop_classes: Mapping[str, int]


def carried_unaudited(connection: Connection, limit: int = 200) -> list[Carried]:
    """Return what the audit trail has not been told of, the first to end first."""
    one = associations.c
    names = ("association_id", "study_instance_uid", "calling_ae_title", "called_ae_title", "source_host", "opened_at",
             "closed_at", "outcome", "instances")  # fmt: skip
    query = (
        select(*(one[name] for name in names), studies.c.revision)
        .join(studies, studies.c.study_instance_uid == one.study_instance_uid)
        .where(one.closed_at.is_not(None), one.audited_at.is_(None))
        .order_by(one.closed_at)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    classes = _sop_classes(connection, {row.study_instance_uid for row in rows})
    return [Carried(**row._mapping, sop_classes=classes[row.study_instance_uid]) for row in rows]


def _sop_classes(connection: Connection, uids: Collection[str]) -> Mapping[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    columns = (instances.c.study_instance_uid, instances.c.sop_class_uid)
    in_use = and_(instances.c.study_instance_uid.in_(uids), instances.c.superseded_at.is_(None))
    query = select(*columns, func.count().label("number")).where(in_use).group_by(*columns)
    for row in connection.execute(query) if uids else ():
        found[row.study_instance_uid][row.sop_class_uid] = row.number
    return found


def mark_audited(connection: Connection, carried: Sequence[Carried]) -> None:
    """Note that the audit trail was told."""
    mine = and_(
        associations.c.association_id == bindparam("association"),
        associations.c.study_instance_uid == bindparam("study"),
    )
    told = [
        {"association": one.association_id, "study": one.study_instance_uid, "at": one.closed_at} for one in carried
    ]
    connection.execute(update(associations).where(mine).values(audited_at=bindparam("at")), told)


def renew_associations(connection: Connection, receiver_id: str, at: datetime) -> None:
    """Say that this receiver still serves its open associations."""
    mine = and_(associations.c.receiver_id == receiver_id, associations.c.closed_at.is_(None))
    connection.execute(update(associations).where(mine).values(seen_at=at))


def forget_lost_associations(connection: Connection, receiver_id: str, stale_before: datetime, at: datetime) -> None:
    """Close what nobody serves any more: this receiver's from before its start, others' that fell silent."""
    lost = or_(associations.c.receiver_id == receiver_id, associations.c.seen_at < stale_before)
    connection.execute(
        update(associations).where(associations.c.closed_at.is_(None), lost).values(closed_at=at, outcome="lost")
    )
