"""The reference pages of the command line and of the HTTP interface, written from the parser and from OpenAPI."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from fastapi import FastAPI

from dicom_node import __version__
from dicom_node.api.answers.problem_kinds import PROBLEM_KINDS
from dicom_node.api.parts import ApiParts
from dicom_node.api.permissions import PUBLIC, routes_of
from dicom_node.api.server import create_app
from dicom_node.cli.parser import make_parser
from dicom_node.config.settings import Settings
from dicom_node.core.principal import UserRole

_PARAMETER_PLACES = ("path", "query", "header")


_NO_ARGUMENT = (argparse._HelpAction, argparse._SubParsersAction)


def command_tables() -> str:
    """One section per command: what it does, how it is called, and every argument with its meaning and default."""
    return "\n\n".join(_command_section(words, parser) for words, parser in _commands(make_parser(), "dicom-node"))


def _commands(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that runs, by its words; groups such as `models` only lead to others."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for word, below in group.choices.items():
            yield from _commands(below, f"{words} {word}")
    if not groups or parser.get_default("run"):
        yield words, parser


def _command_section(words: str, parser: argparse.ArgumentParser) -> str:
    rows = [_argument_row(action) for action in parser._actions if not isinstance(action, _NO_ARGUMENT)]
    table = ["| argument | meaning | default |", "|---|---|---|", *rows]
    return "\n".join([f"## {words}", "", parser.description or "", "", *table])


def _argument_row(action: argparse.Action) -> str:
    name = action.metavar or action.dest.upper()
    value = "\\|".join(map(str, action.choices)) if action.choices else str(name).replace("|", "\\|")
    if not action.option_strings:
        shown = f"`{value}`" + (" …" if action.nargs == "+" else "")
    else:
        shown = f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else f' {value}'}`"
    text, _, told = (action.help or "").partition("; default: ")
    return f"| {shown} | {_sentence(text)} | {told or _default(action)} |"


def _default(action: argparse.Action) -> str:
    if action.required and action.nargs != "?":
        return "required"
    shown = action.default not in (None, False, "", []) and action.default is not argparse.SUPPRESS
    return f"`{action.default:g}`" if isinstance(action.default, float) else f"`{action.default}`" if shown else ""


def problem_table() -> str:
    """Every kind of problem of the interface."""
    header = ["| type | status | title | means | what to do |", "|---|---|---|---|---|"]
    rows = [f"| `{one.type}` | {one.status} | {one.title} | {one.meaning} | {one.remedy} |" for one in PROBLEM_KINDS]
    return "\n".join([*header, *rows])


def api_tables() -> str:
    """One section per tag of the interface: method and address, what for, parameters and answers."""
    app = _described_app()
    operations: dict[str, list[str]] = {}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            (tag, *_) = operation.get("tags", ["other"])
            operations.setdefault(tag, []).append(_operation_row(method, path, operation))
    header = ["| call | what for | parameters | answers |", "|---|---|---|---|"]
    return "\n\n".join("\n".join([f"## {tag}", "", *header, *rows]) for tag, rows in operations.items())


def role_table() -> str:
    """Every route and who may use it, as the routes themselves say."""
    header = [
        "| call | asks for | " + " | ".join(UserRole) + " |",
        "|---|---|" + ":-:|" * len(UserRole),
    ]
    guarded = [route for route in routes_of(_described_app()) if not route.why_public]
    rows = [
        f"| `{route.call}` | {', '.join(sorted(route.permissions))} | "
        + " | ".join("yes" if route.admits(role) else "" for role in UserRole) + " |"
        for route in guarded
    ]  # fmt: skip
    return "\n".join([*header, *rows])


def public_table() -> str:
    """The addresses that ask for nothing, and why."""
    return "\n".join(
        ["| call | why everybody may |", "|---|---|", *(f"| `{call}` | {why} |" for call, why in PUBLIC.items())]
    )


def _described_app() -> FastAPI:
    """Return the application, of which only the description is asked: no route runs, so it needs nothing of a node."""
    parts = SimpleNamespace(version=__version__, token_digest="", database=None, settings=Settings(), audit=None)
    return create_app(cast(ApiParts, parts))


def _operation_row(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [f"`{one['name']}`" for one in operation.get("parameters", []) if one["in"] in _PARAMETER_PLACES[1:]]
    body = list(_body_types(operation.get("requestBody", {})))
    answers = ", ".join(sorted(operation["responses"]))
    return f"| `{method.upper()} {path}` | {operation['summary']} | {', '.join([*parameters, *body])} | {answers} |"


def _body_types(body: Mapping[str, Any]) -> Iterable[str]:
    return (f"body `{media}`" for media in body.get("content", {}))


def _sentence(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.strip())
