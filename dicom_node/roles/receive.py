"""The role `receive`: objects come in by C-STORE and from watched folders, and what was acknowledged gets its rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dicom_node.config.settings import Settings
from dicom_node.core.errors import SettingsError
from dicom_node.dimse.negotiation import ANY_NAME, Tls
from dicom_node.index.damage import forget_records
from dicom_node.index.due import now_in
from dicom_node.index.received.orders import forget_messages
from dicom_node.index.received.patients import forget_statements
from dicom_node.ingest.watch import WatchFolders
from dicom_node.orders.acknowledgement import Acknowledger
from dicom_node.orders.inbox import Inbox, InboxOptions
from dicom_node.people.audit.care import RefusedCaller, note_turned_away
from dicom_node.receive.associations import AssociationSweep
from dicom_node.receive.channel import SendReport
from dicom_node.receive.commitment import Commitments, ReportPolicy
from dicom_node.receive.journal_consumer import ConsumerLinks, JournalConsumer, JournalPlace
from dicom_node.receive.mllp import MllpListener, mllp_options
from dicom_node.receive.proof_reports import ProofReports
from dicom_node.receive.refusals import RefusedContexts, keep
from dicom_node.receive.start import acceptor_options, files_wanting, journal_folder, not_taken_file, open_listener
from dicom_node.roles.node import Node
from dicom_node.roles.role import Role, Sweep
from dicom_node.storage.journal import set_aside_names

if TYPE_CHECKING:
    from dicom_node.roles.self_test import SelfTest

_ASSOCIATIONS_EVERY_S = 10.0
_SET_ASIDE_EVERY_S = 60.0
_RETENTION_EVERY_S = 3600.0
_NOT_TAKEN_EVERY_S = 5.0
_TURNED_AWAY_EVERY_S = 2.0
_SELF_TEST_EVERY_S = 30.0
_log = logging.getLogger(__name__)


class ReceiveRole(Role):
    """What the acceptor has made durable becomes rows; requests for storage commitment are answered."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        """Raises `SettingsError` when no acceptor was started before."""
        super().__init__(node, wake_all)
        if node.acceptor is None:
            raise SettingsError("The role receive needs an acceptor; start the node with `dicom-node serve`.")
        self._acceptor = acceptor = node.acceptor
        self._started_at = datetime.now(UTC)
        self._associations = AssociationSweep(node.database, node.receiver_id)
        policy = _report_policy(node.settings, acceptor.tell)
        self._commitments = Commitments(node.database, node.spool, node.receiver_id, policy)
        self._proof_reports = ProofReports(node.database, acceptor.reports, acceptor.tell)
        links = ConsumerLinks(node.received, acceptor.tell, self._commitments.keep)
        journal = JournalPlace(journal_folder(node.settings), acceptor.journal_slots)
        self._consumer = JournalConsumer(node.database, node.spool, journal, node.receiver_id, links)
        self._watches: WatchFolders | None = None
        self._hl7 = _hl7_listener(node, wake_all) if node.settings.hl7.port is not None else None
        self._not_taken: Sequence[RefusedContexts] | None = None
        self._self_test: SelfTest | None = None

    def start(self) -> Mapping[str, int]:
        """Return when peers are served; the ports by name. Raises `SettingsError`."""
        self._associations.forget_own()
        self._consumer.start()
        self._commitments.start()
        self._proof_reports.start()
        self._acceptor.attend(self._node.received)
        self._acceptor.wait_until_ready()
        ports = self._acceptor.ports
        if why := files_wanting(self._node.settings):
            _log.warning(
                "journal is smaller than configured", extra={"why": why, "slots": self._acceptor.journal_slots}
            )
        _log.info("listening", extra={"ae_title": self._node.settings.node.ae_title, **ports})
        if self._node.settings.watch:
            self._watches = WatchFolders(self._node.open_ingest(self._node.receiver_id), self._node.settings)
            self._watches.start()
        if self._hl7 is None:
            return ports
        self._hl7.start()
        _log.info("listening for hl7", extra={"hl7": self._hl7.port})
        return {**ports, "hl7": self._hl7.port}

    def prepared(self, wanted: Settings) -> Callable[[], None]:
        """Let new associations be judged by the new peers, AE titles and users; those that are open stay."""
        options = acceptor_options(wanted)
        policy = _report_policy(wanted, self._acceptor.tell)

        def begin() -> None:
            self._commitments.renew(policy)
            self._acceptor.renew(options)

        return begin

    def stop(self) -> None:
        """No more connections and files; what was acknowledged settles now or at the next start."""
        if self._self_test is not None:
            self._self_test.stop()
        self._acceptor.stop()
        if self._hl7 is not None:
            self._hl7.stop()
        self._consumer.stop()
        self._commitments.stop()
        self._proof_reports.stop()
        if self._watches is not None:
            self._watches.stop()

    def join(self) -> None:
        """Wait for the HL7 messages that were being taken."""
        if self._hl7 is not None:
            self._hl7.join()

    def sweeps(self) -> Sequence[Sweep]:
        """Keep the record of associations honest; once, take up what an earlier run made durable and did not enter."""
        return (
            Sweep("associations", self._associations.run, _ASSOCIATIONS_EVERY_S),
            Sweep("adoption", self._adopt),
            Sweep("set-aside", self._forget_removed, _SET_ASIDE_EVERY_S),
            Sweep("hl7-retention", self._forget_old_messages, _RETENTION_EVERY_S),
            Sweep("not-taken", self._keep_not_taken, _NOT_TAKEN_EVERY_S),
            Sweep("turned-away", self._note_turned_away, _TURNED_AWAY_EVERY_S),
            *self._own_test(),
        )

    def _own_test(self) -> Sequence[Sweep]:
        """Return what tests the node once a day, where the settings say when; the phantoms are loaded only then."""
        if not self._node.settings.selftest.at:
            return ()
        from dicom_node.roles.self_test import SelfTest  # noqa: PLC0415

        self._self_test = SelfTest(self._node, lambda: self._acceptor.ports["dicom"])
        return (Sweep("self-test", self._self_test.run, _SELF_TEST_EVERY_S),)

    def _keep_not_taken(self) -> None:
        """Let other processes of the node, and `dicom-node status`, tell what peers could not send."""
        counted = self._acceptor.refusals.latest()
        if counted != self._not_taken:
            keep(counted, not_taken_file(self._node.settings))
            self._not_taken = counted

    def _note_turned_away(self) -> None:
        waiting = self._acceptor.turned_away
        taken = [waiting.popleft() for _ in range(len(waiting))]
        callers = [RefusedCaller(one.calling_ae_title, one.host, one.why, one.count) for one in taken]
        of_hl7 = [] if self._hl7 is None else self._hl7.turned_away()
        callers += [RefusedCaller(one.calling_ae_title, one.host, one.why, one.count, "hl7") for one in of_hl7]
        note_turned_away(self._node.audit, callers)

    def _forget_removed(self) -> None:
        """Count damaged records no more whose copies an operator has removed."""
        left = set_aside_names(journal_folder(self._node.settings))
        with self._node.database.write() as connection:
            forget_records(connection, self._node.receiver_id, left)

    def _forget_old_messages(self) -> None:
        """Forget orders and messages that came too long ago, also where nobody listens for them any more."""
        with self._node.database.write() as connection:
            before = now_in(connection) - timedelta(days=self._node.settings.hl7.keep_days)
            gone = forget_messages(connection, before) + forget_statements(connection, before)
        if gone:
            _log.info("orders and hl7 messages forgotten", extra={"rows": gone})

    def _adopt(self) -> None:
        self._node.spool.remove_abandoned_parts()
        count = self._node.intake.adopt_orphans(self._started_at, self._consumer.held_objects)
        if count:
            _log.warning("orphans adopted", extra={"objects": count})


def _hl7_listener(node: Node, wake_all: Callable[[], None]) -> MllpListener:
    own = node.settings.hl7
    speaker = Acknowledger(own.application or node.settings.node.ae_title, own.facility)
    options = InboxOptions(
        speaker=speaker, patient_authority=own.patient_authority, accession_field=own.accession_field,
        takes_reports=node.settings.reports.hl7,
    )  # fmt: skip
    listener = open_listener(own.host, own.port or 0, "hl7")
    return MllpListener(listener, mllp_options(own), Inbox(node.database, options, wake_all))


def _report_policy(settings: Settings, tell: Callable[[SendReport], None]) -> ReportPolicy:
    own = settings.dicom_tls
    # A peer is called at the address it came from, which its certificate need not name.
    tls = Tls(ANY_NAME, own.ca, own.certificate, own.private_key)
    return ReportPolicy(
        ports={peer.ae_title: peer.port for peer in settings.peer if peer.port},
        tls={peer.ae_title: tls for peer in settings.peer if peer.port_tls},
        give_up_after_s=settings.dicom.commitment_retry_h * 3600,
        timeout_s=settings.dicom.pdu_timeout_s,
        on_association=tell,
    )
