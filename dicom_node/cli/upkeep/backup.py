"""`dicom-node backup`, `restore`: a copy of everything that the node knows, and back."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import NotFound
from dicom_node.operate.backup.backup import Backup, MadeBackup
from dicom_node.operate.backup.folder import BackupFolder
from dicom_node.operate.backup.outcome import failure_noted
from dicom_node.operate.backup.restore import Restored, RestorePlace
from dicom_node.operate.backup.restore import restore as put_back

#: Everything in a backup holds patient data or keys.
_PRIVATE = 0o077
_MEGABYTE = 1 << 20


def backup(options: argparse.Namespace) -> int:
    """Make a backup, or look at those that are there; the exit status is 1 where something is damaged."""
    os.umask(_PRIVATE)
    if options.list:
        return _listed(options)
    if options.check:
        return _checked(options)
    settings = settings_of_a_node(options)
    told = {"what": "backup", "folder": str(options.folder)}
    with failure_noted(settings.node.data_dir), opened(options, AuditedAct.EXPORT, **told):
        made = Backup(settings, options.config, options.folder).make(options.keep, verify=options.verify)
    if options.json:
        print_json(_as_told(made))
    else:
        _tell(made)
    return 1 if made.manifest.faults else 0


def restore(options: argparse.Namespace) -> int:
    """Put a backup back."""
    os.umask(_PRIVATE)
    restored = put_back(options.folder, options.snapshot, RestorePlace(options.to, options.database), actor())
    if options.json:
        print_json(restored)
        return 0
    say(f"Restored: {restored.snapshot}, {restored.objects} objects, into {restored.data_dir}.")
    _tell_elsewhere(restored)
    for one in restored.not_in_it:
        say(f"Not in it: {one}")
    for one in restored.faults:
        say(f"It lacked when it was made: {one}")
    if restored.suspended:
        say(f"Suspended: {', '.join(restored.suspended)}. The node sends nothing before you say, for each, "
            "dicom-node destinations resume NAME")  # fmt: skip
    return 0


def _tell_elsewhere(restored: Restored) -> None:
    if restored.elsewhere:
        rows = [(str(restored.data_dir / path), place) for path, place in restored.elsewhere.items()]
        print_table(["file", "belongs to"], rows, "Put these where the settings name them")


def _listed(options: argparse.Namespace) -> int:
    folder = BackupFolder(_existing(options.folder))
    found = [folder.read(name)[1] for name in folder.names()]
    if options.json:
        print_json([{"snapshot": one.name, "schema": one.database.schema, "version": one.version,
                     "objects": one.object_count, "bytes": one.object_bytes, "faults": len(one.faults)}
                    for one in found])  # fmt: skip
        return 0
    rows = [(one.name, one.version, one.database.schema, one.database.kind, one.object_count,
             one.object_bytes // _MEGABYTE, len(one.faults)) for one in found]  # fmt: skip
    print_table(["snapshot", "version", "schema", "database", "objects", "MB", "lacks"], rows)
    return 0


def _checked(options: argparse.Namespace) -> int:
    folder = BackupFolder(_existing(options.folder))
    path, manifest = folder.read("" if options.check == "latest" else options.check)
    faults = list(folder.faults_of(path, manifest))
    if options.json:
        print_json({"snapshot": manifest.name, "whole": not faults, "faults": faults})
        return 1 if faults else 0
    for one in faults:
        say(f"FAIL  {one}")
    whole = "every digest holds." if not faults else f"{len(faults)} files are damaged or gone."
    say(f"{manifest.name}: {manifest.object_count} objects, {len(manifest.all_files)} files, {whole}")
    return 1 if faults else 0


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    return folder


def _tell(made: MadeBackup) -> None:
    manifest = made.manifest
    say(f"Made: {made.path}. {manifest.object_count} objects, of which {made.copied} were copied now "
        f"({made.copied_bytes // _MEGABYTE} MB).")  # fmt: skip
    say("It holds patient data, keys, tokens and passwords: all files are readable for their owner only.")
    for one in manifest.not_in_it:
        say(f"Not in it: {one}")
    for one in manifest.faults:
        say(f"FAIL  not in it: {one}")
    if made.removed_snapshots:
        say(f"Removed: {', '.join(made.removed_snapshots)}, and {made.removed_objects} objects that no other names.")


def _as_told(made: MadeBackup) -> dict[str, object]:
    manifest = made.manifest
    return {
        "snapshot": manifest.name, "path": str(made.path), "objects": manifest.object_count, "copied": made.copied,
        "copied_bytes": made.copied_bytes, "counts": manifest.counts, "gone": manifest.gone, "faults": manifest.faults,
        "not_in_it": manifest.not_in_it, "removed_snapshots": made.removed_snapshots,
        "removed_objects": made.removed_objects,
    }  # fmt: skip
