"""`dicom-node status`, `retry` and `rerun`: what happened to a study, and doing a part of it again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from dicom_node.cli.actor import actor
from dicom_node.cli.terminal import print_json, print_table, say
from dicom_node.core.errors import SettingsError
from dicom_node.index import actions
from dicom_node.index.database import Database
from dicom_node.index.views import lists as views
from dicom_node.index.views import study as study_views
from dicom_node.index.views.types import DeliveryView, StudyLine
from dicom_node.roles.settings import load_settings


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Database]:
    """Open the index that the configuration names. Raises `SettingsError` when there is none yet."""
    settings = load_settings(options.config)
    if not settings.database.url and not (settings.node.data_dir / "node.sqlite").exists():
        raise SettingsError(
            f"There is no node in {settings.node.data_dir.resolve()}. Name its configuration by --config."
        )
    database = Database(settings.database_url)
    try:
        if database.schema_version() is None:
            raise SettingsError("The database is empty: no node has run on it. Check database.url, or start the node.")
        yield database
    finally:
        database.close()


def status(options: argparse.Namespace) -> int:
    """Show one study's timeline, or the latest studies."""
    with opened(options) as database, database.read() as connection:
        if options.study is None:
            page = views.list_studies(connection, options.limit)
            if options.json:
                print_json(page.studies)
            else:
                _print_studies(page.studies)
            return 0
        study = study_views.study(connection, options.study)
        timeline = study_views.timeline(connection, options.study)
        if options.json:
            print_json({"study": study, "timeline": timeline})
            return 0
    say(f"{options.study}: {study.study.state} (revision {study.study.revision}). {study.study.reason}")
    print_table(["at", "what", "by", ""], [(entry.at, entry.kind, entry.actor, entry.text) for entry in timeline])
    _print_deliveries(study.deliveries)
    return 0


def _print_studies(lines: Sequence[StudyLine]) -> None:
    rows = [
        (s.last_received_at, s.study_instance_uid, ",".join(s.modalities), s.instances, s.state, s.reason)
        for s in lines
    ]
    print_table(["last image", "study", "modality", "images", "state", "reason"], rows)


def _print_deliveries(deliveries: Sequence[DeliveryView]) -> None:
    rows = [(d.id, d.artifact_kind, d.destination, d.state, d.attempts, d.note) for d in deliveries]
    if rows:
        print_table(["delivery", "object", "destination", "state", "attempts", "note"], rows)


def retry(options: argparse.Namespace) -> int:
    """Make deliveries due now."""
    if (options.study is None) == (options.delivery is None):
        raise SettingsError("Name either a study or --delivery NUMBER; `dicom-node status STUDY` lists deliveries.")
    now = datetime.now(UTC)
    with opened(options) as database, database.write() as connection:
        if options.delivery is not None:
            actions.retry_delivery(connection, options.delivery, actor(), now)
            ids = [options.delivery]
        else:
            ids = actions.retry_study(connection, options.study, actor(), now)
    if options.json:
        print_json({"deliveries": ids})
    else:
        say(f"{len(ids)} deliveries are due now." if ids else "Nothing of this study waits or is parked.")
    return 0


def rerun(options: argparse.Namespace) -> int:
    """Queue a study's analyses again."""
    with opened(options) as database, database.write() as connection:
        ids = actions.rerun_study(connection, options.study, options.route, actor(), datetime.now(UTC))
    if options.json:
        print_json({"jobs": ids})
    else:
        say(f"{len(ids)} analyses are queued again.")
    return 0
