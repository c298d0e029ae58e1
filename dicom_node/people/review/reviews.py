"""Decisions of people on results: who may decide on what, and what follows in the same transaction.

The first decision counts. A result that is accepted or modified is told anew, as verified, by `jobs`; one that is
rejected is taken back at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Row

from dicom_node.analysis.stored_findings import findings_in, reviewed_data
from dicom_node.config.running import ReviewSettings
from dicom_node.core.assessment.review import REVIEW_REASONS, Reviewer, ReviewReason
from dicom_node.core.codes import table
from dicom_node.core.entities import Code, DecisionState, JobState, ResultState, ReviewState
from dicom_node.core.errors import (
    AlreadyReviewed,
    BeingReviewed,
    NodeError,
    NotReviewable,
    ReviewRefused,
)
from dicom_node.core.principal import Principal
from dicom_node.headers.image_size import ImageSize
from dicom_node.index.database import Database
from dicom_node.index.decided import reviews as rows
from dicom_node.index.decided.reviews import REVIEWED, ReviewLock
from dicom_node.index.due import now_in
from dicom_node.index.outbox.withdrawals import reject_result
from dicom_node.index.people.accounts import find_account
from dicom_node.index.tables import reviews
from dicom_node.index.transitions import Change, insert_review, move_review
from dicom_node.people.review.changes import AddedFinding, ChangedFinding, require_text, reviewed_findings

_SAID = {ReviewState.ACCEPTED: "accepted", ReviewState.MODIFIED: "modified", ReviewState.REJECTED: "rejected"}
_LONGEST_NAME, _LONGEST_REASON = 64, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDecision:
    """What somebody decides on a result, and why."""

    state: ReviewState
    reasons: tuple[ReviewReason, ...] = ()
    text: str = ""
    changes: tuple[ChangedFinding, ...] = ()
    added: tuple[AddedFinding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRules:
    """How a site reviews: whether two must agree, where reviewers work, and how long a lock lasts."""

    second_reader: bool = False
    organization: str = ""
    lock: timedelta = timedelta(minutes=10)

    @classmethod
    def of(cls, settings: ReviewSettings, institution: str) -> Self:
        """Return those of the settings."""
        return cls(
            second_reader=settings.second_reader, organization=settings.organization or institution,
            lock=timedelta(minutes=settings.lock_minutes),
        )  # fmt: skip


def code_of(key: str, given: Code | None) -> Code:
    """Return the code of a finding that is added: by its key in the list, or as the reviewer coded it.

    Raises `ReviewRefused` for an unknown key, and for both or none.
    """
    if bool(key) == (given is not None):
        raise ReviewRefused("Name an added finding by its key in the list, or by a code; by one of the two.")
    if given is not None:
        return given
    if key not in table("findings"):
        raise ReviewRefused(f"The list of findings has no {key!r}. Give a code instead.")
    return table("findings")[key].code


class Reviews:
    """The reviews of one node. Safe to share between threads; `size_of_object` reads a stored image by its key."""

    def __init__(self, database: Database, rules: ReviewRules, size_of_object: Callable[[str], ImageSize]) -> None:
        self._database = database
        self._rules = rules
        self._size_of_object = size_of_object

    # --- who is reviewing ---

    def lock(self, job_key: str, principal: Principal) -> ReviewLock:
        """Say that somebody reviews a result, or still does; nobody else decides on it until then.

        Raises `NotFound`, `AlreadyReviewed`, `NotReviewable`, and `BeingReviewed` where another was first.
        """
        with self._database.write() as connection:
            now, result = now_in(connection), rows.held_result(connection, job_key)
            known = rows.standing_review(connection, job_key)
            if known is None or known.state != DecisionState.AWAITS_SECOND:
                _require_undecided(result, known)
            _require_reviewable(connection, result)
            _require_no_other(connection, job_key, principal, now)
            name = self._reviewer(connection, principal).readable_name
            lock = ReviewLock(
                job_key=job_key, account=principal.name, identity=principal.identity, name=name,
                until=now + self._rules.lock,
            )  # fmt: skip
            rows.set_lock(connection, lock)
        return lock

    def release(self, job_key: str, principal: Principal) -> None:
        """Say that somebody does not review a result any more; the lock of another stays. Raises `NotFound`."""
        with self._database.write() as connection:
            rows.held_result(connection, job_key)
            rows.remove_lock(connection, job_key, principal.identity)

    # --- decisions ---

    def decide(self, job_key: str, asked: AskedDecision, principal: Principal) -> int:
        """Keep what somebody decides on a result and return its number; repeated by the same person it is the same.

        Raises `NotFound`, `ReviewRefused`, `AlreadyReviewed`, `BeingReviewed` and `NotReviewable`.
        """
        _require_form(asked)
        sizes = self._sizes(job_key, asked)
        digest = _digest(asked, principal)
        with self._database.write() as connection:
            now, result = now_in(connection), rows.held_result(connection, job_key)
            known = rows.standing_review(connection, job_key)
            if known is not None and known.digest == digest:
                return int(known.id)
            _require_undecided(result, known)
            _require_reviewable(connection, result)
            _require_no_other(connection, job_key, principal, now)
            number = self._keep(connection, result, asked, (digest, principal, now), sizes)
            rows.remove_lock(connection, job_key, principal.identity)
            return number

    def _keep(
        self,
        connection: Connection,
        result: Row[Any],
        asked: AskedDecision,
        by: tuple[str, Principal, datetime],
        sizes: Mapping[str, ImageSize],
    ) -> int:
        digest, principal, now = by
        said = [] if asked.state is ReviewState.REJECTED else findings_in(result.summary)
        findings = reviewed_findings(said, asked.changes, asked.added, lambda uid: _size_in(sizes, uid))
        if asked.state is ReviewState.MODIFIED and not any(one.is_changed for one in findings):
            raise ReviewRefused("Nothing is changed. Accept the result, or say what changes.")
        who, waits = self._reviewer(connection, principal), self._rules.second_reader
        number = insert_review(
            connection, result.job_key, DecisionState.AWAITS_SECOND if waits else DecisionState.DECIDED,
            Change(now, (REVIEWED, _told(asked, who, waits=waits)), {"route": result.route}, principal),
            study_instance_uid=result.study_instance_uid, revision=result.revision, route=result.route,
            model=result.model, review_state=asked.state, reasons=list(asked.reasons), text=asked.text,
            findings=reviewed_data(findings), digest=digest, **_columns("reviewer", who, principal),
        )  # fmt: skip
        if not waits:
            _follow(connection, number, principal, now)
        return number

    # --- the second reader ---

    def confirm(self, job_key: str, principal: Principal) -> int:
        """Confirm what another has decided; repeated by the same person it changes nothing. Return its number.

        Raises `NotFound`, `NotReviewable`, `BeingReviewed`, and `AlreadyReviewed` where nobody waits for that.
        """
        with self._database.write() as connection:
            now, result = now_in(connection), rows.held_result(connection, job_key)
            known = rows.standing_review(connection, job_key)
            if known is not None and _is_same(known.second_identity, known.second_account, principal):
                return int(known.id)
            waiting = self._waiting_for(connection, result, known, principal, now)
            who = self._reviewer(connection, principal)
            line = (REVIEWED, f"{who.readable_name} confirmed what {_first(waiting)} had decided: {_said(waiting)}.")
            change = Change(now, line, {"route": result.route, "review": waiting.id}, principal)
            second = {**_columns("second", who, principal), "second_decided_at": now}
            move_review(connection, reviews.c.id == waiting.id, DecisionState.DECIDED, change, **second)
            _follow(connection, waiting.id, principal, now)
            rows.remove_lock(connection, job_key, principal.identity)
            return int(waiting.id)

    def object_to(self, job_key: str, text: str, principal: Principal) -> int:
        """Object to what another has decided, and say why: it falls, and the result is unreviewed again.

        Raises what `confirm` raises, and `ReviewRefused` without a text.
        """
        require_text(text)
        if not text.strip():
            raise ReviewRefused("Say why you object: whoever decided first is told it.")
        with self._database.write() as connection:
            now, result = now_in(connection), rows.held_result(connection, job_key)
            known = rows.standing_review(connection, job_key)
            waiting = self._waiting_for(connection, result, known, principal, now)
            who = self._reviewer(connection, principal)
            line = (REVIEWED, f"{who.readable_name} objected to what {_first(waiting)} had decided ({_said(waiting)}). "
                              "The result is unreviewed again.")  # fmt: skip
            change = Change(now, line, {"route": result.route, "review": waiting.id}, principal)
            second = {**_columns("second", who, principal), "second_decided_at": now, "note": text.strip()}
            move_review(connection, reviews.c.id == waiting.id, DecisionState.FALLEN, change, **second)
            rows.remove_lock(connection, job_key, principal.identity)
            return int(waiting.id)

    def _waiting_for(
        self, connection: Connection, result: Row[Any], known: Row[Any] | None, principal: Principal, now: datetime
    ) -> Row[Any]:
        """Return the decision that waits for this person."""
        if known is None:
            raise NotReviewable("Nobody has decided on this result yet: there is nothing to confirm.")
        if known.state != DecisionState.AWAITS_SECOND:
            _require_undecided(result, known)
        if _is_same(known.reviewer_identity, known.reviewer_account, principal):
            raise NotReviewable(f"{_first(known)} decided first. The second reader is another person.")
        _require_reviewable(connection, result)
        _require_no_other(connection, result.job_key, principal, now)
        return known

    # --- whom, and on which images ---

    def _reviewer(self, connection: Connection, principal: Principal) -> Reviewer:
        # Whom a provider vouches for has no account here, whatever they are called there.
        account = None if principal.key else find_account(connection, principal.name)
        name, identifier = (account.display_name, account.identifier) if account else ("", "")
        return Reviewer(
            account=principal.name, name=(name or principal.name)[:_LONGEST_NAME],
            organization=self._rules.organization[:_LONGEST_NAME], identifier=identifier,
        )  # fmt: skip

    def _sizes(self, job_key: str, asked: AskedDecision) -> Mapping[str, ImageSize]:
        """Return the sizes of the source images on which outlines are, by SOP Instance UID."""
        outlines = [*(one.region for one in asked.changes), *(one.region for one in asked.added)]
        wanted = {one.sop_instance_uid for one in outlines if one is not None}
        if not wanted:
            return {}
        with self._database.read() as connection:
            keys = rows.source_keys(connection, job_key, wanted)
        try:
            return {uid: self._size_of_object(key) for uid, key in keys.items()}
        except NodeError as error:
            raise ReviewRefused(f"{error} No outline can be put on it.") from error


def _size_in(sizes: Mapping[str, ImageSize], uid: str) -> ImageSize:
    if uid not in sizes:
        raise ReviewRefused(f"{uid} is no image that the result was made from. Draw on one of those.")
    return sizes[uid]


def _columns(role: str, who: Reviewer, principal: Principal) -> dict[str, str]:
    return {f"{role}_{name}": value for name, value in {**asdict(who), "identity": principal.identity}.items()}


def _follow(connection: Connection, number: int, principal: Principal, now: datetime) -> None:
    """Take a result back whose rejection all have agreed to; what is accepted or modified waits for its making."""
    review = rows.review_numbered(connection, number)
    if review.review_state != ReviewState.REJECTED:
        return
    why = " ".join(REVIEW_REASONS[ReviewReason(one)] for one in review.reasons)
    reason = f"Rejected in review by {_first(review)}. {why} {review.text}".strip()[:_LONGEST_REASON]
    line = ("withdrawn", f"The result was rejected and is taken back. {why}")
    reject_result(connection, review.job_key, reason, Change(now, line, {"review": number}, principal))
    move_review(connection, reviews.c.id == number, DecisionState.DONE, Change(now))


def _digest(asked: AskedDecision, principal: Principal) -> str:
    decided = [principal.identity, asdict(asked)]
    return hashlib.sha256(json.dumps(decided, sort_keys=True, default=str).encode()).hexdigest()


def _told(asked: AskedDecision, who: Reviewer, *, waits: bool) -> str:
    why = f" ({', '.join(asked.reasons)})" if asked.reasons else ""
    waiting = " The decision waits for a second reader." if waits else ""
    return f"{who.readable_name} {_SAID[asked.state]} the result{why}.{waiting}"


def _said(review: Row[Any]) -> str:
    return _SAID[ReviewState(review.review_state)]


def _first(review: Row[Any]) -> str:
    """Return who decided first, as people write the name."""
    return rows.reviewer_of(review).readable_name


def _is_same(identity: str, account: str, principal: Principal) -> bool:
    """Tell whether it was this person; of decisions from before 0022 only the account's name is known."""
    return identity == principal.identity if identity else account.casefold() == principal.name.casefold()


# --- what must hold ------------------------------------------------------------------------------------------------


def _require_form(asked: AskedDecision) -> None:
    require_text(asked.text)
    if asked.state not in _SAID:
        raise ReviewRefused("A result is accepted, modified or rejected.")
    if asked.state is not ReviewState.ACCEPTED and not asked.reasons:
        raise ReviewRefused(f"A reason is needed to have it {_SAID[asked.state]}: one of {', '.join(ReviewReason)}.")
    if asked.state is not ReviewState.MODIFIED and (asked.changes or asked.added):
        raise ReviewRefused("Findings are changed or added by the decision MODIFIED alone.")
    if ReviewReason.OTHER in asked.reasons and not asked.text.strip():
        raise ReviewRefused("The reason OTHER needs a text that says what it is.")


def _require_undecided(result: Row[Any], known: Row[Any] | None) -> None:
    if known is not None:
        at = f"{known.decided_at:%Y-%m-%d %H:%M} UTC"
        waits = " and waits for a second reader" if known.state == DecisionState.AWAITS_SECOND else ""
        raise AlreadyReviewed(f"{_first(known)} {_said(known)} this result on {at}{waits}. It stays so.")
    if result.review_id is not None:
        raise AlreadyReviewed("This result tells a person's review. It is not reviewed again.")


def _require_reviewable(connection: Connection, result: Row[Any]) -> None:
    if result.shadow_of:
        raise NotReviewable("The result runs in the shadow of another route and is delivered to nobody.")
    if result.state not in (JobState.DONE, JobState.PARTIAL):
        raise NotReviewable(f"The study was not analysed ({result.reason}): there is nothing to review.")
    if result.standing != ResultState.CURRENT:
        raise NotReviewable(f"The result is {result.standing}: {result.standing_reason} Review the one that stands.")
    if rows.lacks_images(connection, result.study_instance_uid):
        raise NotReviewable(
            "The images of its study were deleted here, so nobody can compare the result with them. To take it back: "
            "dicom-node withdraw STUDY --reason TEXT"
        )
    if not rows.is_latest_answer(connection, result):
        raise NotReviewable(
            "The study has changed since, or is analysed again: images came, were corrected, or somebody asked for it. "
            "Wait for the new result, and review that."
        )


def _require_no_other(connection: Connection, job_key: str, principal: Principal, now: datetime) -> None:
    lock = rows.lock_on(connection, job_key, now)
    if lock is not None and lock.identity != principal.identity:
        raise BeingReviewed(f"{lock.name} is reviewing this result until {lock.until:%H:%M:%S} UTC, or lets go of it.")
