"""The role `deliver`: one worker per destination brings it what it is owed, another proves that it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial

from dicom_node.assist.reports.searching import ReportSearch, SearchOptions
from dicom_node.config.settings import Settings
from dicom_node.core.errors import IndexUnavailable
from dicom_node.deliver.alarms.asking import DestinationsAsked
from dicom_node.deliver.alarms.telling import alarm_tellers
from dicom_node.deliver.audit_forwarding import audit_forwardings
from dicom_node.deliver.dispatch.already_there import AlreadyThere
from dicom_node.deliver.dispatch.identity_check import identity_check
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import OutboxPolicy
from dicom_node.deliver.dispatch.proof import Prover
from dicom_node.deliver.dispatch.served import Equipment, ServedDestinations
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import DestinationKind, caller_of
from dicom_node.deliver.owed_to_nobody import advice_for, owed_to_nobody
from dicom_node.deliver.peer_capabilities import capability_probe
from dicom_node.deliver.profiles import profiles_of
from dicom_node.deliver.server_memory import KeptMemory
from dicom_node.deliver.withdrawals import WithdrawalPlanner, speaker_of, tell_out_of_reach
from dicom_node.fhir.client.capabilities import ServerMemory
from dicom_node.fhir.client.reports import FoundReport, SoughtStudy
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.notifications import subscribe
from dicom_node.index.outbox.proofs import ProofTimes
from dicom_node.index.reports.searches import SearchTimes
from dicom_node.operate.backup.restored import restoration_of
from dicom_node.operate.routes_in_force import RoutesNow
from dicom_node.roles.node import Node
from dicom_node.roles.role import Role, Sweep

_END_S = 5.0
_SUBSCRIBERS_S = 5.0
_FORMER_DESTINATIONS_S = 30.0
_AUDIT_S = 2.0
_REPORT_SEARCH_S = 30.0
_ALARMS_S = 5.0
_log = logging.getLogger(__name__)


class DeliverRole(Role):
    """Runs the outbox, and asks destinations whether what they took is there."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        super().__init__(node, wake_all)
        self._served = ServedDestinations(node.database, node.spool, partial(_equipment, node))
        self._begin = self._served.prepared(node.settings)
        self._told_of: RoutesNow | None = None
        self._audit = {one.name: one for one in audit_forwardings(node.settings, node.database, node.identity)}
        self._alarms = alarm_tellers(node.settings, node.database)
        self._asked = _asked(node, node.settings)

    def start(self) -> Mapping[str, int]:
        """Begin to deliver; what happens from now on is told to those who hear of events."""
        self._subscribe()
        self._begin()
        self._log_owed_to_nobody()
        return {}

    def prepared(self, wanted: Settings) -> Callable[[], None]:
        """Serve new destinations, and those that are configured otherwise so; what is gone is served no more."""
        renew = self._served.prepared(wanted)
        audit = {one.name: one for one in audit_forwardings(wanted, self._node.database, self._node.identity)}

        asked = _asked(self._node, wanted)

        def begin() -> None:
            renew()
            self._asked = asked
            # The connection to a repository that takes syslog stays: its section needs a restart.
            self._audit |= {name: one for name, one in audit.items() if name.startswith("fhir ")}
            with suppress(IndexUnavailable):  # else the sweep tells them
                self._subscribe()

        return begin

    def _subscribe(self) -> None:
        """Tell who hears of events, and of which routes, as they are now; nothing where that is known."""
        present = self._node.in_force.now()
        if present is not self._told_of:
            with self._node.database.write() as connection:
                subscribe(connection, _subscribers(present.settings))
            self._told_of = present

    def stop(self) -> None:
        """End after the objects that are on their way; what is left stays owed."""
        self._served.stop()

    def join(self) -> None:
        """Wait until the workers have ended."""
        self._served.join(_END_S)
        for forwarding in self._audit.values():
            forwarding.close()

    def wake(self) -> None:
        """Look now what is owed."""
        self._served.wake()

    def sweeps(self) -> Sequence[Sweep]:
        """Return the looks at who hears of events, for routes may be edited, and at former destinations, which nobody
        tells that a result is withdrawn; who collects the audit trail; and who is told of alarms."""
        search = _report_search(self._node)
        asking = [] if search is None else [Sweep("search for reports", search.run, _REPORT_SEARCH_S)]
        audit = [Sweep(f"audit to {name}", partial(self._forward_audit, name), _AUDIT_S) for name in self._audit]
        ask_every_s = self._node.settings.alarms.ask_every_s
        return [
            Sweep("withdrawals at former destinations", self._look_at_former, _FORMER_DESTINATIONS_S),
            Sweep("subscribers", self._subscribe, _SUBSCRIBERS_S),
            *audit,
            *asking,
            *(Sweep(f"alarms to {one.name}", one.run, _ALARMS_S) for one in self._alarms),
            *([Sweep("destinations asked", self._ask, ask_every_s)] if ask_every_s else []),
        ]

    def _look_at_former(self) -> None:
        tell_out_of_reach(self._node.database, [one.name for one in self._node.settings.destination])

    def _ask(self) -> None:
        self._asked.run()

    def _forward_audit(self, name: str) -> None:
        self._audit[name].run()

    def _log_owed_to_nobody(self) -> None:
        """Log what waits for a destination that was renamed or taken out of the settings: nobody delivers it."""
        with self._node.database.read() as connection:
            owed = owed_to_nobody(connection, self._node.settings)
        for name, waiting in owed.items():
            _log.error("owed to a destination that is not configured",
                       extra={"destination": name, **asdict(waiting), "advice": advice_for(name, waiting)})  # fmt: skip


def _asked(node: Node, settings: Settings) -> DestinationsAsked:
    return DestinationsAsked(destinations_of(settings), caller_of(settings), node.database)


def _memory(node: Node, destination: DestinationKind) -> ServerMemory | None:
    if not destination.server_address:
        return None
    holds = timedelta(seconds=node.settings.delivery.ask_again_s)
    return KeptMemory(node.database, (destination.name, destination.server_address), holds)


def _equipment(node: Node, settings: Settings, destination: DestinationKind) -> Equipment:
    """Return what delivers to a destination by these settings."""
    delivery, caller = settings.delivery, caller_of(settings)
    policy = OutboxPolicy(
        node.identity,
        BackOff(delivery.first_retry_s, delivery.max_retry_s),
        capability_probe(destination, profiles_of(settings), settings),
        partial(destination.reach, caller),
        WithdrawalPlanner(profiles_of(settings), speaker_of(settings)),
        identity_check(destination, settings),
        tells_events=destination.told_in_events is not None,
        audit=node.audit,
        already_there=_already_there(node, destination),
    )
    make_sender = partial(destination.sender, replace(caller, memory=_memory(node, destination)))
    return Equipment(destination, make_sender, policy, partial(_prover, node, destination))


def _already_there(node: Node, destination: DestinationKind) -> AlreadyThere | None:
    """Return what asks a destination before anything is sent twice; `None` where the node was never put back from a
    backup, or the destination cannot be asked."""
    restoration = restoration_of(node.settings.node.data_dir)
    if restoration is None:
        return None
    questions = destination.proof_questions(replace(caller_of(node.settings), memory=_memory(node, destination)))
    has = questions.has if questions else None
    return AlreadyThere(restoration.restored_at, has) if has else None


def _prover(node: Node, destination: DestinationKind) -> Prover | None:
    """Return who proves what a destination was sent; `None` where that is not wanted, or cannot be done."""
    caller = replace(caller_of(node.settings), memory=_memory(node, destination))
    questions = destination.proof_questions(caller)
    if questions is None:
        return None
    delivery = node.settings.delivery
    times = ProofTimes(delivery.verify_after_s, delivery.verify_within_s, destination.verify_again_days)
    return Prover(destination.name, questions, node.database, node.spool, times)


def _report_search(node: Node) -> ReportSearch | None:
    """Return what asks an EHR for reports; `None` where that is not wanted."""
    settings, own = node.settings, node.settings.reports
    named = [one for one in destinations_of(settings) if one.name == own.fhir]
    if not named or not isinstance(named[0], FhirDestination):
        return None
    destination = named[0]
    options = SearchOptions(
        destination=destination.name,
        times=SearchTimes(after=timedelta(hours=own.search_after_h), within=timedelta(days=own.search_days)),
        patient_authority=settings.hl7.patient_authority, patient_system=settings.fhir.patient_system,
        issuers=settings.fhir.issuers, accession_system=settings.fhir.accession_system,
    )  # fmt: skip

    def find(study: SoughtStudy) -> list[FoundReport]:
        """Ask with connections of its own: a renewed certificate needs no restart."""
        caller = replace(caller_of(settings), memory=_memory(node, destination))
        return destination.sender(caller).reports_on(study)

    return ReportSearch(node.database, find, options)


def _subscribers(settings: Settings) -> list[Subscriber]:
    """Return who is told of events, and of which routes' results: of those that name it, or of all where none does."""
    return [
        Subscriber(
            one.name, [route.name for route in settings.route if one.name in route.destinations], one.told_in_events
        )
        for one in destinations_of(settings)
        if one.told_in_events is not None
    ]
