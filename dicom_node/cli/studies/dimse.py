"""`dicom-node send`, `echo` and `retrieve`: objects to a peer, and studies from a PACS, from the command line."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.terminal import actor, console, print_json, read_peer, say
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import SettingsError
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.probe import echo as send_echo
from dicom_node.dimse.storage_scu import FileSent, TypedAssociation, all_files, send_files
from dicom_node.logs import quiet_third_parties
from dicom_node.receive.associations import AssociationSweep
from dicom_node.retrieve.retrieval import FINISHED, Retrieval, RetrievalState
from dicom_node.retrieve.retrievals import Retrievals, open_retrievals
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings


def send(options: argparse.Namespace) -> int:
    """Send files; the exit status is 1 when any was not stored."""
    quiet_third_parties()
    remote = read_peer(options)
    files = list(all_files(options.paths))
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    sent: list[FileSent] = []
    with Progress(*columns, console=console, disable=options.json or not sys.stdout.isatty()) as progress:
        bar = progress.add_task("sending", total=len(files))
        for one in send_files(files, remote):
            sent.append(one)
            progress.advance(bar)
    objects = [one for one in sent if not one.is_passed_over]
    failed = [one for one in objects if not one.stored]
    if options.json:
        print_json(sent)
    else:
        _say_why([one for one in sent if not one.stored])
        say(f"{len(objects) - len(failed)} of {len(objects)} stored by {remote}.")
    return 1 if failed or not objects else 0


def _say_why(failed: Sequence[FileSent]) -> None:
    """Say each reason once, with the files that it holds for: a peer that is away is so for all."""
    by_note: defaultdict[str, list[FileSent]] = defaultdict(list)
    for one in failed:
        by_note[one.note].append(one)
    for note, ones in by_note.items():
        others = f" and {len(ones) - 1} more" if len(ones) > 1 else ""
        say(f"{ones[0].path}{others}: {note}")


def echo(options: argparse.Namespace) -> int:
    """Ask a peer whether it answers."""
    remote = read_peer(options)
    took_s = send_echo(remote, TypedAssociation)
    if options.json:
        print_json({"peer": str(remote), "answered": True, "took_s": round(took_s, 4)})
    else:
        say(f"{remote} answered in {took_s * 1000:.0f} ms.")
    return 0


# --- retrieve ----------------------------------------------------------------------------------------------------

_LOOK_EVERY_S = 0.1
_RENEW_EVERY_S = 10.0


def retrieve(options: argparse.Namespace) -> int:
    """Fetch one study; the exit status is 1 unless all of it came."""
    quiet_third_parties()
    uids = (options.study, *options.series)
    if not all(map(is_valid_uid, uids)):
        raise SettingsError("A UID has digits and single dots, at most 64 characters. Check the study and series UIDs.")
    node = Node(load_settings(options.config))
    # A name of its own: a node that runs beside must not keep this association open when this process is gone.
    receiver_id = f"{socket.gethostname()}:retrieve:{os.getpid()}"[:64]
    event = AuditedEvent(act=AuditedAct.STUDY_RETRIEVED, actor=actor(), study_instance_uid=options.study)
    retrievals = open_retrievals(node.settings, node.sink_parts(receiver_id))
    try:
        node.audit.record(event)
        asked = retrievals.ask(WantedStudy(options.study, tuple(options.series)), options.source)
        finished = _followed(retrievals, asked, AssociationSweep(node.database, receiver_id), quiet=options.json)
    finally:
        retrievals.stop()
        node.audit.close()
        node.database.close()
    if options.json:
        print_json(finished)
    else:
        count = f"{finished.received} of {'?' if finished.expected is None else finished.expected}"
        say(f"{finished.state}: {count} objects from {finished.source}. {finished.reason}".strip())
    return 0 if finished.state is RetrievalState.DONE else 1


def _followed(retrievals: Retrievals, asked: Retrieval, sweep: AssociationSweep, *, quiet: bool) -> Retrieval:
    columns = (TextColumn("fetching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    renewed_at = time.monotonic()
    with Progress(*columns, console=console, disable=quiet or not sys.stdout.isatty()) as progress:
        bar = progress.add_task("fetching", total=None)
        while (current := retrievals.get(asked.id)).state not in FINISHED:
            progress.update(bar, total=current.expected, completed=current.received)
            if time.monotonic() - renewed_at > _RENEW_EVERY_S:
                sweep.run()
                renewed_at = time.monotonic()
            time.sleep(_LOOK_EVERY_S)
        progress.update(bar, total=current.expected, completed=current.received)
    return current
