"""Which commands there are and what they take."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from dicom_node import __version__
from dicom_node.roles import ROLES

Options = argparse.Namespace


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command sets `run`."""
    parser = argparse.ArgumentParser(
        prog="dicom-node", description="A DICOM AI node. Decision support only: every result is unverified AI."
    )
    parser.add_argument("--version", action="version", version=f"dicom-node {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    of_data = (_send, _echo, _retrieve, _status, _rules, _retry, _rerun, _withdraw, _discard)
    for add in (_serve, _demo, *of_data, _models, _evaluate, _inspect, _smart_key, _doctor):
        add(commands)
    return parser


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "serve", "run the node", "serve:serve")
    command.add_argument("--role", action="append", choices=tuple(ROLES),
                         help="run only this role (may be given several times); default: all")  # fmt: skip


def _demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "demo", "send sample studies through a node and show what came back", "demo:demo")
    command.add_argument("--study", type=Path, help="folder with your own study instead of the phantoms")
    command.add_argument("--folder", type=Path, default=Path("demo-data"), help="where the demo keeps its data")
    command.add_argument("--once", action="store_true", help="end when the results are there, also on a terminal")


def _send(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "send", "send DICOM files by C-STORE, as a modality does", "dimse:send", json=True)
    command.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files or folders")
    _add_peer(command, "--to")


def _echo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "echo", "ask a peer whether it answers (C-ECHO)", "dimse:echo", json=True)
    command.add_argument("peer", metavar="AET@HOST:PORT", help="who is asked")
    _add_calling(command, 10.0)


def _retrieve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(
        commands, "retrieve", "fetch a study from a configured PACS ([[source]])", "dimse:retrieve", json=True
    )
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--from", dest="source", metavar="NAME", help="name of the source; default: the only one")
    command.add_argument("--series", action="append", default=[], metavar="UID", help="only this series (repeatable)")


def _status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(
        commands, "status", "show the latest studies, or one study's timeline", "study:status", json=True
    )
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--limit", type=int, default=20, help="how many studies")


def _rules(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rules = commands.add_parser("rules", help="why a study goes to a model, or does not")
    below = rules.add_subparsers(required=True, metavar="COMMAND")
    command = _command(below, "explain", "evaluate every clause of every route", "study:explain", json=True)
    command.add_argument("subjects", nargs="+", metavar="STUDY|FILE", help="Study Instance UID, DICOM files or folders")


def _retry(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "retry", "try parked or waiting deliveries again now", "study:retry", json=True)
    command.add_argument("study", nargs="?", help="Study Instance UID")
    command.add_argument("--delivery", type=int, help="one delivery by its number")
    command.add_argument("--destination", help="everything for one destination; ends its suspension")


def _rerun(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "rerun", "analyse a study again", "study:rerun", json=True)
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--route", help="only this route")


def _withdraw(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "withdraw", "take a study's results back everywhere", "study:withdraw", json=True)
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; all who read the result are told")
    command.add_argument("--route", help="only the results of this route")


def _discard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "discard", "give up a delivery that waits or is parked", "study:discard", json=True)
    command.add_argument("delivery", type=int, help="number of the delivery; `status STUDY` lists them")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the timeline")


def _models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="the models the node can run")
    below = models.add_subparsers(required=True, metavar="COMMAND")
    _command(below, "list", "list the models that are found, verified", "models:list_models", json=True)
    command = _command(below, "verify", "look at a model without running it", "governance:verify", json=True)
    command.add_argument("model", nargs="?", metavar="NAME|FOLDER", help="a model or a folder; default: every model")
    command = _command(below, "add", "copy a folder into the node's models, if it verifies", "governance:add")
    command.add_argument("folder", type=Path, help="model folder with its model_card.toml")
    command.add_argument("--replace", action="store_true", help="take the place of the version that is there")
    command = _command(below, "accept", "let the code and weights of a model run", "governance:accept")
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument(
        "--digest", default="", help="beginning of the folder digest you looked at; others are refused"
    )
    command.add_argument("--withdraw", action="store_true", help="take an earlier acceptance back")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = _command(
        below, "decisions", "who accepted or activated what, and when", "governance:decisions", json=True
    )
    command.add_argument("model", nargs="?", metavar="NAME", help="name of a model; default: every model")
    _models_that_run(below)


def _models_that_run(below: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(below, "activate", "run a model's golden studies; it goes live if they hold",
                       "governance:activate", json=True)  # fmt: skip
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--without-golden", action="store_true", help="activate a model that has no golden studies")
    command.add_argument("--pictures", type=Path, metavar="FOLDER", help="leave pictures of every answer there")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = _command(below, "try", "run models once on a phantom; their code runs", "models:try_models",
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
    command = _command(below, "bench", "measure studies and images a second, cold and warm", "bench:bench_model",
                       json=True)  # fmt: skip
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--study", type=Path, help="folder with a study it takes; default: a phantom that fits")
    command.add_argument("--rounds", type=int, default=10, help="warm studies")
    command.add_argument("--device", default="", help="device instead of inference.device, such as cpu or cuda:0")


def _evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(
        commands, "evaluate", "measure a model on labelled images, by the node's own runner", "evaluate:evaluate",
        json=True,
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
    command = _command(commands, "inspect", "show what is in a DICOM object: report, masks, graphics, picture",
                       "inspect:inspect", json=True)  # fmt: skip
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="DICOM files of this node or of others")
    command.add_argument("--picture", type=Path, metavar="OUT.png", help="write a picture of it")
    command.add_argument("--document", type=Path, metavar="OUT.pdf", help="write the document that it encloses")
    command.add_argument("--draw", action="store_true", help="draw the picture in the terminal, coarsely")
    command.add_argument("--codes", action="store_true", help="show codes, value types and relationships of a report")
    command.add_argument("--all", action="store_true", help="show every reference, also of long lists")
    command.add_argument("--show-patient", action="store_true", help="show names and identifiers of the patient")


def _smart_key(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("smart-key", help="keys with which the node signs in to EHRs (SMART)")
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    command = _command(below, "new", "make a private key, and print the public one to register", "smart_key:new")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, which only you can read")
    command.add_argument("--type", choices=("rsa", "ec"), default="rsa", help="RS384 (rsa, default) or ES384 (ec)")
    command = _command(below, "show", "print public keys as a JWK Set", "smart_key:show")
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="private keys; default: those of the settings"
    )


def _doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = _command(commands, "doctor", "check the configuration against the real world", "doctor:doctor", json=True)
    command.add_argument("--register", metavar="URL", help="address of an Orthanc that shall know this node")
    command.add_argument("--as", dest="alias", default="ainode", help="name of the node inside Orthanc")
    command.add_argument(
        "--address", default="", help="address at which Orthanc reaches the node; default: found by itself"
    )


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    target: str,
    *,
    json: bool = False,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--config", type=Path, help="configuration file (TOML); default: built-in defaults")
    if json:
        command.add_argument("--json", action="store_true", help="print JSON for scripts")
    command.set_defaults(run=_late(target))
    return command


def _add_peer(command: argparse.ArgumentParser, flag: str) -> None:
    command.add_argument(flag, dest="peer", required=True, metavar="AET@HOST:PORT", help="who receives")
    _add_calling(command, 60.0)


def _add_calling(command: argparse.ArgumentParser, timeout_s: float) -> None:
    command.add_argument("--from", dest="calling", default=None, help="calling AE title; default: node.ae_title")
    command.add_argument("--timeout", type=float, default=timeout_s, help="seconds to wait for each answer")
    command.add_argument("--tls", action="store_true", help="speak TLS, with certificate and ca of [dicom_tls]")
    command.add_argument("--tls-name", default="", metavar="NAME",
                         help="name in the peer's certificate; default: HOST; *: any that ca signed")  # fmt: skip


def _late(target: str) -> Callable[[Options], int]:
    """Import a command's module only when the command runs."""
    module_name, _, function_name = target.partition(":")

    def run(options: Options) -> int:
        module = importlib.import_module(f"dicom_node.cli.{module_name}")
        return int(getattr(module, function_name)(options))

    return run
