"""The role `receive`: the acceptor's news go to the consumer, in order."""

from __future__ import annotations

import time

from dicom_node.config.settings import Settings
from dicom_node.dimse.tls import ANY_NAME, Tls
from dicom_node.jobs.sweeps import AssociationSweep
from dicom_node.receive.commitment import Commitments, ReportPolicy
from dicom_node.receive.events import AcceptorDied, AssociationClosed, ConsumerLinks, JournalPlace, RecordStored
from dicom_node.receive.journal_consumer import JournalConsumer
from dicom_node.receive.process import AcceptorProcess
from dicom_node.receive.start import journal_folder
from dicom_node.roles.node import Node


class ReceiveRole:
    """Runs the acceptor and the consumer."""

    def __init__(self, node: Node, acceptor: AcceptorProcess) -> None:
        self._acceptor = acceptor
        self._associations = AssociationSweep(node.database, node.receiver_id)
        self._commitments = Commitments(node.database, node.spool, node.receiver_id, self._report_policy(node.settings))
        links = ConsumerLinks(acceptor.freed, acceptor.trouble, self._commitments.requested)
        journal = JournalPlace(journal_folder(node.settings), acceptor.journal_slots)
        self.consumer = JournalConsumer(node.database, node.spool, journal, node.receiver_id, links)

    def start(self) -> dict[str, int]:
        """Return when peers are served; the ports by name. Raises `SettingsError`."""
        self._associations.forget_own()
        self.consumer.start()
        self._commitments.start()
        self._acceptor.listen_to(self)
        self._acceptor.wait_until_ready()
        return self._acceptor.ports

    def stop(self) -> None:
        """No more connections; what was acknowledged settles now or at the next start."""
        self._acceptor.stop()
        self.consumer.stop()
        self._commitments.stop()

    def is_serving(self) -> bool:
        """Tell whether peers are served."""
        return self._acceptor.is_serving

    # --- the acceptor's news -------------------------------------------------------------------------------------

    def stored(self, slot: int, sequence: int, study_instance_uid: str, *, found: bool) -> None:
        """An object is durable in a slot."""
        self.consumer.put(RecordStored(slot, sequence, study_instance_uid, found))

    def closed(self, association_id: str, outcome: str, at_s: float) -> None:
        """An association ended; its objects were told before."""
        self.consumer.put(AssociationClosed(association_id, outcome, at_s))

    def died(self) -> None:
        """The acceptor died, and all its associations with it."""
        self.consumer.put(AcceptorDied(time.time()))

    def reported(self, number: int, status: int | None) -> None:
        """The outcome of a storage commitment was answered on its association, or could not be sent there."""
        self._commitments.reported(number, status)

    def _report_policy(self, settings: Settings) -> ReportPolicy:
        own = settings.dicom_tls
        # A peer is called at the address it came from, which its certificate need not name.
        tls = Tls(ANY_NAME, own.ca, own.certificate, own.private_key)
        return ReportPolicy(
            ports={peer.ae_title: peer.port for peer in settings.peer if peer.port},
            tls={peer.ae_title: tls for peer in settings.peer if peer.port_tls},
            give_up_after_s=settings.dicom.commitment_retry_h * 3600,
            timeout_s=settings.dicom.pdu_timeout_s,
            on_association=self._acceptor.report,
        )
