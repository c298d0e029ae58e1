"""`dicom-node rules list`, `replay`, `save`, `revert`: routes in force, tried, written anew, and as before."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.routing.suspensions import standing
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import SettingsError
from dicom_node.core.series.trial import RouteTrial, RulesTrial
from dicom_node.governance.admission import Standing
from dicom_node.governance.standing import standing_so_far
from dicom_node.index.decided.suspensions import route_suspensions
from dicom_node.operate.routes_in_force import RouteChange, RouteOrigin, RoutesInForce
from dicom_node.operate.rules import proposed_routes, rules_of, try_rules, with_routes
from dicom_node.roles.node import Node


def replay(options: argparse.Namespace) -> int:
    """Try routes on the studies of the index, and show what would change."""
    node = Node(settings_of_a_node(options))
    since = None if options.days is None else datetime.now(UTC) - timedelta(days=options.days)
    with opened(options, AuditedAct.QUERY) as database:
        settings = RoutesInForce(node.settings, node.cards, database).now().settings
        rules = present = rules_of(settings, node.cards)
        if options.file is not None:
            rules = rules_of(with_routes(settings, proposed_routes(_text_of(options.file))), node.cards)
        with database.read() as connection:
            trial = try_rules(connection, present if options.file else None, rules, options.studies, since)
    if options.json:
        print_json(trial)
    else:
        _print(trial)
    return 0


def save(options: argparse.Namespace) -> int:
    """Put the routes of a file over those of the configuration file, of which they take the place."""
    routes = proposed_routes(_text_of(options.file))
    names = ", ".join(str(one.get("name", "")) for one in routes)
    node = Node(settings_of_a_node(options))
    for one in routes:
        _require_live(str(one.get("model", "")), node)
    with opened(options, AuditedAct.ROUTE_CHANGED, name=names) as database:
        in_force = RoutesInForce(node.settings, node.cards, database)
        for one in routes:
            in_force.save(one, RouteChange(options.reason, actor(), datetime.now(UTC)))
    say(f"In force for what comes from now on: {names}. To go back: dicom-node rules revert NAME --reason TEXT")
    return 0


def revert(options: argparse.Namespace) -> int:
    """Let the configuration file's route be in force again."""
    node = Node(settings_of_a_node(options))
    with opened(options, AuditedAct.ROUTE_CHANGED, name=options.name) as database:
        in_force = RoutesInForce(node.settings, node.cards, database)
        in_force.revert(options.name, RouteChange(options.reason, actor(), datetime.now(UTC)))
    say(f"Reverted: {options.name} is as in the configuration file from now on.")
    return 0


def list_routes(options: argparse.Namespace) -> int:
    """Show the routes in force: where they come from, and which are suspended."""
    node = Node(settings_of_a_node(options))
    with opened(options) as database:
        present = RoutesInForce(node.settings, node.cards, database).now()
        with database.read() as connection:
            suspended = route_suspensions(connection)
    if options.json:
        print_json([{"route": one, "edited": present.origins.get(one.name), "suspension": suspended.get(one.name)}
                    for one in present.routes])  # fmt: skip
        return 0
    rows = [(one.name, one.model, _origin(present.origins.get(one.name)), *standing(suspended.get(one.name)))
            for one in present.routes]  # fmt: skip
    print_table(["route", "model", "from", "", "since", "by", "why"], rows)
    for one in present.origins.values():
        for text in filter(None, (one.conflict, one.unusable)):
            say(text)
    return 0


def _origin(one: RouteOrigin | None) -> str:
    if one is None or one.unusable:
        return "the configuration file"
    return f"{one.edited_by}, {one.edited_at.astimezone():%Y-%m-%d %H:%M}"


def _require_live(model: str, node: Node) -> None:
    card = node.cards.get(model)
    if card is not None:
        found = standing_so_far(card, node.settings)
        if found.standing is not Standing.LIVE:
            raise SettingsError(f"Model {model} may not run: {found.text}")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}). Name a TOML file.") from error


def _print(trial: RulesTrial) -> None:
    since = "" if trial.since is None else f", the oldest of {trial.since.astimezone():%Y-%m-%d %H:%M}"
    say(f"Tried on {trial.studies} {'study' if trial.studies == 1 else 'studies'}{since}. Nothing ran.")
    heads = ["route", "wanted", "would want", "would analyse", "gained", "lost", "other series"]
    print_table(heads, [(one.route, one.wanted_before, one.wanted, one.analysed, one.gained, one.lost, one.other_series)
                        for one in trial.routes])  # fmt: skip
    for one in trial.routes:
        _print_route(one)


def _print_route(one: RouteTrial) -> None:
    clauses = [(c.asked_by, c.attribute, c.condition, c.holds, c.fails) for c in one.clauses]
    if clauses:
        print_table(["asked by", "attribute", "must be", "holds", "fails"], clauses, title=f"Route {one.route}")
    changed = [(c.study_instance_uid, c.change, c.was, c.would_be, c.reason) for c in one.changed]
    if changed:
        print_table(["study", "change", "was", "would be", "why"], changed, title=f"Route {one.route}: what changes")
