"""`dicom-node retrieve`: fetch a study from a configured PACS, and say how far it is."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.terminal import console, print_json, say
from dicom_node.core.errors import SettingsError
from dicom_node.core.uids import is_valid_uid
from dicom_node.logs import quiet_third_parties
from dicom_node.receive.associations import AssociationSweep
from dicom_node.retrieve.retrieval import FINISHED, Retrieval, RetrievalState
from dicom_node.retrieve.retrievals import Retrievals, open_retrievals
from dicom_node.retrieve.source import WantedStudy
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings

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
    retrievals = open_retrievals(node.settings, node.sink_parts(receiver_id))
    try:
        asked = retrievals.ask(WantedStudy(options.study, tuple(options.series)), options.source)
        finished = _followed(retrievals, asked, AssociationSweep(node.database, receiver_id), quiet=options.json)
    finally:
        retrievals.stop()
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
