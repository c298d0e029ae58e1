"""`dicom-node drift`: what has changed in inputs and outputs; a route that was stopped for it delivers again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from dicom_node.cli.node import opened
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.index.drift.stops import restore_route, route_stops
from dicom_node.index.drift.streams import DriftView, drift_views

_COLUMNS = ["scanner", "model, route", "feature", "reference", "window, days", "statistic", "corrected p", "since"]


_ESTIMATED = ("auroc", "sensitivity", "specificity")


def show(options: argparse.Namespace) -> int:
    """Show what drifts, as of the last look; or every comparison."""
    with opened(options) as database, database.read() as connection:
        found, stops = drift_views(connection, every=options.all), route_stops(connection)
    if options.json:
        print_json({"streams": found, "stops": stops})
        return 0
    rows = [
        (stream.scanner, f"{stream.model} {stream.model_version}, {stream.route}", one.feature, one.reference_n,
         f"{one.window_n}, {one.window_days}", f"{one.test} {one.statistic:.3g}", f"{one.corrected_p:.2g}", one.since)
        for stream in found
        for one in stream.comparisons
    ]  # fmt: skip
    if rows:
        print_table(_COLUMNS, rows)
    _tell_rest(found)
    for stop in stops:
        say(f"Route {stop.route} is in shadow since {stop.since:%Y-%m-%d %H:%M} UTC: {stop.reason} To let it deliver "
            f"again: dicom-node drift restore {stop.route} --by NAME --reason TEXT")  # fmt: skip
    return 0


def restore(options: argparse.Namespace) -> int:
    """Let a route deliver again."""
    by = (f"{options.by} ({actor().name})", options.reason)
    with (
        opened(options, AuditedAct.ROUTE_CHANGED, name=options.name, by=options.by, reason=options.reason) as database,
        database.write() as connection,
    ):
        restore_route(connection, options.name, by, datetime.now(UTC), new_reference=options.new_reference)
    say(f"Restored: {options.name}. What comes from now on is delivered; a study of meanwhile: dicom-node rerun STUDY")
    return 0


def _tell_rest(found: Sequence[DriftView]) -> None:
    for one in found:
        if one.compared_from is None:
            of = f"{one.scanner}, {one.model} {one.model_version}, route {one.route}"
            say(f"Reference of {of}: {one.results} results so far.")
        _tell_performance(one)
    drifting = sum(len(one.drifting) for one in found)
    say(f"{len(found)} streams of results; {drifting} comparisons drift." if found else "No result was kept yet.")


def _tell_performance(one: DriftView) -> None:
    """Say what is expected without labels, before and now, and in which weeks reviewers disagreed otherwise."""
    for finding, now in one.estimate.get("window", {}).items():
        before = one.estimate.get("reference", {}).get(finding, {})
        told = ", ".join(f"{name} {_share(before.get(name))} -> {_share(now[name])}" for name in _ESTIMATED)
        say(f"Expected of {finding} on {one.scanner}, by calibrated scores of {now['cases']} cases: {told}.")
    for week in one.agreement.get("weeks", ()):
        if week["is_signal"]:
            told = f"{week['disagreed']} of {week['reviewed']} disagreed; chance is {week['low']} to {week['high']}"
            say(f"Reviews on {one.scanner} in the week of {week['week']}: {told}.")


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"
