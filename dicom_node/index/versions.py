"""The versions of an instance: all are kept, the one that arrived last is in use.

In use is the row without `superseded_at`; there is exactly one for each SOP Instance UID, which an index holds.
Another version is a correction where it says or shows something else: the next revision of the study opens, what rests
on the earlier images is withdrawn, and the timeline says who sent it and in what it differs.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Row, and_, bindparam, select, update

from dicom_node.core.entities import Instance, InstanceRole, SendingPeer
from dicom_node.core.versions import NOT_COMPARED, Comparison, Difference, NotYetCompared, PixelVerdict, StoredVersion
from dicom_node.index.tables import events, instances
from dicom_node.index.transitions import Change
from dicom_node.index.withdrawals import withdraw_results

#: The version of an instance that is read; and those of them that are images, not results or evidence.
IN_USE = instances.c.superseded_at.is_(None)
IS_SOURCE = and_(instances.c.role == InstanceRole.SOURCE, IN_USE)

_UIDS_PER_QUERY = 500
_COLUMNS: tuple[Column[Any], ...] = (
    instances.c.id, instances.c.sop_instance_uid, instances.c.sha256, instances.c.object_key,
    instances.c.study_instance_uid, instances.c.series_instance_uid, instances.c.role, instances.c.received_at,
    instances.c.superseded_at, instances.c.calling_ae_title, instances.c.called_ae_title, instances.c.source_host,
)  # fmt: skip


class Added(StrEnum):
    """What an arrival was. All but a duplicate are kept as versions of their own."""

    NEW = "NEW"
    #: The same bytes again, or a record that settles once more after a crash.
    DUPLICATE = "DUPLICATE"
    #: It takes the place of the version that was in use until now.
    CORRECTION = "CORRECTION"
    #: The same object in another encoding: the version in use stays.
    OTHER_ENCODING = "OTHER_ENCODING"
    #: It was overtaken by a later arrival, or is no image where one is in use: the version in use stays.
    NOT_USED = "NOT_USED"


@dataclass(slots=True)
class Version:
    """One version, as the index has it or will have it when its batch is entered (`id` is `None` then)."""

    id: int | None
    sha256: str
    object_key: str
    study_instance_uid: str
    series_instance_uid: str
    role: InstanceRole
    received_at: datetime
    sender: SendingPeer
    superseded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an arrival was; of a correction also whose place it takes, and in what the two differ."""

    added: Added
    before: Version | None = None
    difference: Difference = field(default_factory=Difference)


@dataclass(slots=True)
class Versions:
    """All versions of one SOP Instance UID. `fresh` are those that the index has not yet, with what they came from;
    `moved` those that it has and that are in use no more, or again; `uncompared` are pairs nobody has looked at."""

    all: list[Version] = field(default_factory=list)
    fresh: list[tuple[Instance, Version]] = field(default_factory=list)
    moved: list[Version] = field(default_factory=list)
    uncompared: list[tuple[Version, Instance]] = field(default_factory=list)

    @property
    def in_use(self) -> Version | None:
        """The version that images are read from; `None` where there is none yet."""
        return next((one for one in self.all if one.superseded_at is None), None)

    def enter(self, arrival: Instance, role: InstanceRole, comparison: Comparison) -> Verdict:
        """Say what an arrival is, and put it in its place among the others."""
        known = next((one for one in self.all if one.sha256 == arrival.sha256), None)
        verdict = self._weigh(arrival, role, known, comparison)
        if verdict.added is Added.CORRECTION:
            self._supersede(arrival.received_at)
            if known is not None:
                known.superseded_at = None
                self.moved.append(known)
        if known is None:
            is_used = verdict.added in (Added.NEW, Added.CORRECTION)
            version = _version(arrival, role, None if is_used else arrival.received_at)
            self.all.append(version)
            self.fresh.append((arrival, version))
        return verdict

    def _weigh(self, arrival: Instance, role: InstanceRole, known: Version | None, comparison: Comparison) -> Verdict:
        old = self.in_use
        if old is None:
            return Verdict(Added.NEW)
        if known is old:
            return Verdict(Added.DUPLICATE)
        if self._is_overtaken(arrival, known) or (old.role is InstanceRole.SOURCE and role is not old.role):
            return Verdict(Added.NOT_USED if known is None else Added.DUPLICATE)
        compared = comparison.of(old.sha256, arrival.sha256)
        if compared is None:
            self.uncompared.append((old, arrival))
        difference = _with_place(compared or NOT_COMPARED, old, arrival)
        if difference.is_encoding_only:
            return Verdict(Added.OTHER_ENCODING if known is None else Added.DUPLICATE)
        return Verdict(Added.CORRECTION, old, difference)

    def _is_overtaken(self, arrival: Instance, known: Version | None) -> bool:
        """Tell whether the version in use arrived later.

        A crash or a failed batch brings the same record again, at its old time; one that comes anew has a later one.
        """
        since = max(one.superseded_at or one.received_at for one in self.all)
        return arrival.received_at < since or (known is not None and arrival.received_at == since)

    def _supersede(self, at: datetime) -> None:
        old = self.in_use
        if old is not None:
            old.superseded_at = at
            self.moved.append(old)


def in_use_of(connection: Connection, sop_instance_uids: Collection[str]) -> dict[str, Row[Any]]:
    """Return, by SOP Instance UID, what tells whether an arrival is the version in use: no more, for nearly all are."""
    columns: tuple[Column[Any], ...] = (
        instances.c.id, instances.c.sop_instance_uid, instances.c.sha256, instances.c.calling_ae_title,
    )  # fmt: skip
    query = select(*columns).where(instances.c.sop_instance_uid.in_(set(sop_instance_uids)), IN_USE)
    return {row.sop_instance_uid: row for row in connection.execute(query)}


def require_compared(known: Collection[Versions], comparison: Comparison) -> None:
    """Raise `NotYetCompared` where a comparison that asks lacks a pair."""
    pairs = [pair for versions in known for pair in versions.uncompared]
    if pairs and comparison.asks:
        raise NotYetCompared(
            {
                (StoredVersion(old.sha256, old.object_key), StoredVersion(new.sha256, new.object_key))
                for old, new in pairs
            },
            {old.study_instance_uid for old, _ in pairs},
        )


def versions_of(connection: Connection, sop_instance_uids: Collection[str]) -> dict[str, Versions]:
    """Return what is there already of these instances."""
    found: dict[str, Versions] = {}
    uids = sorted(set(sop_instance_uids))
    for start in range(0, len(uids), _UIDS_PER_QUERY):
        wanted = instances.c.sop_instance_uid.in_(uids[start : start + _UIDS_PER_QUERY])
        for row in connection.execute(select(*_COLUMNS).where(wanted).order_by(instances.c.id)):
            found.setdefault(row.sop_instance_uid, Versions()).all.append(_version_of_row(row))
    return found


def save_places(connection: Connection, moved: Sequence[Version]) -> None:
    """Write which versions in the index are in use no more, and then which are again."""
    places = {one.id: one.superseded_at for one in moved if one.id is not None}
    statement = update(instances).where(instances.c.id == bindparam("key"))
    statement = statement.values(superseded_at=bindparam("at"))
    gone = [{"key": key, "at": at} for key, at in sorted(places.items()) if at is not None]
    back = [{"key": key, "at": at} for key, at in sorted(places.items()) if at is None]
    for rows in (gone, back):  # never two in use, not even between two statements
        if rows:
            connection.execute(statement, rows)


def _with_place(difference: Difference, old: Version, new: Instance) -> Difference:
    """Name the UIDs that say where an instance belongs even where nothing else was compared."""
    places = (
        ("StudyInstanceUID", old.study_instance_uid, new.study_instance_uid),
        ("SeriesInstanceUID", old.series_instance_uid, new.series_instance_uid),
    )
    named = {keyword for keyword, before, now in places if before != now}
    return Difference(tuple(sorted({*difference.keywords, *named})), difference.pixels)


def _version(arrival: Instance, role: InstanceRole, superseded_at: datetime | None) -> Version:
    return Version(
        None, arrival.sha256, arrival.object_key, arrival.study_instance_uid, arrival.series_instance_uid, role,
        arrival.received_at, arrival.sender, superseded_at,
    )  # fmt: skip


def _version_of_row(row: Row[Any]) -> Version:
    return Version(
        row.id, row.sha256, row.object_key, row.study_instance_uid, row.series_instance_uid, InstanceRole(row.role),
        row.received_at, SendingPeer(row.calling_ae_title, row.called_ae_title, row.source_host), row.superseded_at,
    )  # fmt: skip


#: Kind of the timeline's line where images of a study were corrected or left it; its detail has the `revision` from
#: which on that counts. The other kind is about images that only came here from another study.
CORRECTED, _CAME = "corrected", "moved-here"
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

    @property
    def corrections(self) -> Sequence[Correction]:
        """All that changes what earlier results rest upon."""
        return [one for one in self.corrected if not one.is_moved] + self.left

    @property
    def last_received_at(self) -> datetime | None:
        """When the latest of what changes the study's images came."""
        changes = [*self.images, *(one.now for one in (*self.corrected, *self.left))]
        return max((one.received_at for one in changes), default=None)


def correction_line(news: StudyNews) -> tuple[str, str] | None:
    """Return the line of the timeline about corrected, come and gone images; `None` where there are none."""
    came = [one for one in news.corrected if one.is_moved]
    stayed = [one for one in news.corrected if not one.is_moved]
    told = []
    if stayed:
        told.append(f"{_images(len(stayed))} came again, corrected{_sent_by(stayed)}.")
    if came:
        studies = _studies({one.before.study_instance_uid for one in came})
        told.append(f"{_images(len(came))} came here from {studies}{_sent_by(came)}.")
    if news.left:
        told.append(f"{_images(len(news.left))} belong{'s' * (len(news.left) == 1)} to {left_for(news)} now"
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
        "senders": sorted({_name(one.now.sender) for one in all_of_them}),
        "senders_before": sorted({_name(one.before.sender) for one in all_of_them}),
    }


def left_for(news: StudyNews) -> str:
    """Name the studies to which images went."""
    return _studies({one.now.study_instance_uid for one in news.left})


def withdraw_what_rests_on(connection: Connection, study: Any, news: StudyNews, at: datetime) -> None:
    """Withdraw the study's results: they speak of images that were corrected or belong elsewhere."""
    if not news.corrections:
        return
    changed = ", ".join(_keywords(news.corrections)[:_LISTED]) or "the pixels"
    reason = f"Images it rests on were corrected{_sent_by(news.corrections)}; changed: {changed}."
    withdraw_results(
        connection, study.study_instance_uid, reason, Change(at, ("withdrawn", f"The result was withdrawn. {reason}"))
    )


def warn_of(study_instance_uid: str, news: StudyNews) -> None:
    """Log what may be no correction but a replacement: other pixels, or another sender than before."""
    odd = [one for one in (*news.corrected, *news.left) if _suspicions([one])]
    if odd:
        senders = ", ".join(sorted({_name(one.now.sender) for one in odd}))
        what = {"study": study_instance_uid, "images": len(odd), "senders": senders, "why": " ".join(_suspicions(odd))}
        _log.warning("images were replaced", extra=what)


def is_corrected_since(connection: Connection, study_instance_uid: str, revision: int) -> bool:
    """Tell whether images that a revision was made of have been corrected since."""
    told = select(events.c.detail).where(events.c.study_instance_uid == study_instance_uid, events.c.kind == CORRECTED)
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
        named = ", ".join(sorted({_name(one) for one in senders_before}))
        found.append(f"Another sender than before, which was {named}.")
    return found


def is_other_sender(before: SendingPeer, now: SendingPeer) -> bool:
    """Tell senders apart by title and address; one that nobody remembers (it was found in the spool) is none."""
    return bool(before.calling_ae_title) and (before.calling_ae_title, before.host) != (now.calling_ae_title, now.host)


def _keywords(corrections: Sequence[Correction]) -> list[str]:
    return sorted({keyword for one in corrections for keyword in one.difference.keywords})


def _sent_by(corrections: Sequence[Correction]) -> str:
    names = sorted({_name(one.now.sender) for one in corrections})
    return f", sent by {' and '.join(names)}"


def _name(sender: SendingPeer) -> str:
    return f"{sender.calling_ae_title} at {sender.host}" if sender.calling_ae_title else "an unknown sender"


def _studies(uids: set[str]) -> str:
    first, *others = sorted(uids)
    return f"study {first}" + (f" and {len(others)} more" if others else "")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
