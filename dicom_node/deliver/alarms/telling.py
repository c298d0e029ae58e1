"""Brings receivers the alarms that they are owed, one receiver each: to be run every few seconds."""

from __future__ import annotations

import logging

from dicom_node.config.settings import Settings
from dicom_node.core.alarms.telling import AlarmMessage
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import DeliveryError
from dicom_node.deliver.alarms import alarm_kinds_of
from dicom_node.deliver.alarms.kind import AlarmKind
from dicom_node.index.alarms.messages import OwedMessage, claim_message, note_failed, note_sent
from dicom_node.index.database import Database
from dicom_node.index.due import now_in

#: Long enough for a mail server that looks its callers up, and less than the lease of a message.
_PATIENCE_S = 60.0
_log = logging.getLogger(__name__)


class AlarmTeller:
    """Sends what one receiver is owed, oldest first; what it does not take is tried again, without end."""

    def __init__(self, receiver: AlarmKind, database: Database, settings: Settings) -> None:
        self.name = receiver.name
        self._receiver = receiver
        self._database = database
        self._node = settings.node.ae_title
        self._link = page_link(settings)
        self._patience_s = min(settings.delivery.timeout_s, _PATIENCE_S)
        self._outage = OutageLog(_log, "alarms are not taken", "alarms are taken again")

    def run(self) -> None:
        """Send until nothing is due, or something is not taken."""
        while self._send_one():
            pass

    def _send_one(self) -> bool:
        with self._database.write() as connection:
            owed = claim_message(connection, self.name, now_in(connection))
        if owed is None:
            return False
        fault = self._fault_of(owed)
        with self._database.write() as connection:
            if fault:
                note_failed(connection, owed, fault, now_in(connection))
            else:
                note_sent(connection, owed, now_in(connection))
        if fault:
            self._outage.failed(fault, {"receiver": self.name})
        else:
            self._outage.worked(receiver=self.name)
            _log.info("alarm told", extra={"receiver": self.name, "message": owed.batch, "alarms": len(owed.alarms)})
        return not fault

    def _fault_of(self, owed: OwedMessage) -> str:
        message = AlarmMessage(id=owed.batch, node=self._node, link=self._link, alarms=owed.alarms)
        try:
            self._receiver.send(message, self._patience_s)
        except DeliveryError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a delivery attempt: whatever a library raises, the message stays owed
            _log.error("alarm failed unexpectedly", extra={"receiver": self.name}, exc_info=error)
            return f"It failed unexpectedly ({type(error).__name__}); see the log."
        return ""


def page_link(settings: Settings) -> str:
    """Return the address of the page's part on alarms; "" where nobody knows how browsers reach the node."""
    public_url = settings.viewer.public_url or settings.oidc.public_url
    return f"{public_url}/#/node" if public_url else ""


def alarm_tellers(settings: Settings, database: Database) -> list[AlarmTeller]:
    """Return who brings alarms to whom, as the settings say."""
    return [AlarmTeller(one, database, settings) for one in alarm_kinds_of(settings)]
