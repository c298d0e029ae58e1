"""`dicom-node models try`: run MONAI Bundles once on a phantom, before there is a card for them."""

from __future__ import annotations

import argparse

from dicom_node.cli.terminal import print_json, print_table
from dicom_node.core.errors import SettingsError
from dicom_node.inference.trial import Trial, TrialOptions, try_bundle


def try_bundles(options: argparse.Namespace) -> int:
    """Try each folder and tell what came back; the exit status is 1 when one did not run."""
    wanted = TrialOptions(
        task=options.task or "", output=options.output, shape=_shape(options.shape), device=options.device
    )
    trials = [try_bundle(folder.resolve(), wanted) for folder in options.folders]
    rows = [_row(trial) for trial in trials]
    if options.json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    return 1 if any(trial.problem for trial in trials) else 0


def _row(trial: Trial) -> dict[str, str]:
    return {
        "bundle": trial.folder.name,
        "task": trial.task,
        "given": "x".join(map(str, trial.given)),
        "runs": "no" if trial.problem else "yes",
        "result or reason": trial.problem or trial.result,
        "load s": f"{trial.load_s:.1f}",
        "run s": f"{trial.run_s:.1f}",
    }


def _shape(text: str | None) -> tuple[int, ...]:
    """Read ``1,32,64,64``. Raises `SettingsError`."""
    if not text:
        return ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts) or len(parts) not in {3, 4}:
        raise SettingsError(f"--shape {text} is not channels,[slices,]rows,columns, such as 1,32,64,64.")
    return tuple(int(part) for part in parts)
