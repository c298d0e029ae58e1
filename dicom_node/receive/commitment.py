"""Storage commitment (PS3.4 Annex J): tell a modality which of its objects it may delete.

Committed is what the index has under that SOP class and whose file in the spool holds the bytes that came, for the
modality deletes its own next; everything else is named as failed, with the reason. The outcome goes to the peer's own
listener (`[[peer]] port`), or, when none is configured, over the association that asked, while it is open.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import partial
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID
from pynetdicom.dsutils import encode
from sqlalchemy import Connection

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.entities import CommitmentState
from dicom_node.core.errors import DeliveryDeferred, IndexUnavailable
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.association import Association
from dicom_node.dimse.command_set import Field, event_report_command
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import Remote, Tls, deferred_rejection
from dicom_node.dimse.vocabulary import PLAIN_TRANSFER_SYNTAXES, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicom_node.end import VitalThread
from dicom_node.index.database import Database
from dicom_node.index.outbox.commitments import (
    CommitmentRequest,
    Held,
    add_request,
    association_of,
    due_requests,
    held_objects,
)
from dicom_node.index.transitions import move_commitment
from dicom_node.index.transitions import record as record_event
from dicom_node.receive.channel import ReportAnswered, SendReport
from dicom_node.storage.journal import Record
from dicom_node.storage.spool import Spool

_POLL_S = 1.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 5.0, 600.0
#: How long an association may take to answer an N-EVENT-REPORT.
_ON_ASSOCIATION_S = 60.0
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
_log = logging.getLogger(__name__)


class FailureReason(IntEnum):
    """Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True)
class CommitmentVerdict:
    """What became of the objects of one request: (class, instance) UIDs, those that failed with their reason."""

    committed: Sequence[tuple[str, str]] = ()
    failed: Sequence[tuple[str, str, FailureReason]] = ()
    #: How many objects of each study are committed.
    studies: Mapping[str, int] = field(default_factory=dict)
    #: Something was asked for in a way that cannot be answered object by object.
    is_malformed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPolicy:
    """How outcomes travel: to the listener at a port by AE title, with its TLS if it speaks that, for so long; or, for
    peers without one, by asking the acceptor to send them over the association that is open."""

    ports: Mapping[str, int]
    tls: Mapping[str, Tls]
    give_up_after_s: float
    timeout_s: float
    on_association: Callable[[SendReport], None]


class Commitments:
    """Keeps requests and reports their outcomes in a thread of its own."""

    def __init__(self, database: Database, spool: Spool, receiver_id: str, policy: ReportPolicy) -> None:
        self._database = database
        self._spool = spool
        self._receiver_id = receiver_id
        self._policy = policy
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._database_away = OutageLog(
            _log, "storage commitment waits for the database", "storage commitment has the database again"
        )
        self._thread = VitalThread(self._run, "commitment")

    def renew(self, policy: ReportPolicy) -> None:
        """Let outcomes travel so from the next one on."""
        self._policy = policy

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self) -> None:
        """End after the report under way; what is left is found again at the next start."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(5)

    def keep(self, connection: Connection, record: Record, payload: bytes) -> None:
        """Keep a request, in the transaction that has entered every object acknowledged before it."""
        try:
            transaction_uid = str(_decoded(payload, record.transfer_syntax_uid).get("TransactionUID") or "")
        except ValueError:
            transaction_uid = ""
        if not is_valid_uid(transaction_uid):
            who = {"calling_ae_title": record.calling_ae_title}
            _log.warning("storage commitment without a transaction", extra=who)
            return
        request = CommitmentRequest(
            number=0, transaction_uid=transaction_uid, association_id=record.association_id,
            calling_ae_title=record.calling_ae_title, called_ae_title=record.called_ae_title, source_host=record.host,
            transfer_syntax_uid=record.transfer_syntax_uid, request=payload, attempts=0,
            requested_at=datetime.fromtimestamp(record.received_at_s, UTC),
        )  # fmt: skip
        add_request(connection, self._receiver_id, request)
        self._wake.set()

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._database.read() as connection:
                    due = due_requests(connection, self._receiver_id, datetime.now(UTC))
                self._database_away.worked()
                for request in due:
                    if self._stopping.is_set():
                        return
                    self._work_off(request)
            except IndexUnavailable as error:
                self._database_away.failed(str(error), {})
            except Exception:  # noqa: BLE001 - the worker's door: one request must not end the others
                _log.exception("storage commitment failed unexpectedly")
            self._wake.wait(_POLL_S)
            self._wake.clear()

    def _work_off(self, request: CommitmentRequest) -> None:
        with self._database.read() as connection:
            verdict = judge(request, connection, self._spool)
        outcome = CommitmentOutcome(
            event_type=_FAILURES_EXIST if verdict.failed or verdict.is_malformed else _ALL_COMMITTED,
            data_set=_report(request.transaction_uid, verdict),
        )
        port = self._policy.ports.get(request.calling_ae_title)
        now = datetime.now(UTC)
        counts = {"committed": len(verdict.committed), "failed": len(verdict.failed), "attempts": request.attempts + 1}
        if request.attempts == 0:
            self._note_in_timelines(request, verdict, now)
        if port is None:
            # Asked for once; should the word get lost with the acceptor, it is asked for again.
            with self._database.write() as connection:
                again = now + timedelta(seconds=_ON_ASSOCIATION_S)
                move_commitment(connection, request.number, CommitmentState.PENDING, next_attempt_at=again, **counts)
            encoded = _encoded(outcome.data_set, request.transfer_syntax_uid)
            report = SendReport(request.number, request.association_id, outcome.event_type, encoded)
            self._policy.on_association(report)
            return
        self._report_to(port, request, outcome, counts)

    def _report_to(
        self, port: int, request: CommitmentRequest, outcome: CommitmentOutcome, counts: Mapping[str, int]
    ) -> None:
        remote = Remote(
            request.source_host, port, request.calling_ae_title, request.called_ae_title, self._policy.timeout_s,
            self._policy.tls.get(request.calling_ae_title),
        )  # fmt: skip
        now = datetime.now(UTC)
        values: dict[str, object] = {**counts}
        try:
            status = report_outcome(remote, outcome)
            state = CommitmentState.REPORTED
            values |= {"note": f"{remote} answered with status 0x{status:04X}.", "reported_at": now}
        except DeliveryDeferred as error:
            is_old = (now - request.requested_at).total_seconds() > self._policy.give_up_after_s
            state = CommitmentState.GIVEN_UP if is_old else CommitmentState.PENDING
            wait_s = min(_FIRST_RETRY_S * 2.0 ** min(request.attempts, 30), _LONGEST_RETRY_S)
            values |= {"note": str(error), "next_attempt_at": now + timedelta(seconds=wait_s)}
        with self._database.write() as connection:
            move_commitment(connection, request.number, state, **values)
        _log.info("storage commitment", extra={"number": request.number, "state": state.value, **counts})

    def _note_in_timelines(self, request: CommitmentRequest, verdict: CommitmentVerdict, at: datetime) -> None:
        with self._database.write() as connection:
            for study, count in verdict.studies.items():
                text = f"{request.calling_ae_title} asked for storage commitment: {count} object(s) committed."
                record_event(connection, study, at, ("commitment", text), transaction_uid=request.transaction_uid)


def note_answer(connection: Connection, answer: ReportAnswered) -> None:
    """Enter what the association that asked answered to its report.

    A peer may ask for the same transaction again on another association; what the earlier one says then, such as that
    it has ended, is not about the request that is open now.
    """
    number, status = answer.number, answer.status
    if association_of(connection, number) != answer.association_id:
        return
    if status is None:
        note = "The association that asked ended before the outcome; set `port` of this [[peer]] to report to it."
        move_commitment(connection, number, CommitmentState.GIVEN_UP, note=note)
    else:
        note = f"Answered with status 0x{status:04X}."
        move_commitment(
            connection,
            number,
            CommitmentState.REPORTED,
            note=note,
            reported_at=datetime.fromtimestamp(answer.at_s, UTC),
        )
    _log.info("storage commitment answered", extra={"number": number, "note": note})


def judge(request: CommitmentRequest, connection: Connection, spool: Spool) -> CommitmentVerdict:
    """Decide on every object a request names (PS3.4 J.3.3)."""
    references = _references(request)
    wanted = [pair for pair in references if all(map(is_valid_uid, pair))]
    held: dict[str, list[Held]] = {}
    for one in held_objects(connection, [instance for _, instance in wanted]):
        held.setdefault(one.sop_instance_uid, []).append(one)
    committed: list[tuple[str, str]] = []
    failed: list[tuple[str, str, FailureReason]] = []
    studies: Counter[str] = Counter()
    for sop_class, instance in wanted:
        reason = _why_not(sop_class, held.get(instance, []), spool)
        if reason is None:
            committed.append((sop_class, instance))
            studies[held[instance][0].study_instance_uid] += 1
        else:
            failed.append((sop_class, instance, reason))
    return CommitmentVerdict(committed, failed, studies, not references or len(wanted) < len(references))


def _why_not(sop_class_uid: str, versions: Sequence[Held], spool: Spool) -> FailureReason | None:
    if not versions:
        return FailureReason.NO_SUCH_OBJECT
    of_class = [version for version in versions if version.sop_class_uid == sop_class_uid]
    if not of_class:
        return FailureReason.CLASS_INSTANCE_CONFLICT
    # Of several versions under one UID every one must be there: nobody can say which of them the peer means.
    return None if all(_is_kept(version, spool) for version in of_class) else FailureReason.PROCESSING_FAILURE


def _is_kept(held: Held, spool: Spool) -> bool:
    path = spool.path(held.object_key)
    return path.exists() and path.stat().st_size == held.size_bytes and spool.is_whole(held.object_key)


def _references(request: CommitmentRequest) -> list[tuple[str, str]]:
    try:
        items = list(_decoded(request.request, request.transfer_syntax_uid).get("ReferencedSOPSequence") or [])
    except ValueError:
        return []
    return [
        (str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in items
    ]


def _report(transaction_uid: str, verdict: CommitmentVerdict) -> Dataset:
    """Build the data set of the N-EVENT-REPORT (PS3.4 Table J.3-2)."""
    report = Dataset()
    report.TransactionUID = UID(transaction_uid)
    if verdict.committed:
        report.ReferencedSOPSequence = [_item(*pair) for pair in verdict.committed]
    if verdict.failed:
        report.FailedSOPSequence = [_item(*failure) for failure in verdict.failed]
    return report


def _item(sop_class_uid: str, sop_instance_uid: str, reason: FailureReason | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class_uid), UID(sop_instance_uid)
    if reason is not None:
        item.FailureReason = int(reason)
    return item


def _decoded(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """Raises `ValueError` for whatever is wrong with a stranger's data set."""
    syntax = UID(transfer_syntax_uid)
    try:
        dataset = read_dataset(BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian)
        for element in dataset.iterall():
            _ = element.value
    except Exception as error:
        raise ValueError(f"the request cannot be parsed ({type(error).__name__})") from error
    return dataset


def _encoded(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, UID(transfer_syntax_uid).is_implicit_VR
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


_MESSAGE_ID = 1


@dataclass(frozen=True, slots=True)
class CommitmentOutcome:
    """What an N-EVENT-REPORT says: 1 all committed, 2 failures exist; and which."""

    event_type: int
    data_set: Dataset


class _ReportAssociation(Association):
    """An association on which one report is sent. Raises `DeliveryDeferred` when there is no one, or they say no."""

    peer_errors = PeerErrors(DeliveryDeferred, "Tried again later.", partial(deferred_rejection, section="peer"))
    asked_pdu_bytes = 65536  # responses are commands only
    longest_sent_bytes = 131072


def report_outcome(remote: Remote, outcome: CommitmentOutcome) -> int:
    """Send the N-EVENT-REPORT and return the status of the answer.

    Raises `DeliveryDeferred` when the peer is away, does not take the service, or does not answer.
    """
    # The one who asks for the association is the SCP of this service: it says so by role selection.
    proposed = [(STORAGE_COMMITMENT, PLAIN_TRANSFER_SYNTAXES)]
    with _ReportAssociation(remote, proposed, [STORAGE_COMMITMENT]) as association:
        context = association.context_of(STORAGE_COMMITMENT)
        if context is None:
            raise DeliveryDeferred(f"{remote} does not take reports of Storage Commitment; tried again later.")
        context_id, syntax = context[0], UID(context[1])
        data_set = encode(outcome.data_set, syntax.is_implicit_VR, syntax.is_little_endian)
        assert data_set is not None, "the report is made of UIDs and numbers"
        command = event_report_command(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, outcome.event_type, _MESSAGE_ID)
        association.send(context_id, command, data_set)
        return association.response(Field.N_EVENT_REPORT_RSP, _MESSAGE_ID)
