"""What a correction or a rejection does to a study: the next revision opens, what rests on the images is withdrawn, and
the timeline says who sent it and in what it differs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, select

from dicom_node.core.entities import Instance, ResultState, SendingPeer
from dicom_node.core.received.versions import Difference, PixelVerdict
from dicom_node.index.outbox.withdrawals import WITHDRAWN, withdraw_results
from dicom_node.index.tables import events, jobs, results, reviews
from dicom_node.index.transitions import Change
from dicom_node.index.versions import Version

#: Kind of the timeline's line where images of a study were corrected or left it; its detail has the `revision` from
#: which on that counts, as it has where images were rejected. The third is about images that only came here from
#: another study.
CORRECTED, REJECTED, _CAME = "corrected", "rejected", "moved-here"
#: Kind of the line where a registration has said that the study's patient has another number, or is another than the
#: images say; its detail has the `revision`, too.
PATIENT_CORRECTED = "patient-corrected"
_LISTED = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Correction:
    """An image that takes the place of the version in use until now."""

    now: Instance
    before: Version
    difference: Difference

    @property
    def is_moved(self) -> bool:
        """Tell whether the image belongs to another study now."""
        return self.now.study_instance_uid != self.before.study_instance_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNews:
    """What the rejection notes of a study change now: how many images are `taken` from it, in which series, by which
    notes, and how many are `restored`; and what the timeline says."""

    at: datetime
    kind: str
    text: str
    taken: int
    restored: int
    series: frozenset[str]
    notes: tuple[str, ...]

    @property
    def changes_images(self) -> bool:
        """Tell whether what the study is analysed from has changed."""
        return bool(self.taken or self.restored)

    def detail(self, revision: int) -> dict[str, object]:
        """Return what goes with the line; `revision` is the one from which on it counts."""
        return {"revision": revision, "notes": list(self.notes), "taken_out": self.taken}


@dataclass(slots=True)
class StudyNews:
    """What one batch of arrivals means for one study."""

    #: New images, and those that were in another study until now.
    images: list[Instance] = field(default_factory=list)
    #: Images of this study that were corrected, or came here from another one.
    corrected: list[Correction] = field(default_factory=list)
    #: Images that belong to another study now.
    left: list[Correction] = field(default_factory=list)
    #: The same images in another encoding.
    encoded: list[Instance] = field(default_factory=list)
    #: Later versions of objects that are no images.
    evidence: list[Instance] = field(default_factory=list)
    #: What is kept and not used: overtaken by a later arrival, or no image where one is in use.
    unused: list[Instance] = field(default_factory=list)
    #: Rejection notes that came, or were corrected.
    notes: list[Instance] = field(default_factory=list)
    #: What the notes change now; `None`: nothing, and there is nothing to tell.
    rejection: RejectionNews | None = None

    @property
    def corrections(self) -> Sequence[Correction]:
        """All that changes what earlier results rest upon."""
        return [one for one in self.corrected if not one.is_moved] + self.left

    @property
    def loses_images(self) -> bool:
        """Tell whether images went to another study or are rejected."""
        return bool(self.left or (self.rejection is not None and self.rejection.taken))

    @property
    def last_received_at(self) -> datetime | None:
        """When the latest of what changes the study's images came."""
        return max(self._changed_at, default=None)

    @property
    def first_received_at(self) -> datetime:
        """When the first of what changes the study's images came."""
        return self._changed_at[0]

    @property
    def _changed_at(self) -> list[datetime]:
        changes = [*self.images, *(one.now for one in (*self.corrected, *self.left))]
        noted = [self.rejection.at] if self.rejection is not None and self.rejection.changes_images else []
        return [one.received_at for one in changes] + noted


def correction_line(news: StudyNews) -> tuple[str, str] | None:
    """Return the line of the timeline about corrected, come and gone images; `None` where there are none."""
    came = [one for one in news.corrected if one.is_moved]
    stayed = [one for one in news.corrected if not one.is_moved]
    told = []
    if stayed:
        told.append(f"{counted_images(len(stayed))} came again, corrected{_sent_by(stayed)}.")
    if came:
        studies = _studies({one.before.study_instance_uid for one in came})
        told.append(f"{counted_images(len(came))} came here from {studies}{_sent_by(came)}.")
    if news.left:
        told.append(f"{counted_images(len(news.left))} belong{'s' * (len(news.left) == 1)} to {left_for(news)} now"
                    f"{_sent_by(news.left)}.")  # fmt: skip
    kind = CORRECTED if news.corrections else _CAME
    return (kind, " ".join((*told, *_what_changed([*news.corrected, *news.left])))) if told else None


def correction_detail(news: StudyNews, revision: int) -> dict[str, object]:
    """Return what goes with the line: no values, only which attributes, and who sent what."""
    all_of_them = [*news.corrected, *news.left]
    return {
        "revision": revision,
        "instances": len(all_of_them),
        "sop_instance_uids": [one.now.sop_instance_uid for one in all_of_them[:_LISTED]],
        "changed": _keywords(all_of_them),
        "pixels": sorted({one.difference.pixels.value for one in all_of_them}),
        "senders": sorted({named_sender(one.now.sender) for one in all_of_them}),
        "senders_before": sorted({named_sender(one.before.sender) for one in all_of_them}),
    }


def left_for(news: StudyNews) -> str:
    """Name the studies to which images went."""
    return _studies({one.now.study_instance_uid for one in news.left})


def withdraw_what_rests_on(connection: Connection, study: Any, news: StudyNews, at: datetime) -> None:
    """Withdraw the study's results: they speak of images that were corrected or belong elsewhere; of rejected images,
    those alone that may rest on them."""
    if not news.corrections:
        _withdraw_what_is_rejected(connection, study.study_instance_uid, news.rejection)
        return
    changed = ", ".join(_keywords(news.corrections)[:_LISTED]) or "the pixels"
    reason = f"Images it rests on were corrected{_sent_by(news.corrections)}; changed: {changed}."
    withdraw_results(
        connection, study.study_instance_uid, reason, Change(at, (WITHDRAWN, f"The result was withdrawn. {reason}"))
    )


def _withdraw_what_is_rejected(connection: Connection, uid: str, rejection: RejectionNews | None) -> None:
    if rejection is None or not rejection.taken:
        return
    reason = f"Images it rests on were rejected. {rejection.text}"
    change = Change(rejection.at, ("withdrawn", f"The result was withdrawn. {reason}"))
    for route in _routes_resting_on(connection, uid, rejection.series):
        withdraw_results(connection, uid, reason, change, route)


def _routes_resting_on(connection: Connection, uid: str, series: frozenset[str]) -> list[str]:
    """Return the routes with a result, or one it replaced, that is not known to rest on other series alone."""
    shown = (ResultState.CURRENT, ResultState.SUPERSEDED)
    apart = select(jobs.c.job_key).where(
        jobs.c.study_instance_uid == uid, jobs.c.series_instance_uid.not_in([*sorted(series), ""])
    )
    reviewed = select(reviews.c.job_key).where(reviews.c.result_key.in_(apart))
    mine = and_(results.c.study_instance_uid == uid, results.c.standing.in_(shown))
    query = select(results.c.route).where(mine, results.c.job_key.not_in(apart), results.c.job_key.not_in(reviewed))
    return sorted(connection.execute(query.distinct()).scalars())


def warn_of(study_instance_uid: str, news: StudyNews) -> None:
    """Log what may be no correction but a replacement: other pixels, or another sender than before."""
    odd = [one for one in (*news.corrected, *news.left) if _suspicions([one])]
    if odd:
        senders = ", ".join(sorted({named_sender(one.now.sender) for one in odd}))
        what = {"study": study_instance_uid, "images": len(odd), "senders": senders, "why": " ".join(_suspicions(odd))}
        _log.warning("images were replaced", extra=what)


def is_corrected_since(connection: Connection, study_instance_uid: str, revision: int) -> bool:
    """Tell whether images that a revision was made of, or their patient, have been corrected or rejected since."""
    mine = events.c.study_instance_uid == study_instance_uid
    told = select(events.c.detail).where(mine, events.c.kind.in_((CORRECTED, REJECTED, PATIENT_CORRECTED)))
    return any(detail.get("revision", 0) > revision for detail in connection.execute(told).scalars())


def _what_changed(corrections: Sequence[Correction]) -> list[str]:
    keywords = _keywords(corrections)
    more = f" and {len(keywords) - _LISTED} more" if len(keywords) > _LISTED else ""
    changed = [f"Changed: {', '.join(keywords[:_LISTED])}{more}."] if keywords else []
    return changed + _suspicions(corrections)


def _suspicions(corrections: Sequence[Correction]) -> list[str]:
    others = [one.before.sender for one in corrections if is_other_sender(one.before.sender, one.now.sender)]
    return suspicions([one.difference.pixels for one in corrections], others)


def suspicions(pixels: Collection[PixelVerdict], senders_before: Collection[SendingPeer]) -> list[str]:
    """Return the sentences about what may be no correction but a replacement; `senders_before` are other ones."""
    found = []
    if PixelVerdict.CHANGED in pixels:
        found.append("The pixels changed.")
    if PixelVerdict.UNKNOWN in pixels:
        found.append("Whether the pixels changed could not be told.")
    if senders_before:
        named = ", ".join(sorted({named_sender(one) for one in senders_before}))
        found.append(f"Another sender than before, which was {named}.")
    return found


def is_other_sender(before: SendingPeer, now: SendingPeer) -> bool:
    """Tell senders apart by title and address; one that nobody remembers (it was found in the spool) is none."""
    return bool(before.calling_ae_title) and (before.calling_ae_title, before.host) != (now.calling_ae_title, now.host)


def _keywords(corrections: Sequence[Correction]) -> list[str]:
    return sorted({keyword for one in corrections for keyword in one.difference.keywords})


def _sent_by(corrections: Sequence[Correction]) -> str:
    names = sorted({named_sender(one.now.sender) for one in corrections})
    return f", sent by {' and '.join(names)}"


def named_sender(sender: SendingPeer) -> str:
    """Return a sender as the timeline names it, by title and address."""
    return f"{sender.calling_ae_title} at {sender.host}" if sender.calling_ae_title else "an unknown sender"


def _studies(uids: set[str]) -> str:
    first, *others = sorted(uids)
    return f"study {first}" + (f" and {len(others)} more" if others else "")


def counted_images(count: int) -> str:
    """Return a number of images in words."""
    return "1 image" if count == 1 else f"{count} images"
