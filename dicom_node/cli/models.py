"""`dicom-node models list` and `try`: which models are found and may run; a bundle run once before it has a card."""

from __future__ import annotations

import argparse
from pathlib import Path

from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.config.settings import Settings
from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference import trial
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.inference.trial import Trial, TrialOptions
from dicom_node.roles.settings import load_settings
from dicom_node.sandbox.confinement import told


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


def try_bundles(options: argparse.Namespace) -> int:
    """Try each folder and tell what came back; the exit status is 1 when one did not run."""
    wanted = TrialOptions(
        task=options.task or "", output=options.output, shape=_shape(options.shape), device=options.device
    )
    trials = list(trial.try_bundles([folder.resolve() for folder in options.folders], wanted))
    rows = [_row_trial(one) for one in trials]
    if options.json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
        say(f"The code of these bundles was {told('auto')}.")
    return 1 if any(one.problem for one in trials) else 0


def _row_trial(one: Trial) -> dict[str, str]:
    return {
        "bundle": one.folder.name,
        "task": one.task,
        "given": "x".join(map(str, one.given)),
        "runs": "no" if one.problem else "yes",
        "result or reason": one.problem or one.result,
        "load s": f"{one.load_s:.1f}",
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
