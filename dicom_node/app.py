"""The composition root: the roles of the table `roles.ROLES`, started and stopped in its order.

The listener starts first and everything else behind it, so that a modality can send within a second. Receiving stops
first, so that nothing is acknowledged while the rest ends.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from dicom_node import __version__
from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.calls.limits import Networks
from dicom_node.core.principal import NODE
from dicom_node.index.due import now_in
from dicom_node.index.jobs import free_leases_of
from dicom_node.operate.configuration.reload import Configuration, PreparedChange
from dicom_node.operate.metrics.listener import MetricsListener
from dicom_node.operate.traces import Traces
from dicom_node.people.audit.trail import digests_of
from dicom_node.roles import ROLES
from dicom_node.roles.node import Node, require_own_store
from dicom_node.roles.role import Role, Sweep
from dicom_node.storage.owners import BEAT_EVERY_S

_SCHEDULE = "dicom_node.roles.schedule:SweepSchedule"
#: How long the work of a process that was killed waits, where another one lives on the same data folder.
_DEAD_EVERY_S = 15.0
_AUDIT_EVERY_S = 1.0
_CONFIGURATION_EVERY_S = 1.0
_log = logging.getLogger(__name__)


class Service:
    """A running node: starts the roles it was given, stops them in the order that loses nothing."""

    def __init__(self, node: Node, names: Sequence[str] = (), hangups: Callable[[], int] = lambda: 0) -> None:
        """Without `names` it has every role; `hangups` counts how often SIGHUP has asked to read the settings again."""
        self._node = node
        self._hangups = hangups
        self._names = [name for name in ROLES if not names or name in names]
        self._roles: list[Role] = []
        self._schedule: Any = None
        self._configuration: Configuration | None = None
        self._metrics: MetricsListener | None = None
        self._traces: Traces | None = None

    def start(self) -> None:
        """Start the roles; when this returns, the ports are open and written to `ports.json`."""
        require_own_store(self._node.database, self._node.spool)
        self._node.owners.note(roles=self._names)
        self._configuration = self._node.configuration
        with self._configuration.starting(self._names, self._hangups):
            self._start(self._configuration)

    def _start(self, configuration: Configuration) -> None:
        self._free_leases()
        _ = self._node.routes  # a configuration that cannot work must stop the start, not the first study
        ports = self._serve_metrics()
        self._trace()
        for name in self._names:
            role: Role = _found(ROLES[name])(self._node, self.wake)
            self._roles.append(role)  # before its start: what fails half way is stopped, too
            configuration.attend(partial(_prepared, role))
            ports |= role.start()
        sweeps = [sweep for role in self._roles for sweep in role.sweeps()]
        own = (
            Sweep("dead-owners", self._free_leases, _DEAD_EVERY_S),
            Sweep("sign-of-life", self._node.owners.beat, BEAT_EVERY_S),
            Sweep("audit", self._node.audit.flush, _AUDIT_EVERY_S),
            Sweep("configuration", configuration.look, _CONFIGURATION_EVERY_S),
            Sweep("time", self._node.clock.run, self._node.settings.time.ask_every_s),
        )
        self._schedule = _found(_SCHEDULE)([*sweeps, *own])
        self._schedule.start()
        self._write_ports(ports)
        self._note(AuditedAct.APPLICATION_STARTED, roles=sorted(self._names), version=__version__)
        self._note(AuditedAct.SETTINGS_IN_FORCE, **digests_of(self._node.settings))
        _log.info("node ready", extra={"version": __version__, "roles": sorted(self._names), **ports})

    def stop(self) -> None:
        """Stop receiving first, then finish what runs; everything unfinished is found again at the next start."""
        if self._configuration is not None:
            self._configuration.close()
        for role in self._roles:
            role.stop()
        if self._schedule is not None:
            self._schedule.stop()
        for role in self._roles:
            role.join()
        if self._metrics is not None:
            self._metrics.stop()
        if self._traces is not None:
            self._traces.close()
        self._note(AuditedAct.APPLICATION_STOPPED, roles=sorted(self._names))
        self._node.close()
        _log.info("node stopped")

    def wake(self) -> None:
        """Something was queued or made due: look now instead of at the next poll."""
        for role in self._roles:
            role.wake()

    def _serve_metrics(self) -> dict[str, int]:
        """Begin to measure, and serve what is measured on a port of its own where the settings name one."""
        own, exposition = self._node.settings.metrics, self._node.metrics
        if own.port is None:
            return {}
        self._metrics = MetricsListener(own.host, own.port, Networks(own.allow), exposition)
        self._metrics.start()
        return {"metrics": self._metrics.port}

    def _trace(self) -> None:
        endpoint = self._node.settings.traces.endpoint
        if endpoint:
            self._traces = Traces(endpoint, self._node.settings.node.ae_title, __version__)
            self._traces.start()

    def _note(self, act: AuditedAct, **detail: object) -> None:
        self._node.audit.note(AuditedEvent(act=act, actor=NODE, detail=detail))

    def _free_leases(self) -> None:
        """Take up the work of processes that are proved to be gone."""
        with self._node.owners.dead() as dead:
            if not dead:
                return
            with self._node.database.write() as connection:
                freed = free_leases_of(connection, [owner.identity for owner in dead], now_in(connection))
        if freed:
            _log.warning("work of a process that is gone is taken up again", extra={"leases": freed})
            self.wake()

    def _write_ports(self, ports: Mapping[str, int]) -> None:
        """Write down where the roles that live on this data folder listen, those of other processes, too."""
        self._node.owners.note(ports=dict(ports))
        known: dict[str, int] = {}
        for owner in self._node.owners.living():
            known |= owner.note.get("ports", {})
        path = self._node.settings.node.data_dir / "ports.json"
        draft = path.with_suffix(f".{os.getpid()}.new")
        draft.write_text(json.dumps({**known, **ports, "pid": os.getpid()}))
        draft.replace(path)


def _prepared(role: Role, wanted: Settings) -> PreparedChange:
    return PreparedChange(role.prepared(wanted))


def _found(place: str) -> Any:
    """Return what ``module:name`` names; the module is loaded now."""
    module, name = place.split(":")
    return getattr(import_module(module), name)
