"""`dicom-node reload`: have every process of the running node read its settings again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from dicom_node.cli.terminal import actor, print_json, say
from dicom_node.core.errors import SettingsError
from dicom_node.operate.configuration.told import (
    ConfigurationState,
    ReloadAnswer,
    ReloadRequest,
    ask_all,
    states_of,
)
from dicom_node.roles.settings import load_settings
from dicom_node.storage.owners import Owners

_POLL_S = 0.1


def reload(options: argparse.Namespace) -> int:
    """Check the settings here, have them read, and say what each process made of them; 1 where one refuses."""
    settings = load_settings(options.config)
    data_dir = settings.node.data_dir
    owners = Owners(data_dir / "owners")
    running = states_of(owners)
    if not running:
        raise SettingsError(
            f"No node runs on {data_dir}. Start it; or, if node.data_dir was changed: that takes a restart."
        )
    request = ReloadRequest(by=actor().name)
    ask_all(data_dir, request)
    answered = _answers(owners, request, {one.process for one in running}, options.timeout)
    silent = [one for one in running if one.process not in {two.process for two in answered}]
    if options.json:
        print_json({"request": request.id, "processes": answered, "silent": [one.process for one in silent]})
    else:
        _print(answered, silent, options.config)
    return int(bool(silent) or any(_answer(one).refused for one in answered))


def _answers(
    owners: Owners, request: ReloadRequest, asked: set[str], patience_s: float
) -> Sequence[ConfigurationState]:
    """Return what those that were asked say; those that ended meanwhile, or do not answer in time, are left out."""
    until_s = time.monotonic() + patience_s
    while True:
        living = [one for one in states_of(owners) if one.process in asked]
        answered = [one for one in living if one.last_reload and one.last_reload.request == request.id]
        if len(answered) == len(asked) or time.monotonic() > until_s:
            return answered
        time.sleep(_POLL_S)


def _answer(state: ConfigurationState) -> ReloadAnswer:
    assert state.last_reload is not None, "only those that have answered are asked"
    return state.last_reload


def _print(answered: Sequence[ConfigurationState], silent: Sequence[ConfigurationState], config: Path | None) -> None:
    for one in answered:
        answer, who = _answer(one), f"{one.process} ({', '.join(one.roles)})"
        if answer.refused:
            say(f"{who}: refused. {answer.refused}")
        elif answer.changes:
            say(f"{who}: in force, revision {one.revision}")
            for line in answer.changes:
                say(f"  {line}")
        else:
            say(f"{who}: nothing differs, revision {one.revision}")
        for line in answer.warnings:
            say(f"  Note: {line}")
    for one in silent:
        say(f"{one.process} ({', '.join(one.roles)}): no answer. See its log; after a restart {config or 'the file'} "
            "rules.")  # fmt: skip
