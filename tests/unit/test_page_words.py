"""The page says everything from one file, strings.js: no words elsewhere, none unused, none missing.

Words are found by how they look, not by what they mean: a capitalised word, two words after each other, or any word
that is put into an element. A single small word elsewhere ("name") cannot be told from a name in the code, and passes.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dicom_node.api.page_files import WORDS
from dicom_node.config.incoming import ApiSettings
from tests.support.needs import REPOSITORY
from tests.support.page_words import said_by, strings_of

_PAGE = REPOSITORY / "dicom_node" / "api" / "page"
_WORDS = _PAGE / "strings.js"
#: Other languages, where there are any.
_LANGUAGES = sorted(_PAGE.glob("strings_*.js"))
_MODULES = sorted(path for path in _PAGE.rglob("*.js") if path not in [_WORDS, *_LANGUAGES])
_DOCUMENTS = sorted(_PAGE.glob("*.html"))

_WORD = r"(?<![\w/.#$=-])[A-Za-z]{2,}(?![\w/=-])"
_TWO_WORDS = re.compile(rf"{_WORD}[,;:.!?)]* +{_WORD}")
_CAPITALISED = re.compile(r"(?<![\w/.#$-])[A-Z][a-z]+(?![\w-])")

#: Before a literal that is for the machine: a class, a selector, a key of the keyboard that was pressed.
_FOR_THE_MACHINE = re.compile(
    r"(class: [^,{}]*|\.(querySelector(All)?|closest)\(|event\.key (=|!)== )$|input\w*, (select\w*, )?$"
)
#: Before a literal that is the child of an element: el("b", {}, "…"), or a later one.
_CHILD_OF_AN_ELEMENT = re.compile(r"\bel\(\"\w+\", \{[^{}]*\},\s*(\"[^\"]*\",\s*)*$")

#: Literals that look like words and are none, with the reason.
_NO_WORDS = {
    "form input": "a selector",
    "form input, form select": "a selector",
    " -X …": "a command line",
    ' -H "Authorization: Bearer $TOKEN"': "a command line",
    " \\\n     -H 'Content-Type: application/json' -d '…'": "a command line",
    "600 13px system-ui, sans-serif": "a font",
}


@dataclass(frozen=True)
class _Literal:
    """A string or template literal: what it says (… for each value in it), and the code before it."""

    text: str
    before: str
    line: int


def _literals(code: str) -> list[_Literal]:
    """Return every literal of a module; what stands in the values of a template is read as code again."""
    found: list[_Literal] = []
    at = 0
    while at < len(code):
        if code.startswith("//", at):
            at = _after(code, "\n", at)
        elif code.startswith("/*", at):
            at = _after(code, "*/", at + 2)
        elif code[at] in "\"'`":
            begin = at
            text, inner, at = _literal(code, at)
            found.append(_Literal(text, code[max(0, begin - 200) : begin], code.count("\n", 0, begin) + 1))
            found.extend(one for value in inner for one in _literals(value))
        elif code[at] == "/" and re.search(r"([(,=:\[!&|?{};]|return)\s*$", code[max(0, at - 12) : at]):
            expression = re.compile(r"/(\\.|\[(\\.|[^\]])*\]|[^/\\\[\n])+/").match(code, at)
            at = expression.end() if expression else at + 1
        else:
            at += 1
    return found


def _after(code: str, end: str, at: int) -> int:
    place = code.find(end, at)
    return len(code) if place < 0 else place + len(end)


def _literal(code: str, at: int) -> tuple[str, list[str], int]:
    """Return what a literal says, the code of its values, and where it has ended."""
    quote, text, inner = code[at], "", []
    at += 1
    while code[at] != quote:
        if code[at] == "\\":
            text += {"n": "\n", "\\": "\\"}.get(code[at + 1], code[at + 1])
            at += 2
        elif quote == "`" and code.startswith("${", at):
            end = _end_of_value(code, at + 2)
            inner.append(code[at + 2 : end])
            text += "…"
            at = end + 1
        else:
            text += code[at]
            at += 1
    return text, inner, at + 1


def _end_of_value(code: str, at: int) -> int:
    depth = 0
    while depth or code[at] != "}":
        if code[at] in "\"'`":
            at = _literal(code, at)[2]
            continue
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        at += 1
    return at


def _is_for_people(one: _Literal) -> bool:
    if one.text in _NO_WORDS or _FOR_THE_MACHINE.search(one.before):
        return False
    if _CHILD_OF_AN_ELEMENT.search(one.before) and re.search("[A-Za-z]", one.text.replace("…", "")):
        return True
    return bool(_TWO_WORDS.search(one.text) or _CAPITALISED.search(one.text))


def _told(code: str) -> list[str]:
    return [one.text for one in _literals(code) if _is_for_people(one)]


@pytest.mark.parametrize("module", _MODULES, ids=lambda path: path.name)
def test_a_module_holds_no_words_for_people_of_its_own(module: Path) -> None:
    code = module.read_text(encoding="utf-8")
    assert [f"line {one.line}: {one.text}" for one in _literals(code) if _is_for_people(one)] == []


@pytest.mark.parametrize(
    "code",
    [
        'say({ message: "Nothing waits." })',
        'tile("Parked", 1)',
        "const hint = `${number} objects sent`;",
        'el("b", {}, "chosen")',
        'el("b", { class: "yes" }, "chosen")',
        "el('p', {}, `of ${count(1, 'Study')}`)",
        'const pattern = /"/g; say("Not known")',
    ],
)
def test_words_in_a_module_would_be_found(code: str) -> None:
    assert _told(code)


@pytest.mark.parametrize(
    "code",
    [
        'el("li", { class: "card result" })',
        'place.querySelector("#query input[type=date]")',
        'if (event.key === "Escape") leave();',
        'fetch(path, { headers: { "Content-Type": "application/json" } })',
        "get(`/api/v1/studies/${uid}`); // Ask for everything at once",
    ],
)
def test_what_is_for_the_machine_is_not_taken_for_words(code: str) -> None:
    assert _told(code) == []


def test_what_is_excepted_is_there() -> None:
    there = {one.text for module in _MODULES for one in _literals(module.read_text(encoding="utf-8"))}
    assert set(_NO_WORDS) <= there


# --- the HTML


class _Document(HTMLParser):
    """The words that stand in an HTML file, and the keys of those that it asks for."""

    #: What is read without scripts: the title before they run, and what is said where they do not.
    KEPT = ("title", "noscript", "code")
    SAID = ("aria-label", "placeholder", "title", "alt")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.keys: set[str] = set()
        self._kept: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.keys |= {value for name, value in attrs if name.startswith("data-say") and value}
        self.words += [value for name, value in attrs if name in self.SAID and value]
        self._kept += [tag] if tag in self.KEPT else []

    def handle_endtag(self, tag: str) -> None:
        if tag in self.KEPT:
            self._kept.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._kept and re.search("[A-Za-z]", data):
            self.words.append(data.strip())


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_an_html_file_holds_no_words_of_its_own(document: Path) -> None:
    assert [words for words in _Document(document).words if words != "openapi.json"] == []


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_the_title_before_the_scripts_run_is_the_one_after(document: Path, strings: dict[str, Any]) -> None:
    key, title = re.search(r'<title data-say="(.+?)">(.+?)</title>', document.read_text(encoding="utf-8")).groups()  # type: ignore[union-attr]
    group, name = key.split(".")
    assert strings[group][name] == title


# --- the keys


@pytest.fixture(scope="module")
def strings() -> dict[str, Any]:
    """The English words."""
    return strings_of(_WORDS.read_text(encoding="utf-8"))


def _leaves(tree: dict[str, Any], way: str = "") -> list[str]:
    """Every key of words, with its way; a list is one."""
    return [
        leaf
        for key, value in tree.items()
        for leaf in (_leaves(value, f"{way}{key}.") if isinstance(value, dict) else [f"{way}{key}"])
    ]


def _asked(code: str) -> set[str]:
    """Return the ways that a module goes into STRINGS, by itself or by a name that stands for a part of it."""
    parts = dict(re.findall(r"const (\w+) = STRINGS((?:\.\w+)+);", code))
    bare = re.sub(r"const \w+ = STRINGS(\.\w+)+;|^import .*$", "", code, flags=re.MULTILINE)
    names = "|".join(["STRINGS", *parts])
    used = re.findall(rf"(?<!\w)(?<![\w)\]?]\.)({names})((?:\.\w+)*)", bare)
    return {(parts.get(name, "") + way).lstrip(".") for name, way in used} - {""}


def _key_of(way: str, strings: dict[str, Any]) -> str | None:
    """Return the key that a way leads to; what follows words is of the language (`.map`). `None`: it leads nowhere."""
    place: Any = strings
    gone: list[str] = []
    for step in way.split("."):
        if not isinstance(place, dict):
            break
        if step not in place:
            return None
        place = place[step]
        gone.append(step)
    return ".".join(gone)


@pytest.fixture(scope="module")
def ways() -> dict[str, set[str]]:
    """What each file asks for, strings.js among them: some words are made of others."""
    asked = {path.name: _asked(path.read_text(encoding="utf-8")) for path in [*_MODULES, _WORDS]}
    return asked | {path.name: _Document(path).keys for path in _DOCUMENTS}


def test_all_words_that_are_asked_for_are_there(strings: dict[str, Any], ways: dict[str, set[str]]) -> None:
    missing = {name: sorted(way for way in of if _key_of(way, strings) is None) for name, of in ways.items()}
    assert {name: of for name, of in missing.items() if of} == {}


def test_all_words_are_used(strings: dict[str, Any], ways: dict[str, set[str]]) -> None:
    used = {key for of in ways.values() for way in of if (key := _key_of(way, strings))}
    unused = [leaf for leaf in _leaves(strings) if not any(f"{leaf}.".startswith(f"{key}.") for key in used)]
    assert unused == []


def test_what_is_suspended_and_resumed_is_asked_for_with_the_same_keys(strings: dict[str, Any]) -> None:
    asked = set(re.findall(r"\basks\.(\w+)", (_PAGE / "destinations.js").read_text(encoding="utf-8")))
    assert set(strings["destinations"]["standing"]) == set(strings["rules"]["standing"]) == asked


def test_the_page_says_which_language_it_speaks(strings: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]{2,4})?", strings["language"])


def _differing(words: dict[str, Any], english: dict[str, Any]) -> set[str]:
    """Return the keys that only one of two languages has."""
    return set(_leaves(words)) ^ set(_leaves(english))


def test_every_language_has_the_keys_of_english_and_one_that_lacks_some_is_found(strings: dict[str, Any]) -> None:
    assert _LANGUAGES
    for language in _LANGUAGES:
        assert _differing(strings_of(language.read_text(encoding="utf-8")), strings) == set(), language.name
    lacking = _WORDS.read_text(encoding="utf-8").replace('    skip: "Skip to the worklist",\n', "")
    assert _differing(strings_of(lacking), strings) == {"page.skip"}


@pytest.mark.parametrize("language", _LANGUAGES, ids=lambda path: path.name)
def test_words_of_every_language_take_and_say_the_values_that_english_ones_do(language: Path) -> None:
    english, other = (said_by(path.read_text(encoding="utf-8")) for path in (_WORDS, language))
    assert other.keys() == english.keys()  # lists are as long, too
    marks = re.compile("⟦\\d⟧")
    differing = {
        way
        for way, (arity, text) in english.items()
        if (arity, set(marks.findall(text or ""))) != (other[way][0], set(marks.findall(other[way][1] or "")))
    }
    assert differing == set()


def test_every_file_of_words_is_a_language_that_the_node_offers_and_each_says_which(strings: dict[str, Any]) -> None:
    told = {path.name: strings_of(path.read_text(encoding="utf-8"))["language"] for path in [_WORDS, *_LANGUAGES]}
    assert {name: language for language, name in WORDS.items()} == told
    offered = typing.get_args(ApiSettings.model_fields["language"].annotation)
    assert set(offered) == set(WORDS)
