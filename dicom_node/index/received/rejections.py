"""Images that a rejection note names are kept, and analysed no more; results that rest on them are withdrawn.

Which images are rejected follows from the notes in use and from nothing else, so that it makes no difference whether
the note came before its images or after the result, once or twice; a corrected note gives back what it does not name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, select, update

from dicom_node.core.entities import InstanceRole, SendingPeer
from dicom_node.core.received.rejections import KEY_OBJECT_SELECTION, RejectionNote, rejection_in
from dicom_node.core.received.versions import Comparison, NotYetCompared, StoredVersion
from dicom_node.index.received.corrections import REJECTED, RejectionNews, StudyNews, counted_images, named_sender
from dicom_node.index.tables import artifacts, events, instances, results
from dicom_node.index.versions import IN_USE, IS_IMAGE

#: Kind of the timeline's line about a note that changes nothing now; about one that does, it is `REJECTED`.
NOTED = "rejection-note"
_IS_NOTE = and_(instances.c.sop_class_uid == KEY_OBJECT_SELECTION, instances.c.role == InstanceRole.EVIDENCE)


@dataclass(frozen=True, slots=True)
class _Note:
    row: Row[Any]
    rejection: RejectionNote

    @property
    def name(self) -> str:
        sender = SendingPeer(self.row.calling_ae_title, self.row.called_ae_title, self.row.source_host)
        return f"Note {self.row.sop_instance_uid}, {self.rejection.title}, sent by {named_sender(sender)},"


@dataclass(frozen=True, slots=True)
class _Notes:
    """The notes in use of one study, its images in use, and the note that rejects each image, by the image's UID."""

    all: Sequence[_Note]
    foreign: Sequence[_Note]
    images: Sequence[Row[Any]]
    rejecting: Mapping[str, _Note]

    def images_to(self, become: InstanceRole) -> list[Row[Any]]:
        """Return the images that are to become rejected, or a source again."""
        is_to = become is InstanceRole.REJECTED
        return [row for row in self.images if row.role != become and (row.sop_instance_uid in self.rejecting) is is_to]


def settle_rejections(connection: Connection, news: Mapping[str, StudyNews], comparison: Comparison) -> None:
    """Bring the images of each study up to date with its notes, and add to its news what that changed.

    Studies without notes, nearly all, cost one look at the timeline. Raises `NotYetCompared` where it is not known yet
    whether a note is about the patient of the images.
    """
    concerned = {
        uid: (_in_use(connection, uid, IS_IMAGE), _notes_in(connection, uid))
        for uid, of_study in news.items()
        if of_study.notes or (of_study.images and _has_notes(connection, uid))
    }
    _require_compared(
        [(images[0], note) for images, notes in concerned.values() for note in notes if images], comparison
    )
    for uid, (images, notes) in concerned.items():
        _settle(connection, news[uid], _notes_of(images, notes, comparison))


def _has_notes(connection: Connection, uid: str) -> bool:
    told = select(events.c.id).where(events.c.study_instance_uid == uid, events.c.kind.in_((NOTED, REJECTED)))
    return connection.execute(told.limit(1)).first() is not None


def _settle(connection: Connection, news: StudyNews, notes: _Notes) -> None:
    rejected, restored = map(notes.images_to, (InstanceRole.REJECTED, InstanceRole.SOURCE))
    for role, rows in ((InstanceRole.REJECTED, rejected), (InstanceRole.SOURCE, restored)):
        _give_role(connection, rows, role)
    came = {one.sop_instance_uid for one in news.images}
    news.images = [one for one in news.images if one.sop_instance_uid not in notes.rejecting]
    taken = [row for row in rejected if row.sop_instance_uid not in came]
    told = [*_effects(rejected, notes), *_without_effect(connection, news, notes)]
    if restored:
        told.append(f"{counted_images(len(restored))} that no note names any more can be analysed again.")
    if told:
        at = [*(one.received_at for one in news.notes), *(row.received_at for row in (*rejected, *restored))]
        news.rejection = RejectionNews(
            at=max(at), text=" ".join(told),
            kind=REJECTED if rejected or restored else NOTED, taken=len(taken), restored=len(restored),
            series=frozenset(row.series_instance_uid for row in taken),
            notes=tuple(sorted({notes.rejecting[row.sop_instance_uid].row.sop_instance_uid for row in rejected})),
        )  # fmt: skip


# --- what the notes say --------------------------------------------------------------------------------------------


def _notes_in(connection: Connection, uid: str) -> list[_Note]:
    read = [(row, rejection_in(row.attributes)) for row in _in_use(connection, uid, _IS_NOTE)]
    return [_Note(row, rejection) for row, rejection in read if rejection is not None]


def _notes_of(images: Sequence[Row[Any]], notes: Sequence[_Note], comparison: Comparison) -> _Notes:
    """Tell the notes that are about another patient than the first image from those that reject."""
    foreign = [note for note in notes if images and _is_of_other_patient(images[0], note, comparison)]
    rejecting = {named: note for note in notes if note not in foreign for named in note.rejection.named}
    return _Notes(notes, foreign, images, rejecting)


def _is_of_other_patient(image: Row[Any], note: _Note, comparison: Comparison) -> bool:
    difference = comparison.of(image.sha256, note.row.sha256)
    return difference is not None and difference.is_other_patient


def _require_compared(pairs: Sequence[tuple[Row[Any], _Note]], comparison: Comparison) -> None:
    lacking = [(image, note.row) for image, note in pairs if comparison.of(image.sha256, note.row.sha256) is None]
    if lacking and comparison.asks:
        stored = {(_stored(image), _stored(note)) for image, note in lacking}
        raise NotYetCompared(stored, {image.study_instance_uid for image, _ in lacking})


def _stored(row: Row[Any]) -> StoredVersion:
    return StoredVersion(row.sha256, row.object_key)


def _in_use(connection: Connection, uid: str, which: ColumnElement[bool]) -> Sequence[Row[Any]]:
    query = select(instances).where(instances.c.study_instance_uid == uid, which, IN_USE)
    return connection.execute(query.order_by(instances.c.id)).all()


def _give_role(connection: Connection, rows: Collection[Row[Any]], role: InstanceRole) -> None:
    if rows:
        statement = update(instances).where(instances.c.id == bindparam("key")).values(role=role)
        connection.execute(statement, [{"key": row.id} for row in rows])


# --- what the timeline says of them --------------------------------------------------------------------------------


def _effects(rejected: Sequence[Row[Any]], notes: _Notes) -> Iterator[str]:
    counts = Counter(notes.rejecting[row.sop_instance_uid].row.id for row in rejected)
    for note in notes.all:
        if note.row.id in counts:
            yield f"{note.name} rejects {counted_images(counts[note.row.id])}: analysed no more."


def _without_effect(connection: Connection, news: StudyNews, notes: _Notes) -> Iterator[str]:
    """Say of notes that have just come what they do not do."""
    came = {one.sop_instance_uid for one in news.notes}
    here = {row.sop_instance_uid for row in notes.images}
    for note in notes.all:
        if note.row.sop_instance_uid not in came:
            continue
        named, elsewhere = note.rejection.named, note.rejection.elsewhere
        if note in notes.foreign:
            yield f"{note.name} has no effect: it is about another patient than the images."
        elif not named & here:
            yield f"{note.name} names {counted_images(len(named))}, none of which is here."
        if elsewhere:
            yield f"{note.name} names {counted_images(elsewhere)} of other studies: those need a note of their own."
        own = named & _own_objects(connection, note.row.study_instance_uid)
        if own:
            objects = "1 object" if len(own) == 1 else f"{len(own)} objects"
            yield f"{note.name} names {objects} made by this node: to take a result back, use `dicom-node withdraw`."


def _own_objects(connection: Connection, uid: str) -> set[str]:
    made = select(artifacts.c.uid).join(results, results.c.job_key == artifacts.c.job_key)
    return set(connection.execute(made.where(results.c.study_instance_uid == uid)).scalars())
