"""What the commands about studies take: objects to and from peers, a study and its parts, and what leaves as files."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from dicom_node.cli.command import Commands, add_command
from dicom_node.core.assessment.concordance import ConcordanceGroup
from dicom_node.core.assessment.reader_agreement import Grouping


def send(commands: Commands) -> None:
    command = add_command(
        commands, "send", "send DICOM files by C-STORE, as a modality does", "studies.dimse:send", json=True
    )
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files or folders")
    _add_peer(command, "--to")


def echo(commands: Commands) -> None:
    command = add_command(commands, "echo", "ask a peer whether it answers (C-ECHO)", "studies.dimse:echo", json=True)
    command.add_argument("peer", metavar="AET@HOST:PORT", help="who is asked")
    _add_calling(command, 10.0)


def retrieve(commands: Commands) -> None:
    command = add_command(
        commands, "retrieve", "fetch a study from a configured PACS ([[source]])", "studies.dimse:retrieve", json=True
    )
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--from", dest="source", metavar="NAME", help="name of the source; default: the only one")
    command.add_argument("--series", action="append", default=[], metavar="UID", help="only this series (repeatable)")


def status(commands: Commands) -> None:
    command = add_command(
        commands, "status", "show the latest studies, or one study's timeline", "studies.study:status", json=True
    )
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--limit", type=int, default=20, help="how many studies")


def retry(commands: Commands) -> None:
    command = add_command(
        commands, "retry", "try parked or waiting deliveries again now", "studies.study:retry", json=True
    )
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--delivery", type=int, help="one delivery by its number")
    command.add_argument("--destination", help="everything for one destination; ends its suspension")


def rerun(commands: Commands) -> None:
    command = add_command(commands, "rerun", "analyse a study again", "studies.study:rerun", json=True)
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--route", help="only this route")


def withdraw(commands: Commands) -> None:
    command = add_command(
        commands, "withdraw", "take a study's results back everywhere", "studies.study:withdraw", json=True
    )
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; all who read the result are told")
    command.add_argument("--route", help="only the results of this route")


def discard(commands: Commands) -> None:
    command = add_command(commands, "discard", "give up what waits or is parked", "studies.study:discard", json=True)
    command.add_argument(
        "delivery",
        nargs="?",
        metavar="DELIVERY",
        help="number of a delivery, or id of an event; `status STUDY` lists both",
    )
    command.add_argument(
        "--destination", metavar="NAME", help="all that waits for a destination that is in the settings no more"
    )
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the timeline")


def export(commands: Commands) -> None:
    command = add_command(
        commands, "export", "write studies into a folder, also de-identified", "studies.export:export", json=True
    )
    command.add_argument("studies", nargs="+", metavar="STUDY", help="Study Instance UID")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    command.add_argument(
        "--deidentify", metavar="PROFILE", help="`basic`, or a profile of `[[deidentification]]`; default: as kept"
    )
    command.add_argument("--results", action="store_true", help="also the DICOM objects of results that hold")


def export_results(commands: Commands) -> None:
    command = add_command(
        commands, "export-results", "write what results say into a file", "studies.export:export_results"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="new file, .csv or .json, which only you can read")
    _add_case_filter(command)


def export_cases(commands: Commands) -> None:
    command = add_command(
        commands,
        "export-cases",
        "write reviewed results as de-identified cases",
        "studies.agreement:export_cases",
        json=True,
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    command.add_argument(
        "--profile", metavar="PROFILE", help="a profile of `[[deidentification]]`; default: keeps codes of reports"
    )
    _add_case_filter(command)


def agreement(commands: Commands) -> None:
    command = add_command(
        commands, "agreement", "how often readers agreed with the models", "studies.agreement:agreement", json=True
    )
    command.add_argument(
        "--by",
        action="append",
        choices=tuple(Grouping),
        type=Grouping,
        metavar="WHAT",
        help=f"tell groups apart by {', '.join(Grouping)}; default: model and version",
    )
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the groups into a file")
    command.add_argument("--cases", type=Path, metavar="FILE", help="write the reviewed cases into a file")
    _add_case_filter(command)


def concordance(commands: Commands) -> None:
    command = add_command(
        commands, "concordance", "how often models and radiologists' reports say the same",
        "studies.concordance:concordance", json=True,
    )  # fmt: skip
    command.add_argument("--by", action="append", choices=tuple(ConcordanceGroup), type=ConcordanceGroup,
                         metavar="WHAT", help=f"tell groups apart by {', '.join(ConcordanceGroup)}; default: model and "
                         "finding")  # fmt: skip
    command.add_argument(
        "--discordant", type=int, default=0, metavar="N", help="show the latest N findings that differ"
    )
    command.add_argument("--unmatched", type=int, default=0, metavar="N", help="show the latest N without a study")
    _add_case_filter(command)


def inspect(commands: Commands) -> None:
    command = add_command(
        commands,
        "inspect",
        "show what is in a DICOM object: report, masks, graphics, picture",
        "studies.inspect:inspect",
        json=True,
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM files of this node or of others")
    command.add_argument("--picture", type=Path, metavar="OUT.png", help="write a picture of it")
    command.add_argument("--document", type=Path, metavar="OUT.pdf", help="write the document that it encloses")
    command.add_argument("--draw", action="store_true", help="draw the picture in the terminal, coarsely")
    command.add_argument("--codes", action="store_true", help="show codes, value types and relationships of a report")
    command.add_argument("--all", action="store_true", help="show every reference, also of long lists")
    command.add_argument("--show-patient", action="store_true", help="show names and identifiers of the patient")


def _add_case_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from",
        dest="first",
        type=date.fromisoformat,
        metavar="DAY",
        help="only of results made on this day or later, as 2026-11-20",
    )
    command.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="on this day or earlier")
    command.add_argument("--model", default="", metavar="NAME", help="only of this model")
    command.add_argument("--route", default="", metavar="NAME", help="only of this route")


def _add_peer(command: argparse.ArgumentParser, flag: str) -> None:
    command.add_argument(flag, dest="peer", required=True, metavar="AET@HOST:PORT", help="who receives")
    _add_calling(command, 60.0)


def _add_calling(command: argparse.ArgumentParser, timeout_s: float) -> None:
    command.add_argument("--from", dest="calling", default=None, help="calling AE title; default: node.ae_title")
    command.add_argument("--timeout", type=float, default=timeout_s, help="seconds to wait for each answer")
    command.add_argument("--tls", action="store_true", help="speak TLS, with certificate and ca of [dicom_tls]")
    command.add_argument(
        "--tls-name",
        default="",
        metavar="NAME",
        help="name in the peer's certificate; default: HOST; *: any that ca signed",
    )
