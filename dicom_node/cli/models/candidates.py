"""`dicom-node models list` and `try`: which models are found and may run; one run once before anybody relies on it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dicom_node.cli.models.governance import known_phantoms
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.config.running import InferenceSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import ModelUnavailable, NodeError, SettingsError
from dicom_node.governance.first_run import first_run
from dicom_node.governance.golden import GoldenOutcome
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference import trial
from dicom_node.inference.cards.card import CARD_NAME, ModelCard, load_card
from dicom_node.inference.cards.contradictions import contradictions
from dicom_node.inference.cards.folders import survey_models
from dicom_node.inference.trial import Trial, TrialOptions
from dicom_node.roles.settings import load_settings
from dicom_node.sandbox.confinement import told

_RESULT = "result or reason"


def list_models(options: argparse.Namespace) -> int:
    """List every model; the exit status is 1 when one is not as its card says."""
    settings = load_settings(options.config)
    survey = survey_models(settings.models_dirs)
    rows = [_row(card, settings) for _, card in sorted(survey.cards.items())]
    rows += [_broken(folder, problem) for folder, problem in survey.problems.items()]
    if options.json:
        print_json(rows)
    else:
        print_table(list(rows[0]) if rows else ["name"], [list(row.values()) for row in rows])
    return 0 if all(row["verified"] == "yes" for row in rows) else 1


def _row(card: ModelCard, settings: Settings) -> dict[str, str]:
    try:
        digest, verified, standing = card.digest[:12], "yes", str(standing_so_far(card, settings).standing)
    except ModelUnavailable as error:
        digest, verified, standing = "", str(error), "MODEL_UNUSABLE"
    return {
        "name": card.name,
        "version": card.version,
        "runtime": card.runtime,
        "task": card.task,
        "digest": digest,
        "verified": verified,
        "standing": standing,
        "folder": str(card.folder),
    }


def _broken(folder: Path, problem: str) -> dict[str, str]:
    told = {"name": folder.name, "verified": problem, "standing": "MODEL_UNUSABLE", "folder": str(folder)}
    return {key: told.get(key, "") for key in ("name", "version", "runtime", "task", "digest", "verified", "standing",
                                               "folder")}  # fmt: skip


# --- try ---------------------------------------------------------------------------------------------------------


def try_models(options: argparse.Namespace) -> int:
    """Try each folder and tell what came back and what was understood; the exit status is 1 when one did not run.

    A folder with a card is asked as activation asks it, but where a task or a shape is given.
    """
    wanted = TrialOptions(
        task=options.task or "", output=options.output, shape=_shape(options.shape), device=options.device
    )
    folders = [folder.resolve() for folder in options.folders]
    plain = wanted == TrialOptions(device=options.device)
    with_card = [folder for folder in folders if plain and (folder / CARD_NAME).is_file()]
    trials = list(trial.try_bundles([one for one in folders if one not in with_card], wanted))
    trials += [_tried(folder, options) for folder in with_card]
    rows = [_row_trial(one) for one in trials]
    if options.json:
        print_json(rows)
    else:
        _tell_trials(rows)
        say(f"The code of these models was {told('auto')}.")
    return 1 if any(one.problem for one in trials) else 0


def _tell_trials(rows: Sequence[Mapping[str, str]]) -> None:
    """Show who ran, and below it what came of each: more than a table has room for."""
    short = [name for name in rows[0] if name != _RESULT]
    print_table(short, [[row[name] for name in short] for row in rows])
    for row in rows:
        say(f"{row['bundle']}:")
        for line in row[_RESULT].split("; "):
            say(f"  {line}")


def _tried(folder: Path, options: argparse.Namespace) -> Trial:
    """Look at a model as `accept` does, then run it on a phantom that fits its card."""
    try:
        card = load_card(folder)
        problems = list(contradictions(card))
        if problems:
            return Trial(folder=folder, task=card.task, given=(), problem=f"{'; '.join(problems)}.")
        started = time.perf_counter()
        with ModelProbe(card, InferenceSettings(device=options.device)) as asker:
            pictures = options.pictures / folder.name if options.pictures else None
            outcome = first_run(card, known_phantoms(), asker, pictures)
    except NodeError as error:
        return Trial(folder=folder, task="", given=(), problem=str(error))
    ran_s = time.perf_counter() - started
    if outcome.differences:
        return Trial(folder=folder, task=card.task, given=(), problem="; ".join(outcome.differences), run_s=ran_s)
    return Trial(folder=folder, task=card.task, given=(), result="; ".join(_answered(outcome)), run_s=ran_s)


def _answered(outcome: GoldenOutcome) -> Iterator[str]:
    """Say in few words what a model answered on a phantom."""
    if "reason" in outcome.answer:
        yield f"declined: {outcome.answer['message']}"
    for finding in outcome.answer.get("findings", []):
        parts = [finding["presence"] or "", "" if finding["probability"] is None else f"{finding['probability']:.3f}"]
        parts += [f"{one['label']} {one['value']:g} {one['unit']['value']}" for one in finding["measurements"]]
        yield " ".join([f"{finding['label']}:", *filter(None, parts)])
    yield from outcome.told


def _row_trial(one: Trial) -> dict[str, str]:
    return {
        "bundle": one.folder.name,
        "task": one.task,
        "given": "x".join(map(str, one.given)) or "a phantom",
        "runs": "no" if one.problem else "yes",
        _RESULT: one.problem or one.result,
        "load s": f"{one.load_s:.1f}" if one.load_s else "",
        "run s": f"{one.run_s:.1f}",
    }


def _shape(text: str | None) -> tuple[int, ...]:
    """Read ``1,32,64,64``. Raises `SettingsError`."""
    if not text:
        return ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts) or len(parts) not in {3, 4}:
        raise SettingsError(f"--shape {text} is not channels,[slices,]rows,columns, such as 1,32,64,64.")
    return tuple(int(part) for part in parts)
