"""Typed reading of one TOML table of a model card; every refusal names the file and the key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from dicom_node.core.errors import SettingsError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CardFields:
    """One table of the card at `path`; `prefix` is where it hangs (``finding[0].code.``)."""

    path: Path
    values: Mapping[str, Any]
    prefix: str = ""

    @property
    def present(self) -> bool:
        return bool(self.values)

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise `SettingsError`: the key and what is wrong with it."""
        raise SettingsError(f"{self.path}: {self.prefix}{key} {problem}. Correct the model card.")

    def text(self, key: str) -> str:
        """Return a text that must be there and must not be empty."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            self.refuse(key, "must be a text and must not be missing or empty")
        return value

    def optional_text(self, key: str) -> str:
        """Return a text that may be missing, then empty."""
        return self.text(key) if key in self.values else ""

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Return one of the allowed texts; `default` where the key is absent."""
        if default is not None and key not in self.values:
            return default
        value = self.text(key)
        if value not in allowed:
            self.refuse(key, f"is {value!r}; known are {', '.join(allowed)}")
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "must be true or false")
        return value

    def number(self, key: str, default: float | None) -> float | None:
        value = self.values.get(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.refuse(key, "must be a number")
        return value

    def whole(self, key: str, default: int) -> int:
        """Return a whole number above 0."""
        value = self.number(key, default)
        if value is None or value != int(value) or value < 1:
            self.refuse(key, "must be a whole number above 0")
        return int(value)

    def floats(self, key: str, lengths: Sequence[int] = ()) -> tuple[float, ...]:
        """Return a list of numbers, empty when missing; of one of `lengths` where these are given."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in value):
            self.refuse(key, "must be a list of numbers")
        if lengths and len(value) not in lengths:
            self.refuse(key, f"must hold {max(lengths)} numbers")
        return tuple(float(x) for x in value)

    def pair(self, key: str) -> tuple[float, float] | None:
        """Return two numbers, the lower first; `None` when missing."""
        if key not in self.values:
            return None
        low, high = self.floats(key, (2,))
        if low >= high:
            self.refuse(key, "must be two numbers, the lower first")
        return low, high

    def numbers(self) -> dict[str, float]:
        """Return the whole table, every value a number."""
        for key, value in self.values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.refuse(key, "must be a number")
        return {key: float(value) for key, value in self.values.items()}

    def texts_but(self, *others: str) -> dict[str, str]:
        """Return the table without the keys `others`, every value a text."""
        return {key: self.text(key) for key in self.values if key not in others}

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.refuse(key, "must be a list of texts")
        return tuple(value)

    def digest(self, key: str) -> str:
        """Return a sha256; an empty one is a model whose weights are not there yet."""
        value = self.values.get(key)
        if not isinstance(value, str) or (value and _SHA256.fullmatch(value) is None):
            self.refuse(key, "must be 64 lower-case hexadecimal digits")
        return value

    def table(self, key: str) -> CardFields:
        """Return a table below this one; an absent one is empty."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, "must be a table")
        return CardFields(self.path, value, f"{self.prefix}{key}.")

    def tables(self, key: str) -> tuple[Mapping[str, object], ...]:
        """Return a list of tables as they are."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.refuse(key, "must be a list of tables")
        return tuple(value)

    def subtables(self, key: str) -> tuple[CardFields, ...]:
        """Return a list of tables for typed reading."""
        return tuple(
            CardFields(self.path, dict(one), f"{self.prefix}{key}[{index}].")
            for index, one in enumerate(self.tables(key))
        )

    def inside(self, name: str) -> str:
        """Check that a file name stays inside the model folder."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            self.refuse("file", "must lie inside the model folder")
        return name
