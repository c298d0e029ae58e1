"""Brings the audit trail to those who collect such trails, each from where it has it: nothing is lost while one is
away, and only what was under way when a process died or a connection broke may come twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx

from dicom_node.config.settings import Settings
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import DeliveryError, DestinationAway, fault_told
from dicom_node.deliver.connections.syslog import SyslogOverTls, SyslogOverUdp
from dicom_node.deliver.connections.web import web_client
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.people.audit_records import AuditRecord, advance_position, claim_position, records_after
from dicom_node.people.audit.fhir import audit_event
from dicom_node.people.audit.messages import AuditSource, syslog_line

_BATCH = 100
_LEASE_S = 120.0
#: What a server says of a request that it will never take as it is; anything else may pass.
_NEVER = frozenset({400, 409, 412, 413, 415, 422})
_log = logging.getLogger(__name__)


class AuditReceiver(Protocol):
    """Somebody who collects audit trails."""

    def send(self, records: Sequence[AuditRecord]) -> int:
        """Return how many of these it has, from the first on. Raises `DeliveryError` when it has not even that one."""

    def close(self) -> None:
        """Give up what is open."""


@dataclass(frozen=True, slots=True)
class SyslogReceiver:
    """An audit repository that takes DICOM audit messages by syslog."""

    connection: SyslogOverTls | SyslogOverUdp
    source: AuditSource

    def send(self, records: Sequence[AuditRecord]) -> int:
        """Send all of them."""
        self.connection.send([syslog_line(one, self.source) for one in records])
        return len(records)

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


class FhirReceiver:
    """An audit repository that takes AuditEvents (IHE ITI-20, RESTful ATNA)."""

    def __init__(
        self, destination: FhirDestination, timeout_s: float, to_event: Callable[[AuditRecord], object]
    ) -> None:
        self._destination = destination
        self._timeout_s = timeout_s
        self._to_event = to_event

    def send(self, records: Sequence[AuditRecord]) -> int:
        """Create one after the other; what the server will never take is told in the log, and passed over."""
        done, headers = 0, {"Content-Type": "application/fhir+json", **self._destination.further_headers}
        with web_client(self._destination, self._timeout_s) as client:
            for record in records:
                try:
                    url = f"{self._destination.url.rstrip('/')}/AuditEvent"
                    answer = client.post(url, json=self._to_event(record), headers=headers)
                except (httpx.HTTPError, DeliveryError) as error:
                    why = str(error) if isinstance(error, DeliveryError) else fault_told(error)
                    return _so_far(done, f"The audit repository {self._destination.name} does not answer: {why}.")
                if answer.status_code in _NEVER:
                    about = {"receiver": self._destination.name, "record": record.number, "status": answer.status_code}
                    _log.error("audit repository refuses a record", extra=about)
                elif not answer.is_success:
                    why = f"The audit repository {self._destination.name} answers {answer.status_code}."
                    return _so_far(done, why)
                done += 1
        return done

    def close(self) -> None:
        """Do nothing: nothing stays open."""


def _so_far(done: int, why: str) -> int:
    if not done:
        raise DestinationAway(why)
    return done


class AuditForwarding:
    """Brings one receiver what it has not got. To be run every few seconds."""

    def __init__(self, name: str, receiver: AuditReceiver, database: Database, owner: str) -> None:
        """`name` is that under which the receiver's place in the trail is kept, and `owner` who brings it more."""
        self.name = name
        self._receiver = receiver
        self._database = database
        self._owner = owner
        self._outage = OutageLog(_log, "audit repository takes nothing", "audit repository takes records again")

    def run(self) -> None:
        """Send until it has all there is, or takes nothing."""
        try:
            while self._send_some():
                pass
        except DeliveryError as error:
            self._outage.failed(str(error), {"receiver": self.name})

    def close(self) -> None:
        """Give up what is open."""
        self._receiver.close()

    def _send_some(self) -> bool:
        """Send one batch; tell whether there may be more. While another process sends, this one does not."""
        with self._database.write() as connection:
            number = claim_position(connection, self.name, self._owner, now_in(connection), _LEASE_S)
        if number is None:
            return False
        with self._database.read() as connection:
            records = records_after(connection, number, _BATCH)
        if not records:
            return False
        done = self._receiver.send(records)
        with self._database.write() as connection:
            advance_position(connection, self.name, records[done - 1].number)
        self._outage.worked(receiver=self.name)
        return True


def audit_forwardings(settings: Settings, database: Database, owner: str) -> list[AuditForwarding]:
    """Return who brings the trail to whom, as the settings say. Raises `SettingsError`."""
    if not settings.audit.enabled:
        return []
    source = AuditSource(settings.audit.source_id or settings.node.ae_title, settings.node.ae_title)
    receivers: dict[str, AuditReceiver] = {}
    if (syslog := settings.audit.syslog) is not None:
        connection = SyslogOverTls(syslog) if syslog.protocol == "tls" else SyslogOverUdp(syslog)
        receivers[f"syslog {syslog.host}:{syslog.port}"[:128]] = SyslogReceiver(connection, source)
    for one in destinations_of(settings):
        if one.name == settings.audit.fhir and isinstance(one, FhirDestination):

            def to_event(record: AuditRecord) -> object:
                return audit_event(record, source, lambda issuer: _system_of(settings, issuer))

            receivers[f"fhir {one.name}"] = FhirReceiver(one, settings.delivery.timeout_s, to_event)
    return [AuditForwarding(name, receiver, database, owner) for name, receiver in receivers.items()]


def _system_of(settings: Settings, issuer: str) -> str:
    """As `fhir.builders.identifiers` names the system of a patient's number."""
    is_foreign = bool(issuer and settings.fhir.issuers)
    return settings.fhir.issuers.get(issuer, "") or ("" if is_foreign else settings.fhir.patient_system)
