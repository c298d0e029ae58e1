"""The node that a command is for: its settings, and its index, opened for what is written into the audit trail."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.cli.terminal import actor
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import SettingsError
from dicom_node.index.database import Database
from dicom_node.people.audit.trail import audited_act, open_audit
from dicom_node.roles.settings import SiteSettings, load_settings


def settings_of_a_node(options: argparse.Namespace) -> SiteSettings:
    """Return the settings of a node that has been started. Raises `SettingsError` when there is none: a configuration
    that was not named must not make another."""
    settings = load_settings(options.config)
    if not settings.database.url and not (settings.node.data_dir / "node.sqlite").exists():
        raise SettingsError(
            f"There is no node in {settings.node.data_dir.resolve()}. Name its configuration by --config."
        )
    return settings


@contextmanager
def opened(
    options: argparse.Namespace, act: AuditedAct | None = None, study: str | None = None, **detail: object
) -> Iterator[Database]:
    """Open the index that the configuration names, and write into the audit trail what for, before it is done.

    Raises `SettingsError` when there is none yet, and `AuditUnavailable`.
    """
    settings = settings_of_a_node(options)
    database = Database(settings.database_url)
    try:
        database.check_schema()
        if act is None:
            yield database
        else:
            told = {key: value for key, value in detail.items() if value is not None}
            event = AuditedEvent(act=act, actor=actor(), study_instance_uid=study or "", detail=told)
            with audited_act(open_audit(settings, database), event):
                yield database
    finally:
        database.close()
