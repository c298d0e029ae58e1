"""What the node tells people to do: every command that its texts name exists as they write it, and so does every
setting and every page."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from dicom_node.cli.parser import make_parser
from dicom_node.core.outputs.event_types import EVENT_TYPES
from dicom_node.roles.settings import SiteSettings
from tests.support.docs.commands import PAGES
from tests.support.needs import REPOSITORY

_ROOMS = ("dicom_node", "inference", "sr_writer", "fhir", "config", "orthanc")
_COMMAND = re.compile(r"dicom-node ([a-z](?:[^`\n,;:.()'\"→…]|\.(?=\w))*)")
#: A piece of code in a line of a page.
_SPAN = re.compile(r"(?<!`)`(dicom-node [^`]+)`(?!`)")
_PAGE = re.compile(r"\bdocs/[\w/-]+\.md")
_FILES = {"toml", "sqlite", "local", "log", "md", "csv", "json", "xml", "py", "yaml", "yml"}
#: Where names with a dot are columns of tables.
_SQL = ("dicom_node/index/tables/", "dicom_node/index/migrations/")


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Return every text in the code, each with its file; what is put in at run time is `X`."""
    return tuple(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for room in _ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            where = str(path.relative_to(REPOSITORY))
            yield from ((where, text) for text in _strings(ast.parse(path.read_text(encoding="utf-8"))))
    for path in PAGES:
        yield from ((path.name, span) for span in _SPAN.findall(path.read_text(encoding="utf-8")))
    for path in sorted((REPOSITORY / "dicom_node" / "api" / "page").glob("*.js")):
        yield str(path.relative_to(REPOSITORY)), re.sub(r"\$\{[^}]*\}", "X", path.read_text(encoding="utf-8"))


def _strings(tree: ast.AST) -> Iterator[str]:
    """Yield the texts that somebody may read while the program runs: all but docstrings."""
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def commands() -> list[tuple[str, str]]:
    found = {(where, match[1].strip()) for where, text in texts() for match in _COMMAND.finditer(text)}
    return sorted(found)


@pytest.mark.parametrize(("where", "command"), commands(), ids=lambda value: value)
def test_a_command_that_is_advised_exists_with_its_arguments(where: str, command: str) -> None:
    words = command.split()
    parser, names = _below(make_parser(), words)
    assert names, f"{where}: there is no dicom-node {command}"
    rest = [word for word in words[len(names) :] if not word.startswith("[")]
    unknown = [word for word in rest if word.startswith("--") and word not in parser._option_string_actions]
    assert not unknown, f"{where}: dicom-node {' '.join(names)} has no {unknown}"
    if (rest and rest[0].isupper()) or any(word.startswith("--") for word in rest):
        make_parser().parse_args([*names, *_examples(rest)])


def test_commands_are_found() -> None:
    assert {"models verify lists", "rerun STUDY", "retry --destination X"} <= {command for _, command in commands()}


def test_a_setting_that_is_named_exists() -> None:
    sections = {name: _keys(field.annotation) for name, field in SiteSettings.model_fields.items()}
    named = re.compile(rf"(?<![\w./])({'|'.join(sections)})\.([a-z][a-z0-9_]*)\b(?![.(/])")
    missing = {
        f"{where}: {match[0]}"
        for where, text in texts()
        for match in named.finditer(text)
        if match[2] not in sections[match[1]] | _FILES
        and where.endswith(".py")
        and not where.startswith(_SQL)
        and match[0] not in EVENT_TYPES
    }
    assert missing == set()


def test_a_page_that_is_named_exists() -> None:
    named = {(where, page) for where, text in texts() for page in _PAGE.findall(text)}
    assert len(named) >= 3
    assert [(where, page) for where, page in named if not (REPOSITORY / page).is_file()] == []


def _below(parser: argparse.ArgumentParser, words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser that the first words lead to, and these words."""
    names: list[str] = []
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})
        if word not in choices:
            break
        parser = choices[word]
        names.append(word)
    return parser, names


def _examples(words: list[str]) -> Iterator[str]:
    """Return the words with something in the place of each placeholder whose form matters."""
    for before, word in zip(["", *words], words, strict=False):
        forms = {"DELIVERY": "1", "X": "infer" if before == "--role" else "1"}
        yield forms.get(word, word.partition("|")[0])


def _keys(annotation: Any) -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return set(annotation.model_fields)
    return {key for part in get_args(annotation) for key in _keys(part)}
