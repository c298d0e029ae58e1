"""Which objects are proved to have arrived: who is to be asked, what was answered, and what follows from it.

A destination that has taken an object is asked whether it has it. What it says so of is COMMITTED, with the evidence;
what it says that it does not have is sent again, a bounded number of times, and then parked. A row that is being asked
about is due again when the answer should have come, so that nothing is forgotten with the one who asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, update

from dicom_node.core.entities import ArtifactKind, DeliveryState, ObjectState, Proof, ResultState
from dicom_node.dimse.commitment_scu import FAILURE_REASONS, CommitmentReport
from dicom_node.index.due import is_due
from dicom_node.index.tables import artifacts, deliveries, results
from dicom_node.index.transitions import NO_LEASE, Change, move_delivery, record

#: So often is sent again what did not arrive, and what was there and then was not.
_SENT_AGAIN_IF_MISSING, _SENT_AGAIN_IF_LOST = 2, 1
#: So often is looked for an object before it counts as missing: archives file late.
_LOOKS = 3
_DAY = timedelta(days=1)
#: After so long without an answer nobody is asked any more.
_ASKED_FOR = timedelta(days=7)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class ProofTimes:
    """When a destination is asked: so long after sending, and again where no answer came within so long; what was
    proved is asked for again after so many days (0: never)."""

    after_s: float
    within_s: float
    again_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Unproved:
    """An object at a destination that is to be asked for."""

    delivery_id: int
    destination: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    uid: str
    kind: ArtifactKind
    media_type: str
    sha256: str
    object_key: str
    state: DeliveryState
    sent_at: datetime
    tries: int
    times_missing: int
    times_lost: int
    transaction_uid: str
    proof_note: str

    @property
    def awaits_report(self) -> bool:
        """Tell whether a storage commitment was asked for and nothing was heard of it."""
        return self.state is DeliveryState.SENT and bool(self.transaction_uid)

    @property
    def is_asked_for(self) -> bool:
        """Tell whether it was asked for before, in vain."""
        return bool(self.tries or self.proof_note)

    @property
    def was_proved(self) -> bool:
        """Tell whether it is asked for again, to see whether it is still there."""
        return self.state is DeliveryState.COMMITTED


@dataclass(frozen=True, slots=True)
class Evidence:
    """How an object was proved to be there, in words, and the transaction of a storage commitment."""

    how: Proof
    text: str
    transaction_uid: str = ""


# --- who is asked for what ----------------------------------------------------------------------------------------


def claim_unproved(connection: Connection, destination: str, times: ProofTimes, now: datetime) -> list[Unproved]:
    """Take what this destination is to be asked for now; until `within_s` from now nobody else does.

    Of a result only while it holds: what was replaced or withdrawn may be hidden there by now. What nobody has answered
    for in a week is asked for no more.
    """
    mine = _is_due_at(destination, times, now)
    rows = connection.execute(_rows(mine).limit(_AT_ONCE).with_for_update(of=deliveries, skip_locked=True)).all()
    found = [_unproved(row) for row in rows]
    given_up = [one for one in found if one.is_asked_for and not one.was_proved and now - one.sent_at > _ASKED_FOR]
    if given_up:
        give_up(connection, given_up, f"Without proof after {_ASKED_FOR.days} days. {given_up[0].proof_note}", now)
    asked = [one for one in found if one not in given_up]
    _set(connection, asked, prove_at=now + timedelta(seconds=times.within_s))
    return asked


def is_any_unproved(connection: Connection, destination: str, times: ProofTimes, now: datetime) -> bool:
    """Tell whether this destination is to be asked for anything now."""
    return connection.execute(_rows(_is_due_at(destination, times, now)).limit(1)).first() is not None


def _is_due_at(destination: str, times: ProofTimes, now: datetime) -> ColumnElement[bool]:
    is_kept = artifacts.c.state == ObjectState.STORED  # what is deleted here could not be sent again
    return and_(deliveries.c.destination == destination, _is_to_be_asked(times, now), _is_to_be_there(), is_kept)


def _is_to_be_asked(times: ProofTimes, now: datetime) -> ColumnElement[bool]:
    is_turn = is_due(deliveries.c.prove_at, now, max(times.within_s, _DAY.total_seconds()))
    sent_before = now - timedelta(seconds=times.after_s)
    fresh = and_(deliveries.c.state == DeliveryState.SENT, is_turn, deliveries.c.sent_at <= sent_before)
    if not times.again_days:
        return fresh
    proved_before = now - timedelta(days=times.again_days)
    old = and_(deliveries.c.state == DeliveryState.COMMITTED, deliveries.c.proved_at <= proved_before)
    return or_(fresh, and_(old, or_(deliveries.c.prove_at.is_(None), is_turn)))


def _is_to_be_there() -> ColumnElement[bool]:
    holds = and_(results.c.standing == ResultState.CURRENT, deliveries.c.is_taken_back.is_(False))
    return or_(holds, deliveries.c.is_withdrawal)


def _rows(which: ColumnElement[bool]) -> Any:
    return (
        select(deliveries, artifacts, results.c.study_instance_uid)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(which)
        .order_by(deliveries.c.id)
    )


def _unproved(row: Row[Any]) -> Unproved:
    return Unproved(
        row.id, row.destination, row.study_instance_uid, row.series_instance_uid, row.sop_class_uid, row.artifact_uid,
        ArtifactKind(row.kind), row.media_type, row.sha256, row.object_key, DeliveryState(row.state),
        row.sent_at, row.proof_tries, row.times_missing, row.times_lost, row.transaction_uid, row.proof_note,
    )  # fmt: skip


def begin_transaction(
    connection: Connection, items: Sequence[Unproved], transaction_uid: str, times: ProofTimes, now: datetime
) -> list[Unproved]:
    """Note under which transaction these are asked for, before a word is said; return them so."""
    for one in items:
        again = {"prove_at": _next_turn(one, times, now), "proof_tries": one.tries + 1}
        _set(connection, [one], transaction_uid=transaction_uid, **again)
    return [replace(one, transaction_uid=transaction_uid, tries=one.tries + 1) for one in items]


def _next_turn(one: Unproved, times: ProofTimes, now: datetime) -> datetime:
    """Return when is asked again what is not answered now: soon at first, then daily."""
    return now + (timedelta(seconds=times.within_s) if one.tries <= 1 else _DAY)


def end_transaction(connection: Connection, items: Sequence[Unproved]) -> None:
    """Note that this was not asked after all: the destination offers no storage commitment."""
    _set(connection, items, transaction_uid="")


# --- what was answered --------------------------------------------------------------------------------------------


def note_proved(connection: Connection, items: Sequence[Unproved], evidence: Evidence, now: datetime) -> None:
    """Note that these are there, with the evidence."""
    columns = {
        "proof": evidence.how, "proof_note": evidence.text, "proved_at": now, "prove_at": None, "proof_tries": 0,
        "times_missing": 0,
    }  # fmt: skip
    if evidence.transaction_uid:
        columns["transaction_uid"] = evidence.transaction_uid
    for one in items:
        if one.was_proved:
            _set(connection, [one], **columns)
            continue
        detail = {"uid": one.uid, "how": evidence.how.value, "transaction_uid": evidence.transaction_uid}
        line = ("committed", f"{one.kind} is proved to be at {one.destination}: {evidence.text}")
        move_delivery(connection, _as_it_was(one), DeliveryState.COMMITTED, Change(now, line, detail), **columns)


def note_absent(
    connection: Connection, items: Sequence[Unproved], why: str, times: ProofTimes, now: datetime
) -> list[Unproved]:
    """Note that the destination does not find these; return those of which that is the last word by now."""
    early = [one for one in items if one.tries + 1 < _LOOKS]
    later = now + timedelta(seconds=times.within_s)
    _set(connection, early, proof_note=why, prove_at=later, proof_tries=deliveries.c.proof_tries + 1)
    return [one for one in items if one not in early and note_missing(connection, one, why, now)]


def note_missing(connection: Connection, item: Unproved, why: str, now: datetime) -> bool:
    """Send an object again that the destination does not have, or park it where that has not helped.

    `False` where its result was replaced or withdrawn meanwhile: then it is right that it is not there.
    """
    if not _is_still_wanted(connection, item):
        return False
    times = {"times_lost": item.times_lost + 1} if item.was_proved else {"times_missing": item.times_missing + 1}
    is_again = item.times_lost < _SENT_AGAIN_IF_LOST if item.was_proved else item.times_missing < _SENT_AGAIN_IF_MISSING
    to = DeliveryState.PENDING if is_again else DeliveryState.PARKED
    said = f"{item.destination} {'has it no more' if item.was_proved else 'does not have it'}: {why}"
    after = "It is sent again." if is_again else "Sent again before, which did not help. Look into its log, then retry."
    note = f"{said} {after}"
    line = ("lost" if item.was_proved else "missing", f"{item.kind}: {note}")
    columns = {"proof": "", "proof_note": said, "prove_at": None, "proof_tries": 0, "transaction_uid": "", **times}
    waits = {"next_attempt_at": now, **NO_LEASE} if is_again else {}
    change = Change(now, line, {"uid": item.uid, "transaction_uid": item.transaction_uid})
    return move_delivery(connection, _as_it_was(item), to, change, note=note, **waits, **columns)


def _is_still_wanted(connection: Connection, item: Unproved) -> bool:
    """Tell whether the destination should have it; the result is held, so that nobody withdraws it meanwhile."""
    mine = and_(deliveries.c.id == item.delivery_id, _is_to_be_there())
    query = select(results.c.job_key).join(deliveries, deliveries.c.job_key == results.c.job_key).where(mine)
    return connection.execute(query.with_for_update(of=results)).first() is not None


def put_off(connection: Connection, items: Sequence[Unproved], why: str, times: ProofTimes, now: datetime) -> None:
    """Ask again later: there was no answer."""
    for one in items:
        _set(connection, [one], proof_note=why, prove_at=_next_turn(one, times, now), proof_tries=one.tries + 1)


def note_away(connection: Connection, items: Sequence[Unproved], why: str, times: ProofTimes, now: datetime) -> None:
    """Ask again soon: nobody was there to be asked, which says nothing of the objects."""
    _set(connection, items, proof_note=why, prove_at=now + timedelta(seconds=times.within_s))


def give_up(connection: Connection, items: Sequence[Unproved], why: str, now: datetime) -> None:
    """Ask no more: there is no proof to be had. What was sent stays sent."""
    _set(connection, items, proof_note=why, prove_at=None)
    for study in sorted({one.study_instance_uid for one in items}):
        uids = [one.uid for one in items if one.study_instance_uid == study]
        record(connection, study, now, ("unproved", f"{items[0].destination}: {why}"), uids=uids)


# --- reports of storage commitment ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """What a report was about; `is_known` is false for a transaction that nobody waits for, and nothing followed."""

    is_known: bool
    destination: str = ""
    proved: int = 0
    missing: int = 0


def take_report(connection: Connection, report: CommitmentReport, now: datetime) -> ReportTaken:
    """Draw the conclusions from a report; the same one again changes nothing.

    What it does not mention is asked for otherwise, at once; what it keeps silent about again, when its turn comes.
    """
    of_transaction = deliveries.c.transaction_uid == report.transaction_uid
    rows = connection.execute(_rows(of_transaction).with_for_update(of=deliveries)).all()
    asked = [_unproved(row) for row in rows if row.state in {DeliveryState.SENT, DeliveryState.COMMITTED}]
    if not rows:
        return ReportTaken(is_known=False)
    kept = [one for one in asked if one.uid in report.committed]
    failed = [one for one in asked if one.uid in report.failed]
    text = f"{report.told_by} committed itself to keeping it."
    note_proved(connection, kept, Evidence(Proof.COMMITMENT, text, report.transaction_uid), now)
    said = {one: f"{report.told_by} says {_in_words(report.failed[one.uid])}." for one in failed}
    missing = [one for one, why in said.items() if note_missing(connection, one, why, now)]
    silent = [one for one in asked if one not in kept and one not in failed and not one.was_proved]
    _set(connection, silent, proof_note=f"{report.told_by} did not mention it in its report.")
    _set(connection, [one for one in silent if one.tries <= 1], prove_at=now)
    return ReportTaken(True, rows[0].destination, len(kept), len(missing))


def _in_words(reason: int) -> str:
    return f"{FAILURE_REASONS.get(reason, 'failure')} (0x{reason:04X})"


# --- writing --------------------------------------------------------------------------------------------------------


def _set(connection: Connection, items: Collection[Unproved], **columns: Any) -> None:
    """Write what is not a state, of those that are as they were."""
    for state in {one.state for one in items}:
        ids = [one.delivery_id for one in items if one.state is state]
        mine = and_(deliveries.c.id.in_(ids), deliveries.c.state == state)
        connection.execute(update(deliveries).where(mine).values(**columns))


def _as_it_was(item: Unproved) -> ColumnElement[bool]:
    """Choose the delivery if nothing has happened to it since: another may have heard the answer before."""
    return and_(
        deliveries.c.id == item.delivery_id,
        deliveries.c.state == item.state,
        deliveries.c.sent_at == item.sent_at,
    )
