"""On which line of a TOML text each key stands; `tomllib` does not tell. The text must be valid (TOML 1.0)."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count

#: The way to a value: keys, and places in lists counted from 0.
KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r""""{3}(?:[^\\]|\\.)*?"{3,5}(?!")|\'{3}.*?\'{3,5}(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'""", re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\n]+")


def line_numbers(text: str) -> Mapping[KeyPath, int]:
    """Return the line, counted from 1, of every table, key and element; of a table that of its first header or key."""
    return _Scanner(text).scan()


class _Scanner:
    """Walks over the text once; `_at` is where it is."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._tables: Counter[KeyPath] = Counter()

    def scan(self) -> Mapping[KeyPath, int]:
        table: KeyPath = ()
        while not self._is_at_the_end():
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _is_at_the_end(self) -> bool:
        self._skip(_BLANK)
        return self._at >= len(self._text)

    def _header(self) -> KeyPath:
        """Read ``[table]`` or ``[[table]]``; a name that was an array of tables means the last of them."""
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        path: KeyPath = ()
        *parents, last = self._keys()
        for key in parents:
            self._note((*path, key))
            path = self._current((*path, key))
        path = (*path, last)
        if brackets == 2:
            self._note(path)
            self._tables[path] += 1
        path = self._current(path)
        self._note(path)
        self._at = self._text.index("]" * brackets, self._at) + brackets
        return path

    def _current(self, path: KeyPath) -> KeyPath:
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _pair(self, table: KeyPath) -> None:
        """Read ``key = value``, where the key may be dotted."""
        path = table
        start = self._at
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _keys(self) -> Iterator[str]:
        """Yield the parts of a dotted key; parts may be in quotes."""
        while True:
            self._skip(_BLANK)
            found = self._skip(_KEY)
            yield next(iter(tomllib.loads(f"{found} = 0"))) if found[0] in "\"'" else found
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        match self._text[self._at]:
            case "{":
                self._members("}", lambda _: self._pair(path))
            case "[":
                self._members("]", lambda place: self._element((*path, place)))
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_BARE)

    def _element(self, path: KeyPath) -> None:
        self._note(path)
        self._value(path)

    def _members(self, end: str, read: Callable[[int], None]) -> None:
        """Read what stands between brackets, with commas between."""
        self._at += 1
        for place in count():
            self._skip(_BLANK)
            if self._text[self._at] == end:
                break
            read(place)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _note(self, path: KeyPath, at: int | None = None) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, self._at if at is None else at) + 1)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"this is not TOML: {self._text[self._at : self._at + 20]!r}")
        self._at = found.end()
        return found[0]
