"""The settings that running processes of the node have, beside those of the file."""

from __future__ import annotations

from dicom_node.config.settings import Settings
from dicom_node.core.errors import SettingsError
from dicom_node.doctor.check import Check
from dicom_node.operate.configuration.told import ConfigurationState, states_of
from dicom_node.storage.owners import Owners

_NAME = "settings that run"


def check_running_settings(settings: Settings) -> list[Check]:
    """One check for each process that runs on the data folder; none where none does."""
    try:
        return [_check(one) for one in states_of(Owners(settings.node.data_dir / "owners"))]
    except SettingsError as error:  # another user's files: only the node's, or root, may look
        return [Check(_NAME, False, str(error), "Run doctor as the node's user, or as root.")]


def _check(state: ConfigurationState) -> Check:
    text = f"process {state.process}: revision {state.revision}, since {state.since.astimezone():%Y-%m-%d %H:%M %Z}"
    if state.is_of_the_file:
        return Check(_NAME, True, text)
    advice = "Correct the file." if state.problem else "Restart it." if state.needs_restart else "dicom-node reload"
    return Check(_NAME, False, f"{text}. {state.fault}", advice)
