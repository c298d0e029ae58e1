"""`dicom-node destinations` and `rules suspend`, `resume`: what a person has stopped, and lets go on."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import NotFound
from dicom_node.index.decided import suspensions
from dicom_node.index.outbox.destinations import Suspension
from dicom_node.index.outbox.destinations import suspensions as destination_suspensions
from dicom_node.operate.backup.restored import Restoration, write_restoration
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings


def suspend_destination(options: argparse.Namespace) -> int:
    """Send nothing to a destination from now on."""
    _require_destination(options)
    _change(options, AuditedAct.DESTINATION_CHANGED, _suspended(options, suspensions.suspend_destination))
    say(f"Suspended: {options.name}. What is owed to it waits until: dicom-node destinations resume {options.name}")
    return 0


def hold_destinations(options: argparse.Namespace) -> int:
    """Send nothing anywhere, and ask from then on what is there before anything of an older study is sent."""
    settings = settings_of_a_node(options)
    names = [one.name for one in settings.destination]
    now = datetime.now(UTC)
    with opened(options, AuditedAct.DESTINATION_CHANGED, held=names) as database, database.write() as connection:
        suspended = destination_suspensions(connection)
        for name in names:
            if name not in suspended or not suspended[name].by:
                suspensions.suspend_destination(connection, name, options.reason, actor(), now)
    write_restoration(settings.node.data_dir, Restoration("by other means", now, now))
    say(f"Suspended: {', '.join(names) or 'none'}. Start the node, and let each go on when you are done: "
        "dicom-node destinations resume NAME")  # fmt: skip
    return 0


def resume_destination(options: argparse.Namespace) -> int:
    """Send to a destination again."""
    _change(options, AuditedAct.DESTINATION_CHANGED, _resumed(options, suspensions.resume_destination))
    say(f"Resumed: {options.name}. What waits for it goes out, the most urgent first.")
    return 0


def suspend_route(options: argparse.Namespace) -> int:
    """Start no analysis by a route from now on."""
    _require_route(options)
    _change(options, AuditedAct.ROUTE_CHANGED, _suspended(options, suspensions.suspend_route))
    say(f"Suspended: {options.name}. Studies that it wants wait until: dicom-node rules resume {options.name}")
    return 0


def resume_route(options: argparse.Namespace) -> int:
    """Let a route go on."""
    _change(options, AuditedAct.ROUTE_CHANGED, _resumed(options, suspensions.resume_route))
    say(f"Resumed: {options.name}. Studies that waited for it are decided on anew.")
    return 0


def list_destinations(options: argparse.Namespace) -> int:
    """Show the destinations of the settings, and which are suspended."""
    known = {one.name: str(one.kind) for one in load_settings(options.config).destination}
    with opened(options) as database, database.read() as connection:
        suspended = destination_suspensions(connection)
    if options.json:
        print_json([{"destination": name, "kind": kind, "suspension": suspended.get(name)}
                    for name, kind in known.items()])  # fmt: skip
        return 0
    rows = [(name, kind, *standing(suspended.get(name))) for name, kind in known.items()]
    print_table(["destination", "kind", "", "since", "by", "why"], rows)
    return 0


def standing(one: Suspension | None) -> tuple[object, ...]:
    """Return the cells of a table that say how something stands: whether it is suspended, since when, by whom, why."""
    return ("active", "", "", "") if one is None else ("SUSPENDED", one.since, one.by or "the node itself", one.reason)


def _suspended(options: argparse.Namespace, act: Callable[..., None]) -> Callable[[Connection], None]:
    return lambda connection: act(connection, options.name, options.reason, actor(), datetime.now(UTC))


def _resumed(options: argparse.Namespace, act: Callable[..., None]) -> Callable[[Connection], None]:
    return lambda connection: act(connection, options.name, actor(), datetime.now(UTC))


def _change(options: argparse.Namespace, act: AuditedAct, change: Callable[[Connection], None]) -> None:
    with opened(options, act, name=options.name) as database, database.write() as connection:
        change(connection)


def _require_destination(options: argparse.Namespace) -> None:
    known = [one.name for one in load_settings(options.config).destination]
    if options.name not in known:
        raise NotFound(f"The configuration has no destination {options.name!r}; it has {', '.join(known) or 'none'}.")


def _require_route(options: argparse.Namespace) -> None:
    node = Node(settings_of_a_node(options))
    with opened(options) as database:
        known = [one.name for one in RoutesInForce(node.settings, node.cards, database).now().routes]
    if options.name not in known:
        raise NotFound(f"There is no route {options.name!r}; there are: {', '.join(known) or 'none'}.")
