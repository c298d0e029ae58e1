"""The role `deliver`: one worker per destination brings it what it is owed, another proves that it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial

from dicom_node.config.settings import Settings
from dicom_node.deliver.alarms.asking import DestinationsAsked
from dicom_node.deliver.alarms.telling import alarm_tellers
from dicom_node.deliver.audit_forwarding import audit_forwardings
from dicom_node.deliver.dispatch.already_there import AlreadyThere
from dicom_node.deliver.dispatch.identity_check import identity_check
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.dispatch.proof import Prover
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import DestinationKind, caller_of
from dicom_node.deliver.owed_to_nobody import advice_for, owed_to_nobody
from dicom_node.deliver.peer_capabilities import capability_probe
from dicom_node.deliver.profiles import profiles_of
from dicom_node.deliver.server_memory import KeptMemory
from dicom_node.deliver.withdrawals import WithdrawalPlanner, speaker_of, tell_out_of_reach
from dicom_node.fhir.client.capabilities import ServerMemory
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.notifications import subscribe
from dicom_node.index.outbox.proofs import ProofTimes
from dicom_node.operate.backup.restored import restoration_of
from dicom_node.operate.routes_in_force import RoutesNow
from dicom_node.roles.node import Node
from dicom_node.roles.role import Role, Sweep

_END_S = 5.0
_SUBSCRIBERS_S = 5.0
_FORMER_DESTINATIONS_S = 30.0
_AUDIT_S = 2.0
_ALARMS_S = 5.0
_log = logging.getLogger(__name__)


class DeliverRole(Role):
    """Runs the outbox, and asks destinations whether what they took is there."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        super().__init__(node, wake_all)
        destinations = destinations_of(node.settings)
        self._workers = [_worker(node, destination) for destination in destinations]
        provers = [one for destination in destinations if (one := _prover(node, destination)) is not None]
        self._threads: list[DestinationWorker | Prover] = [*self._workers, *provers]
        self._told_of: RoutesNow | None = None
        self._audit = audit_forwardings(node.settings, node.database, node.identity)
        self._alarms = alarm_tellers(node.settings, node.database)
        self._asked = DestinationsAsked(destinations, caller_of(node.settings), node.database)

    def start(self) -> Mapping[str, int]:
        """Begin to deliver; what happens from now on is told to those who hear of events."""
        self._subscribe()
        for one in self._threads:
            one.start()
        self._log_owed_to_nobody()
        return {}

    def _subscribe(self) -> None:
        """Tell who hears of events, and of which routes, as they are now; nothing where that is known."""
        present = self._node.in_force.now()
        if present is not self._told_of:
            with self._node.database.write() as connection:
                subscribe(connection, _subscribers(present.settings))
            self._told_of = present

    def stop(self) -> None:
        """End after the objects that are on their way; what is left stays owed."""
        for one in self._threads:
            one.stop()

    def join(self) -> None:
        """Wait until the workers have ended."""
        for one in self._threads:
            one.join(_END_S)
        for forwarding in self._audit:
            forwarding.close()

    def wake(self) -> None:
        """Look now what is owed."""
        for worker in self._workers:
            worker.wake()

    def sweeps(self) -> Sequence[Sweep]:
        """Return the looks at who hears of events, for routes may be edited, and at former destinations, which nobody
        tells that a result is withdrawn; who collects the audit trail; and who is told of alarms."""
        names = [one.name for one in self._node.settings.destination]
        look = partial(tell_out_of_reach, self._node.database, names)
        ask_every_s = self._node.settings.alarms.ask_every_s
        audit = [Sweep(f"audit to {one.name}", one.run, _AUDIT_S) for one in self._audit]
        return [
            Sweep("withdrawals at former destinations", look, _FORMER_DESTINATIONS_S),
            Sweep("subscribers", self._subscribe, _SUBSCRIBERS_S),
            *audit,
            *(Sweep(f"alarms to {one.name}", one.run, _ALARMS_S) for one in self._alarms),
            *([Sweep("destinations asked", self._asked.run, ask_every_s)] if ask_every_s else []),
        ]

    def _log_owed_to_nobody(self) -> None:
        """Log what waits for a destination that was renamed or taken out of the settings: nobody delivers it."""
        with self._node.database.read() as connection:
            owed = owed_to_nobody(connection, self._node.settings)
        for name, waiting in owed.items():
            _log.error("owed to a destination that is not configured",
                       extra={"destination": name, **asdict(waiting), "advice": advice_for(name, waiting)})  # fmt: skip


def _memory(node: Node, destination: DestinationKind) -> ServerMemory | None:
    if not destination.server_address:
        return None
    holds = timedelta(seconds=node.settings.delivery.ask_again_s)
    return KeptMemory(node.database, (destination.name, destination.server_address), holds)


def _worker(node: Node, destination: DestinationKind) -> DestinationWorker:
    delivery, caller = node.settings.delivery, caller_of(node.settings)
    policy = OutboxPolicy(
        node.identity,
        BackOff(delivery.first_retry_s, delivery.max_retry_s),
        capability_probe(destination, profiles_of(node.settings), node.settings),
        partial(destination.reach, caller),
        WithdrawalPlanner(profiles_of(node.settings), speaker_of(node.settings)),
        identity_check(destination, node.settings),
        tells_events=destination.told_in_events is not None,
        audit=node.audit,
        already_there=_already_there(node, destination),
    )
    make_sender = partial(destination.sender, replace(caller, memory=_memory(node, destination)))
    return DestinationWorker(destination.name, make_sender, node.database, node.spool, policy)


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


def _subscribers(settings: Settings) -> list[Subscriber]:
    """Return who is told of events, and of which routes' results: of those that name it, or of all where none does."""
    return [
        Subscriber(
            one.name, [route.name for route in settings.route if one.name in route.destinations], one.told_in_events
        )
        for one in destinations_of(settings)
        if one.told_in_events is not None
    ]
