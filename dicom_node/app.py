"""The composition root: wires the parts of `Node` into running roles. The only place that knows all edges.

The listener starts first and everything else behind it, so that a modality can send within a second; each role loads
only what it needs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from dicom_node import __version__
from dicom_node.core.errors import SettingsError
from dicom_node.index.jobs import free_dead_leases
from dicom_node.roles.node import Node

if TYPE_CHECKING:
    from dicom_node.deliver.kinds.kind import DestinationKind
    from dicom_node.deliver.outbox import DestinationWorker
    from dicom_node.receive.process import AcceptorProcess
    from dicom_node.roles.infer import InferRole
    from dicom_node.roles.receive import ReceiveRole

ROLES = ("receive", "index", "infer", "deliver", "api")

_COMPLETENESS_EVERY_S = 1.0
_ASSOCIATIONS_EVERY_S = 10.0
_PARTS_EVERY_S = 600.0
_log = logging.getLogger(__name__)


class Service:
    """A running node: starts the roles it was given, stops them in the order that loses nothing."""

    def __init__(self, node: Node, roles: Sequence[str] = ROLES, acceptor: AcceptorProcess | None = None) -> None:
        """`acceptor` serves the DICOM ports since before; it is needed for the role `receive`."""
        self._node = node
        self._acceptor = acceptor
        self._roles = frozenset(roles)
        self._reception: ReceiveRole | None = None
        self._api: Any = None
        self._retrievals: Any = None
        self._pull_sweep: Any = None
        self._ingest: Any = None
        self._watches: Any = None
        self._scheduler: Any = None
        self._infer_role: InferRole | None = None
        self._outbox: list[DestinationWorker] = []
        self.ports: dict[str, int] = {}

    def start(self) -> None:
        """Start the roles; when this returns, the ports are open and written to `ports.json`."""
        started_at = datetime.now(UTC)
        node = self._node
        self._free_leases(started_at)
        _ = node.routes  # a configuration that cannot work must stop the start, not the first study
        if "receive" in self._roles:
            self._start_reception()
            self._start_watching()
        if "deliver" in self._roles:
            self._start_outbox()
        if "infer" in self._roles:
            self._start_infer_role()
        if "api" in self._roles and node.settings.api.enabled:
            self._start_api()
        self._start_sweeps(started_at)
        self._write_ports()
        _log.info("node ready", extra={"version": __version__, "roles": sorted(self._roles), **self.ports})

    def stop(self) -> None:
        """Stop receiving first, then finish what runs; everything unfinished is found again at the next start."""
        for part in (self._reception, self._watches, self._retrievals, self._scheduler, self._api):
            if part is not None:
                part.stop()
        for worker in self._outbox:
            worker.stop()
        if self._infer_role is not None:
            self._infer_role.stop()
        if self._ingest is not None:
            self._ingest.close()
        if self._infer_role is not None:
            self._infer_role.join(10)
        for worker in self._outbox:
            worker.join(5)
        self._node.database.close()
        _log.info("node stopped")

    def wake(self) -> None:
        """Something was queued or made due: look now instead of at the next poll."""
        self._wake_job_runners()
        for worker in self._outbox:
            worker.wake()

    def _wake_job_runners(self) -> None:
        if self._infer_role is not None:
            self._infer_role.wake()

    def _free_leases(self, now: datetime) -> None:
        with self._node.database.write() as connection:
            freed = free_dead_leases(connection, self._node.identity, _is_alive, now)
        if freed:
            _log.warning("work of a process that is gone is taken up again", extra={"leases": freed})

    # --- the roles ---

    def _start_reception(self) -> None:
        from dicom_node.roles.receive import ReceiveRole  # noqa: PLC0415 - each role loads only what it needs

        if self._acceptor is None:
            raise SettingsError("The role receive needs an acceptor; start the node with `dicom-node serve`.")
        self._reception = ReceiveRole(self._node, self._acceptor)
        self.ports |= self._reception.start()
        _log.info("listening", extra={"ae_title": self._node.settings.node.ae_title, **self.ports})

    def _start_watching(self) -> None:
        if not self._node.settings.watch:
            return
        self._watches = self._node.open_watches(self._node.receiver_id)
        self._watches.start()

    def _start_outbox(self) -> None:
        from dicom_node.deliver.kinds import destinations_of  # noqa: PLC0415
        from dicom_node.deliver.kinds.kind import Caller  # noqa: PLC0415
        from dicom_node.deliver.outbox import BackOff, DestinationWorker, OutboxPolicy  # noqa: PLC0415
        from dicom_node.deliver.peer_capabilities import capability_probe  # noqa: PLC0415
        from dicom_node.deliver.profiles import profiles_of  # noqa: PLC0415

        node, delivery = self._node, self._node.settings.delivery
        back_off = BackOff(delivery.first_retry_s, delivery.max_retry_s)
        profiles = profiles_of(node.settings)
        caller = Caller(node.settings.node.ae_title, delivery.timeout_s, node.settings.dicom_tls)

        def worker(destination: DestinationKind) -> DestinationWorker:
            known = capability_probe(destination, profiles, node.settings)
            policy = OutboxPolicy(node.identity, back_off, known)
            sender = partial(destination.sender, caller)
            return DestinationWorker(destination.name, sender, node.database, node.spool, policy)

        self._outbox = [worker(destination) for destination in destinations_of(node.settings)]
        for one in self._outbox:
            one.start()
        self._tell_owed_to_nobody()

    def _tell_owed_to_nobody(self) -> None:
        """Log what waits for a destination that was renamed or taken out of the settings: nobody delivers it."""
        from dicom_node.index.deliveries import owed_to_others  # noqa: PLC0415

        names = [one.name for one in self._node.settings.destination]
        with self._node.database.read() as connection:
            owed = owed_to_others(connection, names)
        for name, count in owed.items():
            advice = "Name a destination so again, or run the studies again: then the present destinations get them."
            _log.error("owed to a destination that is not configured",
                       extra={"destination": name, "deliveries": count, "advice": advice})  # fmt: skip

    def _start_infer_role(self) -> None:
        from dicom_node.roles.infer import InferRole  # noqa: PLC0415

        self._infer_role = InferRole(self._node, self.wake)
        self._infer_role.start()

    def _start_api(self) -> None:
        from dicom_node.api.access import load_or_create_token  # noqa: PLC0415
        from dicom_node.api.application import create_app  # noqa: PLC0415
        from dicom_node.api.parts import ApiParts  # noqa: PLC0415
        from dicom_node.api.server import ApiServer  # noqa: PLC0415
        from dicom_node.governance.standing import model_views  # noqa: PLC0415
        from dicom_node.jobs.sweeps import AssociationSweep  # noqa: PLC0415

        node, api = self._node, self._node.settings.api
        pull_id = f"pull:{node.receiver_id}"[:64]
        self._pull_sweep = AssociationSweep(node.database, pull_id)
        self._pull_sweep.forget_own()
        self._retrievals = node.open_retrievals(pull_id, lasting=True)
        self._retrievals.take_up()
        self._ingest = node.open_ingest(pull_id)
        token_file = api.token_file or node.settings.node.data_dir / "api-token"
        token, digest = load_or_create_token(token_file)
        parts = ApiParts(
            database=node.database,
            settings=node.settings,
            open_object=node.spool.path,
            models=lambda: model_views(node.cards, node.admission),
            routes=node.routes,
            wake=self.wake,
            token_digest=digest,
            receiver_ready=self._receiver_ready,
            retrievals=self._retrievals,
            ingest=self._ingest,
            version=__version__,
        )
        self._api = ApiServer(create_app(parts), api.host, api.port)
        self._api.start()
        self.ports["api"] = self._api.port
        if token is not None:
            # Once, to whoever started the node; a log would carry it to strangers.
            # With its line's end in it: a line of the log may come between two writes.
            print(f"API token (shown once, kept in {token_file}): {token}\n", end="", flush=True)  # noqa: T201

    def _receiver_ready(self) -> bool:
        return "receive" not in self._roles or (self._reception is not None and self._reception.is_serving())

    def _unsettled_studies(self) -> frozenset[str]:
        return self._reception.consumer.unsettled_studies() if self._reception else frozenset()

    def _start_sweeps(self, started_at: datetime) -> None:
        from dicom_node.jobs.schedule import SweepSchedule  # noqa: PLC0415
        from dicom_node.jobs.sweeps import AssociationSweep, CompletenessSweep  # noqa: PLC0415

        node = self._node
        self._scheduler = SweepSchedule()
        if "index" in self._roles:
            completeness = CompletenessSweep(
                node.database, node.routes, node.cards, self._wake_job_runners, self._unsettled_studies
            )
            self._scheduler.every(_COMPLETENESS_EVERY_S, "completeness", completeness.run)
        if "receive" in self._roles:
            associations = AssociationSweep(node.database, node.receiver_id)
            self._scheduler.every(_ASSOCIATIONS_EVERY_S, "associations", associations.run)
            self._scheduler.once("adoption", lambda: self._adopt(started_at))
        if self._pull_sweep is not None:
            self._scheduler.every(_ASSOCIATIONS_EVERY_S, "pulls", self._pull_sweep.run)
            self._scheduler.every(_PARTS_EVERY_S, "parts", node.spool.remove_abandoned_parts)
        self._scheduler.start()

    def _adopt(self, started_at: datetime) -> None:
        self._node.spool.remove_abandoned_parts()
        count = self._node.intake.adopt_orphans(started_at)
        if count:
            _log.warning("orphans adopted", extra={"objects": count})

    def _write_ports(self) -> None:
        path = self._node.settings.node.data_dir / "ports.json"
        path.with_suffix(".new").write_text(json.dumps(self.ports | {"pid": os.getpid()}))
        path.with_suffix(".new").replace(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
