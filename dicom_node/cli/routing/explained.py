"""`dicom-node rules explain`: which route wants a study, which series its model gets, and which clause says so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.cli.node import opened
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import Instance, InstanceRole, Route, Study
from dicom_node.core.errors import IndexUnavailable, NotFound, RefusedObject, SettingsError
from dicom_node.core.received.grouping import studies_of
from dicom_node.core.received.rejections import not_rejected
from dicom_node.core.series.predicates import Clause
from dicom_node.core.series.routing import RouteDecision, decide
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.storage_scu import all_files
from dicom_node.index.studies import load_study
from dicom_node.inference.cards.card import ModelCard
from dicom_node.ingest.intake import offline_instance
from dicom_node.jobs.channels import ChannelChoice, channel_choices
from dicom_node.logs import quiet_third_parties
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings


@dataclass(frozen=True, slots=True)
class _Explained:
    """What a route makes of a study, and what each channel of a model gets that reads several series together."""

    decision: RouteDecision
    channels: Sequence[ChannelChoice]

    def as_dict(self) -> dict[str, object]:
        return self.decision.as_dict() | {"channels": [one.as_dict() for one in self.channels]}


def explain(options: argparse.Namespace) -> int:
    """Explain the routing of one study in the index, or of files that were never received."""
    quiet_third_parties()
    node = Node(load_settings(options.config))
    routes = _routes_in_force(options, node)
    explained = {
        study.study_instance_uid: [_explained(study, route, node.cards[route.model]) for route in routes]
        for study in _studies(options)
    }
    if options.json:
        print_json([{"study": uid, "routes": [one.as_dict() for one in ones]} for uid, ones in explained.items()])
        return 0
    for uid, ones in explained.items():
        say(f"Study {uid}")
        for one in ones:
            _print_decision(one.decision)
            if one.decision.matched:
                _print_channels(one.channels)
    return 0


def _explained(study: Study, route: Route, card: ModelCard) -> _Explained:
    decision = decide(study, route, card.accepts, card.rank)
    return _Explained(decision, channel_choices(study, route, card, decision.chosen or ""))


def _routes_in_force(options: argparse.Namespace, node: Node) -> Sequence[Route]:
    """Return the routes as they are now; those of the settings where there is no index that could have others."""
    routes = node.routes
    try:
        with opened(options) as database:
            return RoutesInForce(node.settings, node.cards, database).now().routes
    except (SettingsError, IndexUnavailable):
        return routes


def _print_decision(decision: RouteDecision) -> None:
    say(f"\nRoute {decision.route_name}: {'matches' if decision.matched else 'does not match'}. {decision.reason}")
    rows = [
        (
            c.series_instance_uid,
            c.instances,
            clause.asked_by,
            clause.attribute,
            clause.condition,
            clause.actual,
            _yes_or_no(clause),
        )
        for c in decision.candidates
        for clause in c.clauses
    ]
    print_table(["series", "images", "asked by", "attribute", "must be", "is", "holds"], rows)
    ranked = [
        (c.series_instance_uid, *(value.partition("=")[2] for value in c.rank_values))
        for c in decision.candidates
        if c.fits
    ]
    if len(ranked) > 1 and decision.candidates[0].rank_values:
        print_table(["series that fit", *(one.partition("=")[0] for one in decision.candidates[0].rank_values)], ranked)


def _print_channels(channels: Sequence[ChannelChoice]) -> None:
    """Say what each channel gets, then its own clauses; those of the route are told above."""
    if not channels:
        return
    say("\nThe model reads these series together:")
    print_table(["channel", "series", "why"], [(one.key, one.chosen or "none", one.reason) for one in channels])
    own = [
        (one.key, c.series_instance_uid, clause.attribute, clause.condition, clause.actual, _yes_or_no(clause))
        for one in channels
        for c in one.candidates
        for clause in c.clauses
        if clause.asked_by == "model"
    ]
    print_table(["channel", "series", "attribute", "must be", "is", "holds"], own)


def _yes_or_no(clause: Clause) -> str:
    return "yes" if clause.holds else "NO"


def _studies(options: argparse.Namespace) -> list[Study]:
    if all(is_valid_uid(subject) and not Path(subject).exists() for subject in options.subjects):
        return [_received(options, uid) for uid in options.subjects]
    return _from_files([Path(subject) for subject in options.subjects])


def _received(options: argparse.Namespace, uid: str) -> Study:
    with opened(options, AuditedAct.RESULT_READ, uid) as database, database.read() as connection:
        study = load_study(connection, uid)
    if study is None:
        raise NotFound(f"No study {uid} has been received. `dicom-node status` lists the latest ones.")
    return study


def _from_files(paths: Iterable[Path]) -> list[Study]:
    instances: list[Instance] = []
    for path in all_files(paths):
        try:
            instances.append(offline_instance(path))
        except RefusedObject as refusal:
            _remark(f"{path}: {refusal}")
    sources = not_rejected(instances)
    rejected = sum(i.role is InstanceRole.SOURCE for i in instances) - len(sources)
    if rejected:
        images = "1 image" if rejected == 1 else f"{rejected} images"
        _remark(f"{images} named by rejection notes among these files: not analysed.")
    if not sources:
        raise SettingsError("There is no DICOM image to analyse among these files.")
    return studies_of(sources)


def _remark(text: str) -> None:
    """Say something beside the answer, which may be for a script."""
    sys.stderr.write(f"dicom-node: {text}\n")
