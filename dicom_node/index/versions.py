"""The versions of an instance: all are kept, the one that arrived last is in use.

In use is the row without `superseded_at`; there is exactly one for each SOP Instance UID, which an index holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, Row, and_, bindparam, select, update

from dicom_node.core.entities import Instance, InstanceRole, SendingPeer
from dicom_node.core.received.versions import NOT_COMPARED, Comparison, Difference, NotYetCompared, StoredVersion
from dicom_node.index.database import is_among
from dicom_node.index.tables import instances

#: The version of an instance that is read; those of them that are images, not results or evidence; and images of
#: whatever version, the rejected ones too.
IN_USE = instances.c.superseded_at.is_(None)
IS_SOURCE = and_(instances.c.role == InstanceRole.SOURCE, IN_USE)
IS_IMAGE = instances.c.role.in_((InstanceRole.SOURCE, InstanceRole.REJECTED))

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
    query = select(*columns).where(is_among(instances.c.sop_instance_uid, set(sop_instance_uids)), IN_USE)
    return {row.sop_instance_uid: row for row in connection.execute(query)}


def require_compared(
    known: Collection[Versions], also: Mapping[tuple[StoredVersion, StoredVersion], str], comparison: Comparison
) -> None:
    """Raise `NotYetCompared` where a comparison that asks lacks a pair; `also` are others that it lacks, each with the
    study of the old one."""
    studies_of = dict(also)
    for old, new in (pair for versions in known for pair in versions.uncompared):
        pair = (StoredVersion(old.sha256, old.object_key), StoredVersion(new.sha256, new.object_key))
        studies_of[pair] = old.study_instance_uid
    if studies_of and comparison.asks:
        raise NotYetCompared(studies_of.keys(), set(studies_of.values()))


def versions_of(connection: Connection, sop_instance_uids: Collection[str]) -> dict[str, Versions]:
    """Return what is there already of these instances."""
    found: dict[str, Versions] = {}
    uids = sorted(set(sop_instance_uids))
    for start in range(0, len(uids), _UIDS_PER_QUERY):
        wanted = is_among(instances.c.sop_instance_uid, uids[start : start + _UIDS_PER_QUERY])
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
    return replace(difference, keywords=tuple(sorted({*difference.keywords, *named})))


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
