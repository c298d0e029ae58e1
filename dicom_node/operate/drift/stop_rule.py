"""The stop rule: a route that drifts for days goes to shadow, where the settings let it, until a person restores it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from dicom_node.config.running import DriftSettings
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent
from dicom_node.core.drift.features import is_output
from dicom_node.core.principal import NODE
from dicom_node.index.drift.stops import stop_route
from dicom_node.index.drift.streams import DriftComparison, DriftView, drift_views

_NAMED = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stopped:
    """A route that was moved to shadow just now, and why."""

    route: str
    reason: str
    at: datetime


def stop_what_drifts(connection: Connection, settings: DriftSettings, now: datetime) -> list[Stopped]:
    """Move to shadow what the settings name and what has drifted for long enough; return what was not there before."""
    stopped = []
    for view in drift_views(connection) if settings.stop else ():
        lasting = list(_lasting(view, settings))
        if not lasting:
            continue
        names = sorted({one.feature for one in lasting})
        named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        reason = f"On {view.scanner} its {named} drifted at {max(one.looks for one in lasting)} looks in a row."
        detail = {"scanner": view.scanner, "model": view.model, "version": view.model_version, "features": names}
        if stop_route(connection, view.route, (reason, detail), NODE, now):
            stopped.append(Stopped(view.route, reason, now))
    return stopped


def _lasting(view: DriftView, settings: DriftSettings) -> Iterator[DriftComparison]:
    for one in view.drifting if view.route in settings.stop else ():
        counts = settings.stop_on == "any" or is_output(one.feature)
        if counts and one.looks >= settings.stop_after_looks:
            yield one


def tell_stop(audit: Audit, stopped: Stopped) -> None:
    """Tell log and audit trail that the node has stopped a route."""
    advice = f"Look into it, then: dicom-node drift restore {stopped.route} --by NAME --reason TEXT"
    _log.error("route moved to shadow", extra={"route": stopped.route, "why": stopped.reason, "advice": advice})
    detail = {"name": stopped.route, "to": "shadow", "reason": stopped.reason}
    event = AuditedEvent(act=AuditedAct.ROUTE_CHANGED, actor=NODE, detail=detail)
    audit.note(event, f"stop:{stopped.route}:{stopped.at:%Y%m%d%H%M%S}")
