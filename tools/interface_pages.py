"""The reference pages of the command line and of the HTTP interface, written from the parser and from OpenAPI."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from dicom_node import __version__
from dicom_node.api.parts import ApiParts
from dicom_node.api.server import create_app
from dicom_node.cli.parser import make_parser

_PARAMETER_PLACES = ("path", "query", "header")


def command_tables() -> str:
    """One section per command: what it does, how it is called, and every argument with its meaning and default."""
    return "\n\n".join(_command_section(words, parser) for words, parser in _commands(make_parser(), "dicom-node"))


def _commands(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that runs, by its words; groups such as `models` only lead to others."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for word, below in group.choices.items():
            yield from _commands(below, f"{words} {word}")
    if not groups:
        yield words, parser


def _command_section(words: str, parser: argparse.ArgumentParser) -> str:
    rows = [_argument_row(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
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


def api_tables() -> str:
    """One section per tag of the interface: method and address, what for, parameters and answers."""
    # Only the description is asked of it: no route runs, so the application needs nothing of a node.
    parts = SimpleNamespace(version=__version__, token_digest="", database=None)
    app = create_app(cast(ApiParts, parts))
    operations: dict[str, list[str]] = {}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            (tag, *_) = operation.get("tags", ["other"])
            operations.setdefault(tag, []).append(_operation_row(method, path, operation))
    header = ["| call | what for | parameters | answers |", "|---|---|---|---|"]
    return "\n\n".join("\n".join([f"## {tag}", "", *header, *rows]) for tag, rows in operations.items())


def _operation_row(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [f"`{one['name']}`" for one in operation.get("parameters", []) if one["in"] in _PARAMETER_PLACES[1:]]
    body = list(_body_types(operation.get("requestBody", {})))
    answers = ", ".join(sorted(operation["responses"]))
    return f"| `{method.upper()} {path}` | {operation['summary']} | {', '.join([*parameters, *body])} | {answers} |"


def _body_types(body: Mapping[str, Any]) -> Iterable[str]:
    return (f"body `{media}`" for media in body.get("content", {}))


def _sentence(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.strip())
