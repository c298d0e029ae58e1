"""Backups of the node: when one was made last, why one failed since, and whether the node was put back from one."""

from __future__ import annotations

from datetime import UTC, datetime

from dicom_node.config.settings import Settings
from dicom_node.core.errors import SettingsError
from dicom_node.doctor.check import Check
from dicom_node.operate.backup.outcome import last_backup
from dicom_node.operate.backup.restored import restoration_of


def check_backup(settings: Settings) -> list[Check]:
    """What became of the last backups, and whether the node itself was put back from one."""
    outcome = last_backup(settings.node.data_dir)
    if outcome is None:
        checks = [Check("backup", True, "none was made yet by dicom-node backup")]
    else:
        advice = outcome.advice(datetime.now(UTC))
        checks = [Check("backup", not advice, outcome.in_words(), advice)]
    try:
        restored = restoration_of(settings.node.data_dir)
    except SettingsError as error:
        return [*checks, Check("restored", False, str(error), "Repair or remove the file.")]
    if restored is not None:
        text = (
            f"from the backup {restored.snapshot} on {restored.restored_at.astimezone():%Y-%m-%d %H:%M %Z}; a "
            "destination that can be asked is asked before anything of an older study is sent"
        )
        checks.append(Check("restored", True, text))
    return checks
