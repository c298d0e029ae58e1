"""Which commands there are and what they take."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from dicom_node import __version__
from dicom_node.cli.command import add_command
from dicom_node.cli.upkeep import commands as upkeep
from dicom_node.core.assessment.reader_agreement import Grouping
from dicom_node.core.principal import UserRole
from dicom_node.roles import ROLES

Options = argparse.Namespace


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command sets `run`."""
    parser = argparse.ArgumentParser(
        prog="dicom-node", description="A DICOM AI node. Decision support only: every result is unverified AI."
    )
    parser.add_argument("--version", action="version", version=f"dicom-node {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    of_data = (
        _send,
        _echo,
        _retrieve,
        _status,
        _rules,
        _destinations,
        _retry,
        _rerun,
        _withdraw,
        _discard,
        upkeep.hold,
        upkeep.release,
        upkeep.purge,
        upkeep.drift,
        _export,
        _export_results,
        _export_cases,
    )
    for add in (
        _serve,
        _demo,
        *of_data,
        _models,
        _run,
        _evaluate,
        _agreement,
        _inspect,
        _users,
        _keys,
        _audit,
        _smart_key,
        upkeep.backup,
        upkeep.restore,
        _doctor,
    ):
        add(commands)
    return parser


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "serve", "run the node", "serve:serve")
    command.add_argument("--role", action="append", choices=tuple(ROLES),
                         help="run only this role (may be given several times); default: all")  # fmt: skip


def _demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "demo", "send sample studies through a node and show what came back", "demo:demo")
    command.add_argument("--study", type=Path, help="folder with your own study instead of the phantoms")
    command.add_argument("--folder", type=Path, default=Path("demo-data"), help="where the demo keeps its data")
    command.add_argument("--once", action="store_true", help="end when the results are there, also on a terminal")


def _send(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "send", "send DICOM files by C-STORE, as a modality does", "dimse:send", json=True)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files or folders")
    _add_peer(command, "--to")


def _echo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "echo", "ask a peer whether it answers (C-ECHO)", "dimse:echo", json=True)
    command.add_argument("peer", metavar="AET@HOST:PORT", help="who is asked")
    _add_calling(command, 10.0)


def _retrieve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "retrieve", "fetch a study from a configured PACS ([[source]])", "dimse:retrieve", json=True
    )
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--from", dest="source", metavar="NAME", help="name of the source; default: the only one")
    command.add_argument("--series", action="append", default=[], metavar="UID", help="only this series (repeatable)")


def _status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "status", "show the latest studies, or one study's timeline", "study:status", json=True
    )
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--limit", type=int, default=20, help="how many studies")


def _rules(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rules = commands.add_parser("rules", help="why a study goes to a model, or does not")
    below = rules.add_subparsers(required=True, metavar="COMMAND")
    command = add_command(below, "explain", "evaluate every clause of every route", "explained:explain", json=True)
    command.add_argument("subjects", nargs="+", metavar="STUDY|FILE", help="Study Instance UID, DICOM files or folders")
    command = add_command(below, "replay", "try routes on the studies that have come; nothing runs", "rules:replay",
                       json=True)  # fmt: skip
    command.add_argument("--days", type=_days, metavar="N", help="studies of so many days; default: whatever is kept")
    command.add_argument("--studies", type=int, default=200, metavar="N", help="at most so many of the latest studies")
    command.add_argument("--file", type=Path, metavar="TOML", help="[[route]] tables to hold against the present ones; "
                         "default: the present ones against what was decided when the studies came")  # fmt: skip
    add_command(below, "list", "show the routes, where they come from, and which are suspended", "rules:list_routes",
             json=True)  # fmt: skip
    command = add_command(below, "save", "put routes over those of the configuration file, at once", "rules:save")
    command.add_argument("file", type=Path, metavar="TOML", help="one or more [[route]] tables")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept with the route")
    command = add_command(below, "revert", "let the configuration file's route be in force again", "rules:revert")
    command.add_argument("name", metavar="NAME", help="name of the route")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept with the route")
    _add_suspension(below, "route", "start no analysis by a route until somebody resumes it", "let a route go on")


def _destinations(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    known = commands.add_parser("destinations", help="where results go")
    below = known.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "show the destinations, and which are suspended", "suspensions:list_destinations",
             json=True)  # fmt: skip
    command = add_command(below, "hold", "suspend all of them, after a database was put back by other means",
                       "suspensions:hold_destinations")  # fmt: skip
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; those who wait are told")
    _add_suspension(
        below, "destination", "send nothing to a destination until somebody resumes it", "send to a destination again"
    )


def _add_suspension(
    below: argparse._SubParsersAction[argparse.ArgumentParser], what: str, suspend: str, resume: str
) -> None:
    command = add_command(below, "suspend", suspend, f"suspensions:suspend_{what}")
    command.add_argument("name", metavar="NAME", help=f"name of the {what}")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; those who wait are told")
    command = add_command(below, "resume", resume, f"suspensions:resume_{what}")
    command.add_argument("name", metavar="NAME", help=f"name of the {what}")


def _retry(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "retry", "try parked or waiting deliveries again now", "study:retry", json=True)
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--delivery", type=int, help="one delivery by its number")
    command.add_argument("--destination", help="everything for one destination; ends its suspension")


def _rerun(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "rerun", "analyse a study again", "study:rerun", json=True)
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--route", help="only this route")


def _withdraw(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "withdraw", "take a study's results back everywhere", "study:withdraw", json=True)
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; all who read the result are told")
    command.add_argument("--route", help="only the results of this route")


def _discard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "discard", "give up what waits or is parked", "study:discard", json=True)
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


def _export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "export", "write studies into a folder, also de-identified", "export:export", json=True
    )
    command.add_argument("studies", nargs="+", metavar="STUDY", help="Study Instance UID")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    command.add_argument(
        "--deidentify", metavar="PROFILE", help="`basic`, or a profile of `[[deidentification]]`; default: as kept"
    )
    command.add_argument("--results", action="store_true", help="also the DICOM objects of results that hold")


def _export_results(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "export-results", "write what results say into a file", "export:export_results")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, .csv or .json, which only you can read")
    _add_case_filter(command)


def _export_cases(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "export-cases", "write reviewed results as de-identified cases", "agreement:export_cases", json=True
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    command.add_argument(
        "--profile", metavar="PROFILE", help="a profile of `[[deidentification]]`; default: keeps codes of reports"
    )
    _add_case_filter(command)


def _agreement(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "agreement", "how often readers agreed with the models", "agreement:agreement", json=True
    )
    command.add_argument("--by", action="append", choices=tuple(Grouping), type=Grouping, metavar="WHAT",
                         help=f"tell groups apart by {', '.join(Grouping)}; default: model and version")  # fmt: skip
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the groups into a file")
    command.add_argument("--cases", type=Path, metavar="FILE", help="write the reviewed cases into a file")
    _add_case_filter(command)


def _add_case_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="first", type=date.fromisoformat, metavar="DAY",
                         help="only of results made on this day or later, as 2026-11-20")  # fmt: skip
    command.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="on this day or earlier")
    command.add_argument("--model", default="", metavar="NAME", help="only of this model")
    command.add_argument("--route", default="", metavar="NAME", help="only of this route")


def _models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="the models the node can run")
    below = models.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "list the models that are found, verified", "models.candidates:list_models", json=True)
    command = add_command(below, "verify", "look at a model without running it", "models.governance:verify", json=True)
    command.add_argument("model", nargs="?", metavar="NAME|FOLDER", help="a model or a folder; default: every model")
    command = add_command(below, "ready", "cards that come with the node for weights it does not have",
                       "models.governance:ready", json=True)  # fmt: skip
    command.add_argument("card", nargs="?", default="", metavar="CARD", help="show this card; default: a list")
    command = add_command(below, "add", "copy a model into the node's models, if it verifies", "models.governance:add")
    command.add_argument(
        "source", type=Path, metavar="PATH",
        help="model folder with its model_card.toml, MONAI Bundle, unpacked application package (MAP), or checkpoint",
    )  # fmt: skip
    command.add_argument("--card", default="", metavar="CARD|FILE", help="its card: one of `models ready`, or a file")
    command.add_argument("--weights", type=Path, metavar="FILE", help="its weights, where they are not in the folder")
    command.add_argument("--replace", action="store_true", help="take the place of the version that is there")
    command = add_command(below, "accept", "let the code and weights of a model run", "models.governance:accept")
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument(
        "--digest", default="", help="beginning of the folder digest you looked at; others are refused"
    )
    command.add_argument("--withdraw", action="store_true", help="take an earlier acceptance back")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = add_command(
        below, "decisions", "who accepted or activated what, and when", "models.governance:decisions", json=True
    )
    command.add_argument("model", nargs="?", metavar="NAME", help="name of a model; default: every model")
    _models_that_run(below)


def _models_that_run(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(below, "activate", "run a model's golden studies; it goes live if they hold",
                       "models.governance:activate", json=True)  # fmt: skip
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--without-golden", action="store_true", help="activate a model that has no golden studies")
    command.add_argument("--pictures", type=Path, metavar="FOLDER", help="leave pictures of every answer there")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = add_command(below, "try", "run models once on a phantom; their code runs", "models.candidates:try_models",
                       json=True)  # fmt: skip
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER",
                         help="folder of a model, or of a MONAI Bundle, which needs no card")  # fmt: skip
    command.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="leave pictures of the answers there, a folder for each model with a card",
    )
    command.add_argument("--task", choices=("classification", "regression", "segmentation", "detection"),
                         help="what it is for; default: what its metadata say")  # fmt: skip
    command.add_argument("--output", metavar="NAME", default="pred", help="what it leaves its answer in")
    command.add_argument("--shape", metavar="C,[Z,]Y,X", help="channels, slices, rows and columns to give it")
    command.add_argument("--device", default="cpu", help="where to run it, such as cpu or cuda:0")
    command = add_command(
        below, "bench", "measure studies and images a second, cold and warm", "models.bench:bench_model", json=True
    )
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--study", type=Path, help="folder with a study it takes; default: a phantom that fits")
    command.add_argument("--rounds", type=int, default=10, help="warm studies")
    command.add_argument("--device", default="", help="device instead of inference.device, such as cpu or cuda:0")


def _run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "run", "run a model on files, without a node", "models.run:run_model", json=True)
    command.add_argument("model", metavar="MODEL", help="name of a model, or its folder, which is verified first")
    command.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="DICOM files, folders with all below, zip archives"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a folder for each study")
    command.add_argument("--nifti", action="store_true", help="also each mask as NIfTI, on the grid of the images")
    command.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    command.add_argument("--parameter", action="append", default=[], metavar="NAME=NUMBER",
                         help="in place of a parameter of the model's card (repeatable)")  # fmt: skip


def _evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "evaluate", "measure a model on labelled images, by the node's own runner",
        "models.evaluate:evaluate", json=True,
    )  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="name of the model")
    command.add_argument("--data", type=Path, required=True, help="folder of the images: DICOM, PNG, JPEG")
    command.add_argument("--labels", type=Path, required=True, help="CSV: a column image, and one with what is true")
    command.add_argument("--finding", default="", metavar="KEY", help="which finding; default: the only one")
    command.add_argument("--label", default="", metavar="COLUMN", help="column of the truth; default: KEY, or label")
    command.add_argument(
        "--positive", action="append", default=[], metavar="WORD", help="means it is there (repeatable)"
    )
    command.add_argument(
        "--group", action="append", default=[], metavar="COLUMN", help="figures per value (repeatable)"
    )
    command.add_argument("--patient", default="", metavar="COLUMN", help="images of one patient belong together")
    command.add_argument("--assume", action="append", default=[], metavar="KEYWORD=VALUE",
                         help="what holds of every picture, such as Modality=DX (repeatable)")  # fmt: skip
    command.add_argument("--sample", type=int, default=0, metavar="N", help="only N images, drawn at random")
    command.add_argument("--seed", type=int, default=0, help="of the sample and of the bootstrap")
    command.add_argument("--resamples", type=int, default=1000, help="draws of the bootstrap")
    command.add_argument("--out", type=Path, help="folder of the report; default: evaluation-MODEL")


def _inspect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "inspect", "show what is in a DICOM object: report, masks, graphics, picture",
                       "inspect:inspect", json=True)  # fmt: skip
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM files of this node or of others")
    command.add_argument("--picture", type=Path, metavar="OUT.png", help="write a picture of it")
    command.add_argument("--document", type=Path, metavar="OUT.pdf", help="write the document that it encloses")
    command.add_argument("--draw", action="store_true", help="draw the picture in the terminal, coarsely")
    command.add_argument("--codes", action="store_true", help="show codes, value types and relationships of a report")
    command.add_argument("--all", action="store_true", help="show every reference, also of long lists")
    command.add_argument("--show-patient", action="store_true", help="show names and identifiers of the patient")


def _users(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    users = commands.add_parser("users", help="people who may sign in")
    below = users.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "show who may sign in", "people:list_users", json=True)
    command = _of_somebody(below, "add", "add a person; their password is asked for", "people:add_user")
    _add_roles(command)
    _add_password_file(command)
    _add_roles(_of_somebody(below, "set-role", "let a person be something else", "people:set_role"))
    command = _of_somebody(below, "set-name", "say what a person is called in reports they verify", "people:set_named")
    command.add_argument("display_name", metavar="FAMILY^GIVEN", help='as DICOM writes names; "": the account\'s name')
    command.add_argument("--identifier", default="", metavar="TEXT", help="by which the hospital knows the person")
    _of_somebody(below, "disable", "shut a person out", "people:disable_user")
    _of_somebody(below, "enable", "let a person in again", "people:enable_user")
    _add_password_file(_of_somebody(below, "reset-password", "give a person another password",
                                    "people:reset_password"))  # fmt: skip
    _of_somebody(below, "remove", "remove a person", "people:remove_user")


def _keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="keys with which programs use the API")
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "show the keys, never their secrets", "people:list_keys", json=True)
    command = _of_somebody(below, "add", "make a key and print its secret, once", "people:add_key")
    _add_roles(command)
    command.add_argument("--expires", type=_days, default=365, metavar="DAYS", help="how long it lasts")
    _of_somebody(below, "revoke", "end a key", "people:revoke_key")


def _of_somebody(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, target: str
) -> argparse.ArgumentParser:
    command = add_command(commands, name, text, target)
    command.add_argument("name", metavar="NAME", help="name, whatever its case")
    return command


def _add_roles(command: argparse.ArgumentParser) -> None:
    command.add_argument("--role", action="append", required=True, choices=tuple(map(str, UserRole)),
                         help="what they are here (repeatable)")  # fmt: skip


def _add_password_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the password; default: asked for"
    )


def _days(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 3650):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 1 to 3650")
    return int(text)


def _audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = commands.add_parser("audit", help="who did what here: the audit trail")
    below = audit.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "verify", "see whether any record was changed or removed", "audit:verify_trail", json=True)
    command = add_command(below, "list", "show the latest records", "audit:list_records", json=True)
    command.add_argument("--limit", type=int, default=50, help="how many records")
    _add_audit_filter(command)
    command = add_command(below, "export", "write records into a file, one JSON object a line", "audit:export")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, which only you can read")
    _add_audit_filter(command)
    command = add_command(
        below, "accept", "stand for a trail that is older than its anchor: a backup was put back", "audit:accept"
    )
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is written into the trail")
    add_command(below, "rotate-key", "seal what is new with a new key", "audit:rotate_key")


def _add_audit_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", metavar="TIME", help="from this time on, as 2026-11-20 or 2026-11-20T08:00+01:00")
    command.add_argument("--until", metavar="TIME", help="before this time")
    command.add_argument("--actor", default="", metavar="NAME", help="only what this one did")
    command.add_argument("--act", default="", metavar="ACT", help="only this act, such as withdrawal")
    command.add_argument("--study", default="", metavar="UID", help="only about this study")
    command.add_argument("--patient", default="", metavar="ID", help="only about this PatientID")


def _smart_key(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("smart-key", help="keys with which the node signs in to EHRs (SMART)")
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    command = add_command(below, "new", "make a private key, and print the public one to register", "smart_key:new")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, which only you can read")
    command.add_argument("--type", choices=("rsa", "ec"), default="rsa", help="RS384 (rsa, default) or ES384 (ec)")
    command = add_command(below, "show", "print public keys as a JWK Set", "smart_key:show")
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="private keys; default: those of the settings"
    )


def _doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "doctor", "check the configuration against the real world", "doctor:doctor", json=True
    )
    command.add_argument("--register", metavar="URL", help="address of an Orthanc that shall know this node")
    command.add_argument("--as", dest="alias", default="ainode", help="name of the node inside Orthanc")
    command.add_argument(
        "--address", default="", help="address at which Orthanc reaches the node; default: found by itself"
    )


def _add_peer(command: argparse.ArgumentParser, flag: str) -> None:
    command.add_argument(flag, dest="peer", required=True, metavar="AET@HOST:PORT", help="who receives")
    _add_calling(command, 60.0)


def _add_calling(command: argparse.ArgumentParser, timeout_s: float) -> None:
    command.add_argument("--from", dest="calling", default=None, help="calling AE title; default: node.ae_title")
    command.add_argument("--timeout", type=float, default=timeout_s, help="seconds to wait for each answer")
    command.add_argument("--tls", action="store_true", help="speak TLS, with certificate and ca of [dicom_tls]")
    command.add_argument("--tls-name", default="", metavar="NAME",
                         help="name in the peer's certificate; default: HOST; *: any that ca signed")  # fmt: skip
