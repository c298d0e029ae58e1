"""Takes back what a destination shows of withdrawn results: makes what says so, once, and owes it before all else.

A PACS is owed a report that follows the one it has and, where its option `rejection_note` is on, the note that has
viewers hide the objects; an EHR its own report as entered in error, or a message that says so. The bytes are kept like
those of a result; what was kept of a result is read only where its bytes are still those that were written.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.written import WrittenObject
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Artifact, ArtifactKind, MediaType
from dicom_node.core.errors import DeliveryRefused, IndexUnavailable, NodeError
from dicom_node.core.outputs.artifact_kinds import REPORTS, OutputSet, is_off
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.profiles import Profiles
from dicom_node.fhir.builders.retraction import Retraction, retraction_bundle, with_studies_standing
from dicom_node.fhir.hl7.message import WithdrawnMessages, withdrawal_message
from dicom_node.fhir.json_types import Json, to_json_bytes
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.index.damage import note_damaged, objects_at
from dicom_node.index.database import Database, store_id
from dicom_node.index.outbox import withdrawals
from dicom_node.index.outbox.withdrawals import TakenBack
from dicom_node.sr_writer.copied import COPIED, writable
from dicom_node.sr_writer.documents.withdrawal import Withdrawal, withdrawal_note, withdrawal_report
from dicom_node.sr_writer.writing import to_part10
from dicom_node.storage.spool import Spool

#: So often a withdrawal is tried again that could not be made: each time the objects it is about are read as a whole.
_AGAIN_S = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who says that a result is withdrawn, as the settings have it."""

    ae_title: str = "AINODE"
    intended_use: str = "clinical"
    time_zone_name: str = ""


def speaker_of(settings: Settings) -> Speaker:
    """Return who a node with these settings is."""
    node = settings.node
    return Speaker(ae_title=node.ae_title, intended_use=node.intended_use, time_zone_name=node.time_zone)


class WithdrawalPlanner:
    """Finds out what one destination shows of withdrawn results, and owes it what takes that back."""

    def __init__(self, profiles: Profiles | None = None, speaker: Speaker | None = None) -> None:
        self._profiles = profiles or Profiles()
        self._speaker = speaker or Speaker()
        #: Job keys of results of which nothing could be made that takes them back, and when that is tried again.
        self._not_made: dict[str, float] = {}

    def plan(self, database: Database, spool: Spool, destination: str) -> None:
        """Plan what is due. What is killed in the midst is found again, since nothing counts but the last step.

        What cannot be made now (the disk is full) holds up what is new of its own study, and nothing else.
        """
        now = _now()
        with database.read() as connection:
            if not withdrawals.is_any_withdrawn(connection, destination, now):
                return
        with database.write() as connection:
            withdrawals.end_unsent_at(connection, destination, now)
            outputs = self._profiles.fitted(connection, destination).outputs
            due = withdrawals.due_at(connection, destination)
            node = store_id(connection) or derived_uid("node", self._speaker.ae_title)
        for taken in due:
            if time.monotonic() < self._not_made.get(taken.job_key, 0.0):
                continue
            try:
                kept = KeptObjects(spool)
                made = tuple(self._made(kept, taken, outputs, node))
                self._owe(database, taken, made, kept.damaged)
            except IndexUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - the delivery door: one withdrawal must not hold up other studies
                self._put_off(taken, error)

    def _owe(self, database: Database, taken: TakenBack, made: Sequence[Artifact], damaged: Sequence[str]) -> None:
        now = _now()
        with database.write() as connection:
            is_owed = withdrawals.owe_withdrawal(connection, taken, made, now)
            note_damaged(connection, objects_at(connection, damaged), now)
        self._not_made.pop(taken.job_key, None)
        if is_owed:
            _tell(taken, made)

    def _put_off(self, taken: TakenBack, error: Exception) -> None:
        """Try again in a while, and say so once."""
        if taken.job_key not in self._not_made:
            why = str(error) if isinstance(error, NodeError) else f"Unexpected {type(error).__name__}."
            what = {"destination": taken.destination, "study": taken.study_instance_uid, "why": why}
            _log.error("withdrawal not made", extra=what, exc_info=error)
        self._not_made[taken.job_key] = time.monotonic() + _AGAIN_S

    def _made(self, kept: KeptObjects, taken: TakenBack, outputs: OutputSet, node: str) -> Iterator[Artifact]:
        if any(one.media_type == MediaType.DICOM for one in taken.objects):
            for written in _documents(self._told(kept, taken), taken, outputs):
                yield _stored(kept.spool, written)
        if any(one.media_type == MediaType.FHIR for one in taken.objects):
            yield _stored_retraction(kept, taken, node)
        if any(one.kind is ArtifactKind.HL7_MESSAGE for one in taken.objects):
            yield _stored_message(kept, taken)

    def _told(self, kept: KeptObjects, taken: TakenBack) -> Withdrawal:
        speaker = self._speaker
        return Withdrawal(
            job_key=taken.job_key, model=taken.model, route=taken.route, reason=taken.reason, at=taken.at,
            ae_title=speaker.ae_title, intended_use=speaker.intended_use, time_zone_name=speaker.time_zone_name,
            objects=_own_headers(kept, taken), source=kept.header(taken.source_key),
        )  # fmt: skip


def _documents(told: Withdrawal, taken: TakenBack, outputs: OutputSet) -> Iterator[WrittenObject]:
    """Yield what the destination takes: the report in the class in which it has the report that is withdrawn."""
    shown = [one.sop_class_uid for one in taken.objects if one.kind is ArtifactKind.STRUCTURED_REPORT]
    wanted = [] if is_off(outputs.structured_report) else [REPORTS[outputs.structured_report]]
    for sop_class_uid in [*shown, *wanted][:1]:
        yield withdrawal_report(told, sop_class_uid)
    if outputs.rejection_note:
        yield withdrawal_note(told)


def _own_headers(kept: KeptObjects, taken: TakenBack) -> list[Dataset]:
    """Return the headers of what is taken back, those first that are as they were written.

    Of a damaged one what the index knows, with patient and study as another object of the result has them, or the
    image as it was when the result was made.
    """
    objects = [one for one in taken.objects if one.media_type == MediaType.DICOM]
    found = [(one, kept.header(one.object_key)) for one in objects]
    whole = [header for _, header in found if header is not None]
    damaged = [one for one, header in found if header is None]
    if not damaged:
        return whole
    whose = whole[0] if whole else kept.header(taken.basis_key) or Dataset()
    return [*whole, *(_known_header(one, taken, whose) for one in damaged)]


def _known_header(artifact: Artifact, taken: TakenBack, whose: Dataset) -> Dataset:
    valid, known = writable(whose), Dataset()
    for keyword in COPIED:
        if keyword in valid:
            known[keyword] = valid[keyword]
    known.SOPClassUID, known.SOPInstanceUID = artifact.sop_class_uid, artifact.uid
    known.StudyInstanceUID, known.SeriesInstanceUID = taken.study_instance_uid, artifact.series_instance_uid
    known.Modality = "SR" if artifact.kind is ArtifactKind.STRUCTURED_REPORT else "OT"
    known.InstanceNumber = taken.sequence
    return known


def _stored(spool: Spool, written: WrittenObject) -> Artifact:
    dataset = written.dataset
    stored = spool.put([to_part10(dataset)], ".result")
    return Artifact(
        uid=str(dataset.SOPInstanceUID), kind=written.kind, media_type=MediaType.DICOM, object_key=stored.key,
        sha256=stored.sha256, size_bytes=stored.size_bytes, order=written.order, description=written.description,
        sop_class_uid=str(dataset.SOPClassUID), series_instance_uid=str(dataset.SeriesInstanceUID),
    )  # fmt: skip


def _stored_retraction(kept: KeptObjects, taken: TakenBack, node: str) -> Artifact:
    sent = [one for one in taken.objects if one.kind is ArtifactKind.FHIR_BUNDLE]
    bundles = [bundle for one in sent if (bundle := kept.bundle(one.object_key))]
    told = Retraction(
        study_instance_uid=taken.study_instance_uid, node=node, line=taken.line, job_keys=taken.job_keys,
        bundles=bundles, reason=taken.reason, at=taken.at,
    )  # fmt: skip
    retraction = retraction_bundle(told)
    if not taken.is_last_of_study:
        retraction = with_studies_standing(retraction)
    stored = kept.spool.put([to_json_bytes(retraction)], ".json")
    scope = "whole" if taken.is_last_of_study else "without-studies"
    return Artifact(
        uid=derived_uid("fhir-withdrawal", scope, *(one.uid for one in sent)), kind=ArtifactKind.FHIR_BUNDLE,
        media_type=MediaType.FHIR, object_key=stored.key, sha256=stored.sha256, size_bytes=stored.size_bytes, order=3,
        description="Withdrawal of the FHIR report",
    )  # fmt: skip


def _stored_message(kept: KeptObjects, taken: TakenBack) -> Artifact:
    """Return the message that takes back what messages have told. Raises `DeliveryRefused` where none can be read."""
    sent = [one for one in taken.objects if one.kind is ArtifactKind.HL7_MESSAGE]
    messages = [text for one in sent if (text := kept.text(one.object_key))]
    if not messages:
        raise DeliveryRefused(
            f"The messages that {taken.destination} was sent are damaged, so nothing can be made that takes them back; "
            "tell its readers, or restore the spool from a backup."
        )
    uid = derived_uid("hl7-withdrawal", *(one.uid for one in sent))
    told = withdrawal_message(WithdrawnMessages(messages=messages, reason=taken.reason, at=taken.at), uid)
    stored = kept.spool.put([told.encode()], ".hl7")
    return Artifact(
        uid=uid, kind=ArtifactKind.HL7_MESSAGE, media_type=MediaType.HL7, object_key=stored.key,
        sha256=stored.sha256, size_bytes=stored.size_bytes, order=4, description="Withdrawal of the HL7 message",
    )  # fmt: skip


def _tell(taken: TakenBack, made: Sequence[Artifact]) -> None:
    what = {"destination": taken.destination, "study": taken.study_instance_uid, "objects": len(taken.objects)}
    if made:
        _log.info("withdrawal planned", extra=what | {"by": [one.kind.value for one in made]})
    else:
        advice = "It takes neither a report nor a rejection note: tell those who read it."
        _log.error("withdrawal impossible", extra=what | {"advice": advice})


def tell_out_of_reach(database: Database, names: Collection[str]) -> None:
    """Say once of each study what former destinations, those not among `names`, show of its withdrawn results."""
    with database.read() as connection:
        found = withdrawals.out_of_reach(connection, names)
    for one in found:
        with database.write() as connection:
            withdrawals.note_out_of_reach(connection, one, _now())
        what = {"destination": one.destination, "study": one.study_instance_uid, "objects": len(one.delivery_ids)}
        _log.error("withdrawal impossible", extra=what | {"advice": one.sentence})


def _now() -> datetime:
    return datetime.now(UTC)


class KeptObjects:
    """Reads objects of the spool; `damaged` are the keys of those that are gone or hold other bytes."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.damaged: list[str] = []

    def header(self, key: str) -> Dataset | None:
        """Return the header of a DICOM object, `None` where it is damaged or there is none (no key)."""
        if not self._is_whole(key):
            return None
        try:
            return dcmread(self.spool.path(key), stop_before_pixels=True)
        except (OSError, *READ_ERRORS) as error:  # an image may have come as it is
            _log.error("object unreadable for a withdrawal", extra={"object_key": key, "why": type(error).__name__})
            return None

    def bundle(self, key: str) -> Json | None:
        """Return a FHIR bundle, `None` where it is damaged."""
        if not self._is_whole(key):
            return None
        found: Any = json.loads(self.spool.path(key).read_bytes())
        return found if isinstance(found, dict) else None

    def text(self, key: str) -> str:
        """Return an HL7 message, empty where it is damaged."""
        return self.spool.path(key).read_bytes().decode("utf-8") if self._is_whole(key) else ""

    def _is_whole(self, key: str) -> bool:
        if not key or self.spool.is_whole(key):
            return bool(key)
        _log.error("object is damaged", extra={"object_key": key, "wanted_for": "a withdrawal, made without it"})
        self.damaged.append(key)
        return False
