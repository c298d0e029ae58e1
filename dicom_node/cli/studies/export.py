"""`dicom-node export`, `export-results`: studies into a folder, also de-identified; results as a list."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from dicom_node.api.answers.streamed import json_list
from dicom_node.api.results import result_answer
from dicom_node.cli.node import opened
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.csv_lines import csv_lines
from dicom_node.core.errors import SettingsError
from dicom_node.deidentification.pseudonyms import KEY_FILE, read_or_make_key
from dicom_node.index.views.exported import ResultFilter, every_result
from dicom_node.inference.cards.folders import survey_models
from dicom_node.logs import quiet_third_parties
from dicom_node.operate.exports.export import Export, ExportedObject, Exporter, profile_named
from dicom_node.operate.exports.result_columns import RESULT_COLUMNS, rows_of
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.settings import load_settings
from dicom_node.storage.spool import Spool


def export(options: argparse.Namespace) -> int:
    """Export; the exit status is 1 where an object was left out."""
    quiet_third_parties()
    settings = load_settings(options.config)
    data = settings.node.data_dir
    cards = survey_models(settings.models_dirs).cards.values()
    profile = profile_named(options.deidentify, settings.deidentification, cards) if options.deidentify else None
    with opened(options) as database, closing(open_audit(settings, database)) as audit:
        key = read_or_make_key(data / KEY_FILE) if profile else b""
        wanted = Export(folder=options.out, profile=profile, key=key, with_results=options.results)
        exporter = Exporter(database, Spool(data / "spool"), audit, actor())
        objects = list(exporter.export(options.studies, wanted))
    left_out = Counter(one.why_not for one in objects if one.file is None)
    if options.json:
        files = [str(one.file.relative_to(options.out)) for one in objects if one.file]
        print_json({"folder": str(options.out), "files": files, "left_out": dict(left_out)})
    else:
        _tell(objects, left_out, str(options.out))
    return 1 if left_out else 0


def _tell(objects: list[ExportedObject], left_out: Counter[str], folder: str) -> None:
    say(f"{len(objects) - left_out.total()} of {len(objects)} objects are in {folder}.")
    if left_out:
        print_table(["left out", "why"], [(count, why) for why, count in left_out.most_common()])


def export_results(options: argparse.Namespace) -> int:
    """Write results as CSV or JSON, as the API does. Raises `SettingsError` for a file of another kind."""
    since, until = days(options)
    wanted = ResultFilter(since=since, until=until, model=options.model, route=options.route)
    if options.file.suffix not in {".csv", ".json"}:
        raise SettingsError(f"{options.file} is to be what? Name a file that ends with .csv or .json.")
    with opened(options, AuditedAct.EXPORT, what="results") as database:
        found = every_result(database, wanted)
        if options.file.suffix == ".csv":
            write_new(options.file, csv_lines(RESULT_COLUMNS, (row for one in found for row in rows_of(one))))
        else:
            told = (result_answer(one.result).model_dump(mode="json") for one in found)
            write_new(options.file, json_list("results", told))
    return 0


def days(options: argparse.Namespace) -> tuple[datetime | None, datetime | None]:
    """Return the beginning of the first day that is asked for and the end of the last."""
    first, last = (one and datetime.combine(one, time(), UTC) for one in (options.first, options.last))
    return first, last and last + timedelta(days=1)


def write_new(path: Path, lines: Iterable[str]) -> None:
    """Write a new file, which only whoever exports can read. Raises `SettingsError`."""
    try:
        path.touch(mode=0o600, exist_ok=False)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Name a new file.") from error
