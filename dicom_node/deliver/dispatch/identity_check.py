"""Asks a destination, just before a result is sent, whether it still has the study under the same patient.

An archive corrects and merges patients without a word to those who were sent the images before; what a result is filed
under is the patient that its objects name. Why this is asked and what follows: docs/decisions/0016.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pydicom

from dicom_node.config.settings import Settings
from dicom_node.core.entities import MediaType, PatientNumber
from dicom_node.core.errors import DeliveryDeferred, QueryNotOffered
from dicom_node.core.reasons import IDENTITY_CHANGED
from dicom_node.deliver.kinds.kind import DestinationKind, IdentityQuery, caller_of
from dicom_node.headers.patient import COMPARED, PatientComparison, Said, compare, said_in
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.index.database import Database
from dicom_node.index.lineage import result_series
from dicom_node.index.outbox import destinations as peers
from dicom_node.index.outbox.deliveries import DeliveryBatch
from dicom_node.index.received.patients import prior_numbers
from dicom_node.index.transitions import record
from dicom_node.storage.spool import Spool

#: So long an answer holds for what else is owed of the same study.
_ANSWER_HOLDS_S = 5.0
#: What the timeline calls the lines written here.
_TOLD = "identity"
_NOT_MERGED_YET = (
    "It still has this study under the patient's number from before a merge. The result waits until it has followed; "
    "where it never does, merge the patient there, or discard this delivery."
)
_log = logging.getLogger(__name__)


class IdentityCheck:
    """One destination: `peer` is its name and the address under which it is remembered, `query` asks it."""

    def __init__(self, peer: tuple[str, str], query: IdentityQuery, authority: str = "") -> None:
        """`authority` gave out the patient numbers of images that name nobody."""
        self._authority = authority
        self._peer = peer
        self._query = query
        #: Study, answer, and until when it holds; one that had a result held does not, for a person may see to it now.
        self._last: tuple[str, Sequence[Said], float] = ("", (), 0.0)

    def why_held(self, database: Database, spool: Spool, batch: DeliveryBatch) -> str:
        """Return why a result must not be sent as it is; empty: nothing speaks against it.

        Raises `DeliveryDeferred` while the destination does not answer.
        """
        ours = _said_in_objects(spool, batch)
        with database.read() as connection:
            known = peers.recall(connection, *self._peer)
        if ours is None or (known and known.unasked_since(_now())):
            return ""
        try:
            answered = self._answer(batch.study_instance_uid)
            comparisons = [compare(ours, one) for one in answered]
        except QueryNotOffered as error:
            self._note_unasked(database, batch, str(error))
            return ""
        if known and known.query_refused_at:
            self._note_answered(database)
        if comparisons and all(one.is_other_patient for one in comparisons):
            self._last = ("", (), 0.0)
            if self._has_only_ours(database, batch.study_instance_uid):
                return ""
            self._wait_for_merge(database, ours, answered)
            return _held(comparisons[0])
        self._tell_differences(database, batch, comparisons)
        return ""

    def _wait_for_merge(self, database: Database, ours: Said, theirs: Sequence[Said]) -> None:
        """Raise `DeliveryDeferred` where the destination still has the study under a number that a registration has
        given up for ours: it hears of that in its own time, and then the result is due."""
        authority = ours.get("IssuerOfPatientID") or self._authority
        with database.read() as connection:
            prior = prior_numbers(connection, PatientNumber(ours.get("PatientID", ""), authority))
        if any(one.get("PatientID", "") in {number.value for number in prior} for one in theirs):
            raise DeliveryDeferred(_NOT_MERGED_YET)

    def _answer(self, study_instance_uid: str) -> Sequence[Said]:
        study, answer, until = self._last
        if study != study_instance_uid or time.monotonic() > until:
            answer = self._query.whose(study_instance_uid)
            self._last = (study_instance_uid, answer, time.monotonic() + _ANSWER_HOLDS_S)
        return answer

    def _has_only_ours(self, database: Database, study_instance_uid: str) -> bool:
        """Tell whether all that the destination has of the study are results from here: they were filed under whom the
        images named before they were corrected, and say nothing of whom the destination itself takes the study for."""
        try:
            series = set(self._query.series(study_instance_uid))
        except QueryNotOffered:
            return False
        with database.read() as connection:
            return bool(series) and series <= result_series(connection, study_instance_uid)

    # --- what cannot be asked ---

    def _note_unasked(self, database: Database, batch: DeliveryBatch, why: str) -> None:
        """Remember it for a while, and tell it where it is news."""
        name, now = self._peer[0], _now()
        with database.write() as connection:
            is_news = peers.note_query_refusal(connection, self._peer, now)
            if is_news:
                text = f"{name} cannot be asked whose study it has; results are sent to it unasked. {why}"
                record(connection, batch.study_instance_uid, now, (_TOLD, text))
        if is_news:
            _log.warning("destination cannot be asked whose study it has", extra={"destination": name, "why": why})

    def _note_answered(self, database: Database) -> None:
        with database.write() as connection:
            peers.note_query_answered(connection, self._peer)
        _log.info("destination says whose study it has", extra={"destination": self._peer[0]})

    # --- what differs and makes no other patient ---

    def _tell_differences(
        self, database: Database, batch: DeliveryBatch, comparisons: Sequence[PatientComparison]
    ) -> None:
        """Say which attributes differ from those of the destination; another patient may be among its answers, too."""
        same = next((one for one in comparisons if not one.is_other_patient), None)
        told = []
        if same and same.differing:
            told.append(f"{batch.destination} has this patient with another {_listed(same)}.")
        if any(one.is_other_patient for one in comparisons):
            told.append(f"{batch.destination} has this study under another patient, too.")
        if told:
            with database.write() as connection:
                text = " ".join((*told, "The result is sent as it is."))
                record(connection, batch.study_instance_uid, _now(), (_TOLD, text))


def identity_check(destination: DestinationKind, settings: Settings) -> IdentityCheck | None:
    """Return what asks a destination; `None` for one that is not asked."""
    query = destination.identity_query(caller_of(settings))
    peer = (destination.name, destination.address)
    return IdentityCheck(peer, query, settings.hl7.patient_authority) if query else None


def _said_in_objects(spool: Spool, batch: DeliveryBatch) -> Said | None:
    """Return what the objects of a result say of their patient; all say the same, so the smallest is read.

    `None` where it cannot be read: whoever sends it finds that out and says so.
    """
    objects = [item.artifact for item in batch.items if item.artifact.media_type == MediaType.DICOM]
    if not objects:
        return None
    smallest = min(objects, key=lambda one: one.size_bytes)
    try:
        header = pydicom.dcmread(
            spool.path(smallest.object_key), stop_before_pixels=True, specific_tags=["SpecificCharacterSet", *COMPARED]
        )
        return said_in(header)
    except (OSError, *READ_ERRORS):
        return None


def _held(comparison: PatientComparison) -> str:
    return (
        f"{IDENTITY_CHANGED.code}: it has this study under another patient by now; what differs: "
        f"{_listed(comparison)}. {IDENTITY_CHANGED.remedy}"
    )


def _listed(comparison: PatientComparison) -> str:
    return ", ".join(comparison.differing)


def _now() -> datetime:
    return datetime.now(UTC)
