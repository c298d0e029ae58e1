"""`dicom-node hold`, `release`, `purge`: what a person keeps, and what is deleted now."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from dicom_node.cli.node import opened, settings_of_a_node
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.core.audit import AuditedAct
from dicom_node.core.retention.rules import RetentionChoice
from dicom_node.index.retention.deletions import Deletion
from dicom_node.index.retention.holds import hold_study, release_study
from dicom_node.operate.retention.orphans import Orphan, find_orphans, remove_orphans
from dicom_node.operate.retention.rules import Retention, limits_of
from dicom_node.people.audit.trail import open_audit
from dicom_node.roles.node import Node

_NOTHING_SET = "Nothing is ever deleted: [retention] is not set. The reference of the configuration says how."


def hold(options: argparse.Namespace) -> int:
    """Keep a study from being deleted."""
    with opened(options, AuditedAct.HOLD, options.study) as database, database.write() as connection:
        hold_study(connection, options.study, options.reason, actor(), datetime.now(UTC))
    say(f"Held: {options.study}. Nothing of it is deleted until: dicom-node release {options.study}")
    return 0


def release(options: argparse.Namespace) -> int:
    """Let the settings decide on a study again."""
    with opened(options, AuditedAct.RELEASE, options.study) as database, database.write() as connection:
        release_study(connection, options.study, actor(), datetime.now(UTC))
    say(f"Released: {options.study}. The rules of retention decide on it again.")
    return 0


def purge(options: argparse.Namespace) -> int:
    """Delete what the settings say may go, now; or say what would go, and why the rest stays."""
    node, limits = Node(settings_of_a_node(options)), limits_of(settings_of_a_node(options).retention)
    with opened(options, AuditedAct.PURGE, dry_run=options.dry_run) as database:
        audit = open_audit(node.settings, database)
        retention = Retention(database, node.spool, audit, limits)
        if options.dry_run:
            choices, orphans = retention.plan(), find_orphans(database, node.spool)
            _print_plan(choices, orphans, is_json=options.json)
        else:
            gone, orphans = retention.run(actor()), remove_orphans(database, node.spool)
            _print_gone(gone, orphans, is_json=options.json)
        audit.close()
    if not (limits.is_set or options.json):
        say(_NOTHING_SET)
    return 0


def _print_plan(choices: Sequence[RetentionChoice], orphans: Sequence[Orphan], *, is_json: bool) -> None:
    if is_json:
        print_json({"studies": [_line(one) for one in choices], "orphans": orphans})
        return
    going = [one for one in choices if one.goes]
    rows = [(one.facts.study_instance_uid, one.kind, one.rule, _mb(one.facts.bytes_of(one.kind)),
             one.facts.last_active_at) for one in going]  # fmt: skip
    if rows:
        print_table(["would go", "what", "by rule", "MB", "last active"], rows)
    stays = [(one.facts.study_instance_uid, one.kind, one.stays.code, one.stays.text) for one in choices if one.stays]
    if stays:
        print_table(["stays", "what", "", "why"], stays)
    counted = ", ".join(f"{number} {code}" for code, number in Counter(row[2] for row in stays).most_common())
    say(f"{len(going)} would go, {_mb(sum(one.facts.bytes_of(one.kind) for one in going))} MB; {len(stays)} stay"
        f"{f': {counted}' if counted else ''}.")  # fmt: skip
    _print_orphans(orphans)


def _line(one: RetentionChoice) -> dict[str, object]:
    return {
        "study_instance_uid": one.facts.study_instance_uid, "kind": one.kind, "goes": one.goes, "rule": one.rule,
        "stays": one.stays.code if one.stays else "", "why": one.stays.text if one.stays else "",
        "size_bytes": one.facts.bytes_of(one.kind), "last_active_at": one.facts.last_active_at,
    }  # fmt: skip


def _print_gone(gone: Sequence[Deletion], orphans: Sequence[Orphan], *, is_json: bool) -> None:
    if is_json:
        print_json({"deleted": gone, "orphans": orphans})
        return
    if gone:
        rows = [(one.study_instance_uid, one.kind, one.rule, one.objects, _mb(one.size_bytes)) for one in gone]
        print_table(["deleted", "what", "by rule", "objects", "MB"], rows)
    say(f"{len(gone)} deleted, {_mb(sum(one.size_bytes for one in gone))} MB.")
    _print_orphans(orphans)


def _print_orphans(orphans: Sequence[Orphan]) -> None:
    if orphans:
        print_table(["file that no row knows", "MB", "last changed", "what becomes of it"],
                    [(one.key, _mb(one.size_bytes), one.changed_at, one.fate) for one in orphans])  # fmt: skip


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.1f}"
