"""`dicom-node send` and `dicom-node echo`: speak DICOM to a peer from the command line."""

from __future__ import annotations

import argparse
import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.terminal import console, print_json, read_peer, say
from dicom_node.dimse.probe import echo as send_echo
from dicom_node.dimse.storage_scu import FileSent, all_files, send_files
from dicom_node.logs import quiet_third_parties


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
    failed = [one for one in sent if not one.stored]
    if options.json:
        print_json(sent)
    else:
        for one in failed:
            say(f"{one.path}: {one.note}")
        say(f"{len(sent) - len(failed)} of {len(sent)} stored by {remote}.")
    return 1 if failed or not sent else 0


def echo(options: argparse.Namespace) -> int:
    """Ask a peer whether it answers."""
    remote = read_peer(options)
    took_s = send_echo(remote)
    if options.json:
        print_json({"peer": str(remote), "answered": True, "took_s": round(took_s, 4)})
    else:
        say(f"{remote} answered in {took_s * 1000:.0f} ms.")
    return 0
