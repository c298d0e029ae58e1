"""Coined words are explained in docs/glossary.md, words there are used, and words that were given up stay out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.needs import REPOSITORY
from tests.support.source_code import PRODUCT, modules_of, nodes_of
from tools.generated_docs import DOCS

#: Words of this project, or used here in a narrower sense than elsewhere; a new one brings its line in the glossary.
COINED = (
    "acceptor", "acceptance", "activation", "analysis", "artifact", "claim", "complete", "delivery", "delivery batch",
    "destination", "event", "evidence", "fence", "finding", "gate", "golden study", "job", "journal", "lease",
    "model card", "not analysed", "order", "outbox", "output set", "parked", "preset", "proof", "quarantine",
    "quiet period", "retrieval", "revision", "room", "route", "settled", "shadow", "sidecar", "slot", "spool",
    "suspended", "sweep", "timeline", "worker process",
)  # fmt: skip
#: Given up: in the code, no name of anything holds such a word any more, alone or beside others.
GIVEN_UP = ("parcel", "mailing", "strike", "settler", "analyst", "tell_again", "known_peer")
#: Given up as the name of a class or a module; as a plain word it may be right.
GIVEN_UP_AS_A_THING = ("shop", "carrier", "hurry", "reception", "fitting", "visitor", "manager", "helper", "util")

_ENTRY = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def entries() -> dict[str, str]:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    found = {word.strip(): meaning.strip() for word, meaning in _ENTRY.findall(page)}
    return {one.strip(): meaning for words, meaning in found.items() if words != "word" for one in words.split(",")}


def sources() -> Iterator[Path]:
    yield from modules_of(*PRODUCT, "tools", "benchmarks")


def words(identifier: str) -> str:
    """Return a name as its words in lower case: `tellAgain`, `_tell_again` and "tell again" are "tell_again"."""
    return "_".join(part.lower() for part in _PART.findall(identifier))


def names_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name


@cache
def identifiers() -> dict[str, set[str]]:
    """Every name in the code as its words, with the files it is in."""
    found: dict[str, set[str]] = {}
    for path in sources():
        where = str(path.relative_to(REPOSITORY))
        for name in (path.stem, *names_in(nodes_of(path))):
            found.setdefault(words(name), set()).add(where)
    return found


@cache
def things() -> dict[str, str]:
    """Every class and module as its words, with its file."""
    found = {}
    for path in sources():
        where = str(path.relative_to(REPOSITORY))
        classes = [node.name for node in nodes_of(path) if isinstance(node, ast.ClassDef)]
        found |= {words(name): where for name in (path.stem, *classes)}
    return found


def holds(word: str, within: str) -> bool:
    return re.search(rf"(?:^|_){word}s?(?:_|$)", within) is not None


@cache
def everything_written() -> str:
    """The documentation without the glossary, and the code, as one lower-case text with blanks for underscores."""
    pages = [path for path in [*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")] if path.name != "glossary.md"]
    return "\n".join(path.read_text(encoding="utf-8") for path in [*pages, *sources()]).lower().replace("_", " ")


@pytest.mark.parametrize("word", COINED)
def test_a_coined_word_is_explained(word: str) -> None:
    assert word in entries()


@pytest.mark.parametrize("word", list(entries()))
def test_an_explained_word_is_used(word: str) -> None:
    plain, name = re.escape(word.lower()), words(word)

    in_text = re.search(rf"(?<![a-z]){plain}(?:s|es|ed)?(?![a-z])", everything_written())
    assert in_text or any(holds(name, identifier) for identifier in identifiers())


def test_the_glossary_is_in_order_and_says_everything_once() -> None:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    heads = [word.strip().lower() for word, _ in _ENTRY.findall(page)][1:]

    assert heads == sorted(heads)
    assert len(heads) == len(set(heads))


@pytest.mark.parametrize("word", GIVEN_UP)
def test_a_word_that_was_given_up_names_nothing(word: str) -> None:
    assert {name: files for name, files in identifiers().items() if holds(word, name)} == {}


@pytest.mark.parametrize("word", GIVEN_UP_AS_A_THING)
def test_no_class_or_module_bears_a_name_that_was_given_up(word: str) -> None:
    assert {name: file for name, file in things().items() if holds(word, name)} == {}


def test_a_word_is_found_however_it_is_written() -> None:
    assert holds("tell_again", words("_tellAgain"))
    assert holds("parcel", words("SentParcels"))
    assert not holds("strike", words("striker"))
