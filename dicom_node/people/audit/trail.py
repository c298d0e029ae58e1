"""The trail of what people and peers did here: every act is sealed, entered into the database, and anchored beside it.

Acts by people are entered before they are done, those that wait for each other in one transaction. What the node and
its peers do is written into a file at once and entered within a second, or when the trail can be written again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.config.settings import Settings
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import AuditUnavailable, NodeError
from dicom_node.core.principal import NODE
from dicom_node.index.database import Database
from dicom_node.index.people.audit_records import AuditRecord, add_records, hold_chain, require_addable
from dicom_node.people.audit.batch import chained, not_entered, patients_in
from dicom_node.people.audit.pending import PendingAct, line_of, new_event_id, pending_of
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool

#: What somebody only looked at is written down once in so many seconds, however often the page asks.
LOOK_AGAIN_S = 300.0
LOOKS = frozenset({
    AuditedAct.RESULT_READ, AuditedAct.IMAGES_READ, AuditedAct.HISTORY_READ, AuditedAct.QUERY, AuditedAct.AUDIT_READ,
    AuditedAct.ACCESS_REFUSED,
})  # fmt: skip
_MOST_LOOKS = 4096
#: So many acts of care are kept for later; what is more is counted.
MOST_WAITING = 50_000
_BATCH = 500
_PROBE_EVERY_S = 10.0
_BY_KEY = uuid.UUID("5f0e0b1e-58f4-4f8e-9d5a-0f6c7d3f2a10")
_LOGIN = re.compile("//[^/@]*@")
_log = logging.getLogger(__name__)


class LoggedAudit:
    """Writes acts into the log only: the audit trail is switched off."""

    fault = ""

    def record(self, event: AuditedEvent) -> None:
        """Write one act down."""
        about = {"act": event.act, "actor": event.actor.name, "outcome": event.outcome, "address": event.address}
        _log.info("audited", extra=about)

    def note(self, event: AuditedEvent, key: str = "") -> None:  # noqa: ARG002 - nothing is kept to compare with
        """Write one act down."""
        self.record(event)

    def flush(self) -> None:
        """Do nothing: nothing waits."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class AuditTrail:
    """Writes the trail of one process; others write the same at the same time. Thread-safe."""

    def __init__(self, database: Database, keys: AuditKeys, anchor: Anchor, spool: AuditSpool) -> None:
        self._database = database
        self._keys = keys
        self._anchor = anchor
        self._spool = spool
        self._gate = threading.Lock()
        #: Held by the one who writes, for all who wait.
        self._turn = threading.Lock()
        self._urgent: list[PendingAct] = []
        self._waiting: deque[PendingAct] = deque()
        self._lost = 0
        self._looks: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._fault = ""
        self._probe_at = 0.0
        self._outage = OutageLog(_log, "audit trail cannot be written", "audit trail is written again")

    @property
    def fault(self) -> str:
        """Why nothing can be written down at this moment, "" when it can."""
        waits = f" {len(self._waiting)} acts of care wait, {self._lost} are lost." if self._fault else ""
        return self._fault + waits

    def record(self, event: AuditedEvent) -> None:
        """Write one act down, durably, in the database and its anchor.

        A look that was written down in the last minutes is not written again. Raises `AuditUnavailable`.
        """
        is_look = _is_look(event)
        if is_look and self._is_known_look(event):
            return
        mine = PendingAct(event, new_event_id())
        with self._gate:
            self._urgent.append(mine)
        with self._turn:  # whoever has the turn writes for all who wait
            if not mine.is_done and mine.error is None:
                self._write()
        if not mine.is_done:  # whatever the reason: without a record nothing is done
            why = mine.error or "The log says why."
            raise AuditUnavailable(
                f"The act cannot be written into the audit trail and is refused. {why}"
            ) from mine.error
        if is_look:
            self._remember_look(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:
        """Write down what the node or a peer did; never raises. Told again under the same key it is entered once."""
        is_look = _is_look(event)
        if is_look and self._is_known_look(event):
            return
        event_id = uuid.uuid5(_BY_KEY, key).hex if key else new_event_id()
        self._keep(PendingAct(event, event_id, is_new=not key))
        if is_look:
            self._remember_look(event)

    def flush(self) -> None:
        """Enter what waits, take over what processes that are gone have left, and see whether the trail takes more."""
        for line in self._spool.left_by_others():
            try:
                self._keep(pending_of(line))
            except (KeyError, ValueError, TypeError):
                _log.error("an act that another version left for the audit trail cannot be read and is passed over")
        while self._waiting:
            with self._turn:
                before = len(self._waiting)
                self._write()
            if len(self._waiting) >= before:
                return
        if time.monotonic() >= self._probe_at:
            self._probe()

    def close(self) -> None:
        """Enter what waits, if that can be done now; else the next process finds it."""
        self.flush()
        self._spool.close(is_empty=not self._waiting)

    # --- what waits ----------------------------------------------------------------------------------------------

    def _keep(self, pending: PendingAct) -> None:
        with self._gate:
            if len(self._waiting) >= MOST_WAITING:
                self._lost += 1
                return
            self._waiting.append(pending)
            self._spool.add(line_of(pending))

    def _write(self) -> None:
        """Enter one batch: everybody who stands and waits, and of care what has gathered. Never raises."""
        with self._gate:
            urgent, self._urgent = self._urgent, []
            care = list(islice(self._waiting, _BATCH))
        try:
            self._enter(care, urgent)
        except (NodeError, SQLAlchemyError, OSError) as error:
            for one in care:
                one.is_new = False  # nobody knows how far it came
            self._failed(error, urgent)
            return
        for one in urgent:
            one.is_done = True
        with self._gate:
            for _ in care:
                self._waiting.popleft()
            if not self._waiting:
                self._spool.clear()
        self._worked()

    def _failed(self, error: Exception, urgent: Iterable[PendingAct]) -> None:
        own = error if isinstance(error, AuditUnavailable) else error.__cause__ or error
        why = str(own) if own is error else f"The database does not take it ({type(own).__name__})."
        self._fault = why
        self._outage.failed(why, {"advice": "Acts by people are refused until it can be; care goes on."})
        for one in urgent:
            one.error = AuditUnavailable(why)

    def _worked(self) -> None:
        self._fault = ""
        self._probe_at = time.monotonic() + _PROBE_EVERY_S
        self._outage.worked()

    def _probe(self) -> None:
        """See whether an act could be entered now; who reads the node's status learns of it before anybody acts."""
        try:
            self._keys.known()
            with self._database.write() as connection:
                require_addable(connection)
        except (NodeError, SQLAlchemyError, OSError) as error:
            self._failed(error, ())
        else:
            self._worked()
        self._probe_at = time.monotonic() + _PROBE_EVERY_S

    # --- one batch -----------------------------------------------------------------------------------------------

    def _enter(self, care: Sequence[PendingAct], urgent: Sequence[PendingAct]) -> None:
        """Enter a batch behind the last record of all, in one transaction that the anchor knows of before and after.

        Of care a crash, or whoever tells it twice, may have entered some already; what is `urgent` is of this moment.
        """
        keys, lost = self._keys.known(), self._lost
        if lost:
            gap = AuditedEvent(act=AuditedAct.AUDIT_GAP, actor=NODE, outcome=AuditOutcome.SERIOUS_FAILURE,
                               detail={"lost": lost})  # fmt: skip
            urgent = [*urgent, PendingAct(gap, new_event_id())]
        with self._database.write() as connection:
            patients = patients_in(connection, [*care, *urgent])
            head = hold_chain(connection)  # what another process has entered is seen from here on
            fresh = [*not_entered(connection, care), *urgent]
            if not fresh:
                return
            rows = chained(fresh, patients, keys, head)
            add_records(connection, rows)
            last = AuditRecord(**rows[-1])
            self._anchor.intend(last, head)
        self._anchor.settle(last)  # the disk is waited for when nobody waits for the lock
        self._lost -= lost

    # --- looks ---------------------------------------------------------------------------------------------------

    def _is_known_look(self, event: AuditedEvent) -> bool:
        with self._gate:
            looked_at = self._looks.get(_look(event))
        return looked_at is not None and not self._fault and time.monotonic() - looked_at < LOOK_AGAIN_S

    def _remember_look(self, event: AuditedEvent) -> None:
        with self._gate:
            self._looks[_look(event)] = time.monotonic()
            self._looks.move_to_end(_look(event))
            while len(self._looks) > _MOST_LOOKS:
                self._looks.popitem(last=False)


def _is_look(event: AuditedEvent) -> bool:
    """Tell whether an event is one of those that may come again and again: looks, and what strangers try at the
    address to which an OpenID provider sends them back, where nobody waits after a failure."""
    is_refused = event.act is AuditedAct.SIGN_IN and event.outcome is not AuditOutcome.SUCCESS
    return event.act in LOOKS or (is_refused and "why" in event.detail)


def _look(event: AuditedEvent) -> tuple[object, ...]:
    whose = (event.study_instance_uid, event.patient_id, event.issuer_of_patient_id)
    about = (*whose, json.dumps(dict(event.detail), sort_keys=True, default=str))
    return (event.act, event.actor.identity, event.address, event.outcome, *about)


# --- as the settings say -------------------------------------------------------------------------------------------


def audit_folder(settings: Settings) -> Path:
    """Return the folder of the node's own files of the trail."""
    return settings.node.data_dir / "audit"


def audit_keys(settings: Settings) -> AuditKeys:
    """Return the keys that the settings name."""
    return AuditKeys(settings.audit.key_file or audit_folder(settings) / "key")


def audit_anchor(settings: Settings) -> Anchor:
    """Return the anchor that the settings name."""
    return Anchor(settings.audit.anchor_file or audit_folder(settings) / "anchor")


def open_audit(settings: Settings, database: Database) -> AuditTrail | LoggedAudit:
    """Return the trail of this node, with its key made at the first start; only the log where it is switched off."""
    if not settings.audit.enabled:
        return LoggedAudit()
    keys = audit_keys(settings)
    try:
        keys.make()
    except AuditUnavailable:
        _log.error("audit key cannot be made", extra={"file": str(keys.path)})  # told again by whatever is to be sealed
    return AuditTrail(database, keys, audit_anchor(settings), AuditSpool(audit_folder(settings) / "waiting"))


@contextmanager
def audited_act(audit: AuditTrail | LoggedAudit, event: AuditedEvent) -> Iterator[None]:
    """Write an act down before it is done here, and what came of it when it failed; the trail is closed at the end.

    Raises `AuditUnavailable`.
    """
    try:
        audit.record(event)
        try:
            yield
        except NodeError as error:
            detail = {**event.detail, "failed": type(error).__name__}
            audit.note(replace(event, outcome=AuditOutcome.MINOR_FAILURE, detail=detail))
            raise
    finally:
        audit.close()


def digests_of(settings: Settings) -> Mapping[str, object]:
    """Return a digest of each section of the settings, by which a change shows. Secrets are not in it, nor values."""
    sections = settings.model_dump(mode="json")  # pydantic masks what is secret
    sections["database"]["url"] = _LOGIN.sub("//", sections["database"]["url"])
    told = {name: json.dumps(section, sort_keys=True) for name, section in sections.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in sorted(told.items())}


_: type[Audit] = AuditTrail
