"""`dicom-node models verify`, `add`, `accept`, `activate`, `decisions`: how a model comes to run, and who said so."""

from __future__ import annotations

import argparse
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicom_node.cli.node import opened
from dicom_node.cli.terminal import actor, os_user, print_json, print_table, say
from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import ModelUnavailable, NotFound
from dicom_node.governance.admission import ModelStanding, Standing, environment
from dicom_node.governance.first_run import first_run
from dicom_node.governance.golden import GoldenOutcome, KnownStudy, Phantom, load_cases, run_golden
from dicom_node.governance.incoming import Brought, licence_told, model_folder
from dicom_node.governance.lower_precision import held_to_float32
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.governance.store import add_model
from dicom_node.governance.verify import CODE, Point, verify_folder
from dicom_node.index.decided import actions
from dicom_node.index.decided.model_decisions import Decision, DecisionKind, add_decision, decisions_on, turned_away
from dicom_node.inference.cards.card import CARD_NAME, ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.inference.ready.shelf import ready_cards
from dicom_node.logs import quiet_third_parties
from dicom_node.people.audit.trail import audited_act, open_audit
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings


def verify(options: argparse.Namespace) -> int:
    """Look at one model, or at all, without running any; the exit status is 1 when something is wrong."""
    settings = load_settings(options.config)
    folders = [_folder(options.model, settings)] if options.model else _all_folders(settings)
    seen = {str(folder): verify_folder(folder, settings.inference.confine) for folder in folders}
    if options.json:
        print_json(seen)
    else:
        for folder, points in seen.items():
            _tell_points(folder, points)
    return 0 if all(point.ok for points in seen.values() for point in points) else 1


def add(options: argparse.Namespace) -> int:
    """Make a model folder of what was brought, verify it and copy it into the node's own models folder."""
    settings = load_settings(options.config)
    brought = Brought(source=options.source, card=options.card, weights=options.weights)
    with tempfile.TemporaryDirectory(prefix="dicom-node-incoming-") as made:
        incoming = model_folder(brought, Path(made))
        for line in incoming.told:
            say(line)
        points = verify_folder(incoming.folder, settings.inference.confine)
        if not all(point.ok for point in points):
            _tell_points(str(options.source), points)
            say("Nothing was added.")
            return 1
        card = add_model(incoming.folder, settings.own_models_dir, replace=options.replace)
    if not incoming.told:
        say(licence_told(card))
    place = settings.own_models_dir / card.name
    say(f"{card.name} {card.version} is in {place}. Next: dicom-node models accept {card.name}")
    return 0


def ready(options: argparse.Namespace) -> int:
    """Show the cards that come with the node for models of which it has no weights, or one card whole."""
    cards = {name: tomllib.loads(text) for name, text in ready_cards().items()}
    if options.card:
        if options.card not in cards:
            raise NotFound(f"No card {options.card} comes with the node; there are: {', '.join(cards)}.")
        say(ready_cards()[options.card].rstrip())
        return 0
    rows = [
        {"card": name, "task": card["task"], "for the bundle": card.get("bundle", ""), "licence": card["licence"]}
        for name, card in cards.items()
    ]
    if options.json:
        print_json(rows)
    else:
        shown = list(rows[0])[:-1]
        print_table(shown, [[row[name] for name in shown] for row in rows])
        say("One whole, with its licence and its limits: dicom-node models ready CARD")
    return 0


def accept(options: argparse.Namespace) -> int:
    """Write down that this content of a model's folder may run, or no longer may."""
    node = Node(load_settings(options.config))
    card = _card(options.model, node.settings)
    if not card.folder_digest.startswith(options.digest):
        raise ModelUnavailable(
            f"{card.name} has folder digest {card.folder_digest}, not {options.digest}…: these are not the files you "
            "looked at. Nothing was accepted."
        )
    kind = DecisionKind.WITHDRAWN if options.withdraw else DecisionKind.ACCEPTED
    points = [] if options.withdraw else verify_folder(card.folder, node.settings.inference.confine)
    if not all(point.ok for point in points):
        _tell_points(str(card.folder), points)
        say("Nothing was accepted.")
        return 1
    _tell_points("What it brings that runs:", [point for point in points if point.name == CODE])
    _decide(node, card, kind, digest=card.folder_digest, detail={"folder": str(card.folder)})
    say(licence_told(card))
    say(f"{card.name} {card.version}, folder digest {card.folder_digest}: {kind.value.lower()}.")
    standing = node.admission.standing(card)
    _analyse_again(node, standing, rerun=options.rerun)
    return _tell_standing(standing)


def activate(options: argparse.Namespace) -> int:
    """Run a model's golden studies on this machine; it goes live when every answer is the expected one, and not
    before it has run once."""
    quiet_third_parties()
    node = Node(load_settings(options.config))
    card = _card(options.model, node.settings)
    before = node.admission.standing(card)
    if before.standing not in (Standing.LIVE, Standing.NOT_ACTIVATED):
        raise ModelUnavailable(f"{card.name}: {before.standing}: {before.text}")
    if not load_cases(card) and not options.without_golden:
        raise ModelUnavailable(
            f"{card.name} has no golden studies: nothing shows that it answers rightly here. Add some to its folder "
            "(docs/reference/governance.md), or use --without-golden, which is written down."
        )
    points = verify_folder(card.folder, node.settings.inference.confine)
    if not all(point.ok for point in points):
        _tell_points(str(card.folder), [point for point in points if not point.ok])
        say("Nothing was activated.")
        return 1
    outcomes = _golden_outcomes(node.settings, card, options.pictures)
    right = not any(outcome.differences for outcome in outcomes)
    detail = {"golden": {outcome.file: list(outcome.differences) for outcome in outcomes}}
    kind = DecisionKind.ACTIVATED if right else DecisionKind.GOLDEN_FAILED
    _decide(
        node, card, kind, digest=card.digest, detail=detail, environment=environment(node.settings.inference.device)
    )
    if options.json:
        print_json(outcomes)
    else:
        _tell_outcomes(outcomes)
        _tell_standing(node.admission.standing(card))
    _analyse_again(node, node.admission.standing(card), rerun=options.rerun, quiet=options.json)
    return 0 if right else 1


def decisions(options: argparse.Namespace) -> int:
    """Show what was decided on models, by whom and when, the newest first."""
    with opened(options) as database, database.read() as connection:
        found = decisions_on(connection, options.model or "")
    if options.json:
        print_json(found)
    else:
        rows = [(d.at, d.kind, d.model, d.version, d.digest[:12], d.decided_by) for d in found]
        print_table(["at", "what", "model", "version", "digest", "by"], rows)
    return 0


# --- parts -------------------------------------------------------------------------------------------------------


def _golden_outcomes(settings: Settings, card: ModelCard, pictures: Path | None) -> Sequence[GoldenOutcome]:
    """Ask its golden studies, and where it computes in less than float32, hold its answers against those in float32."""
    outcomes = _asked(settings, card, pictures)
    if card.precision == "float32":
        return outcomes
    return held_to_float32(card, outcomes, _asked(settings, card, None, precision="float32"))


def _asked(
    settings: Settings, card: ModelCard, pictures: Path | None, *, precision: str = ""
) -> Sequence[GoldenOutcome]:
    """Ask its golden studies; where none of them had the model answer, see whether it runs at all."""
    phantoms = known_phantoms()
    with ModelProbe(card, settings.inference, precision=precision) as asker:
        outcomes = list(run_golden(card, phantoms, asker, pictures))
        if not any(outcome.answer.get("findings") for outcome in outcomes):
            outcomes.append(first_run(card, phantoms, asker, pictures))
    return outcomes


def _analyse_again(node: Node, standing: ModelStanding, *, rerun: bool, quiet: bool = False) -> None:
    """Queue what a model was not run for before it went live, or say that there is such work."""
    if standing.standing is not Standing.LIVE:
        return
    reasons = [one.value for one in Standing if one is not Standing.LIVE]
    with node.database.write() as connection:
        waiting = turned_away(connection, standing.name, reasons)
        for one in waiting if rerun else ():
            actions.rerun_study(connection, one.study_instance_uid, one.route, actor(), datetime.now(UTC))
    if waiting and not quiet:
        do = "They are queued again." if rerun else "Analyse them with --rerun, or one by one: dicom-node rerun STUDY"
        say(f"{len(waiting)} analyses were not made while {standing.name} might not run. {do}")


def known_phantoms() -> Mapping[str, Phantom]:
    """Return what golden studies may be made of."""
    from dicom_node.demo.head_mr import head_mr_phantom  # noqa: PLC0415 - loads SciPy
    from dicom_node.demo.mr_series import MrScan  # noqa: PLC0415 - as above
    from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom  # noqa: PLC0415 - as above

    def chest_ct(**arguments: Any) -> KnownStudy:
        images, truth = chest_ct_phantom(**arguments)
        lungs = {"left-lung": truth.left, "right-lung": truth.right, "both-lungs": truth.both}
        return KnownStudy(images, {name: lung.mask_zyx for name, lung in lungs.items()})

    def chest_radiograph(**arguments: Any) -> KnownStudy:
        return KnownStudy([chest_radiograph_phantom(**arguments)])

    def head_mr(kind: str = "head", scale: float = 0.75, slice_spacing_mm: float = 2.0, **headers: Any) -> KnownStudy:
        scan = MrScan(**headers)
        return KnownStudy(head_mr_phantom(kind, scale=scale, slice_spacing_mm=slice_spacing_mm, scan=scan))

    return {"chest-ct": chest_ct, "chest-radiograph": chest_radiograph, "head-mr": head_mr}


def _decide(node: Node, card: ModelCard, kind: DecisionKind, **about: Any) -> None:
    decision = Decision(
        at=datetime.now(UTC), kind=kind, model=card.name, version=card.version, decided_by=os_user(), **about
    )
    told = {"decision": kind, "model": card.name, "version": card.version, "digest": decision.digest}
    event = AuditedEvent(act=AuditedAct.MODEL_DECISION, actor=actor(), detail=told)
    with audited_act(open_audit(node.settings, node.database), event), node.database.write() as connection:
        add_decision(connection, decision)


def _card(name: str, settings: Settings) -> ModelCard:
    survey = survey_models(settings.models_dirs)
    if name not in survey.cards:
        told = "".join(f" {problem}" for problem in survey.problems.values())
        raise NotFound(f"There is no model {name}; there are: {', '.join(sorted(survey.cards))}.{told}")
    return survey.cards[name]


def _folder(text: str, settings: Settings) -> Path:
    """A folder is meant when there is one with a card; otherwise a model's name."""
    folder = Path(text)
    return folder if (folder / CARD_NAME).is_file() else _card(text, settings).folder


def _all_folders(settings: Settings) -> list[Path]:
    survey = survey_models(settings.models_dirs)
    return [card.folder for card in survey.cards.values()] + list(survey.problems)


def _tell_points(about: str, points: Sequence[Point]) -> None:
    if points:
        say(about)
    for point in points:
        say(f"  {'ok  ' if point.ok else 'FAIL'}  {point.name}: {point.text}")


def _tell_outcomes(outcomes: Sequence[GoldenOutcome]) -> None:
    """Show what differs, and below it what was seen of each answer: more than a table has room for."""
    rows = [(one.file, one.name, "; ".join(one.differences) or "as expected") for one in outcomes]
    if rows:
        print_table(["golden study", "what", "answer"], rows)
    for one in outcomes:
        for line in one.told:
            say(f"  {one.file}: {line}")


def _tell_standing(standing: ModelStanding) -> int:
    say(f"{standing.name}: {standing.standing}{f': {standing.text}' if standing.text else ''}")
    return 0 if standing.standing in (Standing.LIVE, Standing.NOT_ACTIVATED) else 1
