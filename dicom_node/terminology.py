"""The coded words of the node: reviewed tables in `config/terminology`, read once, shared by SR, SEG and FHIR.

A table maps a key to a code, where that code was checked, and what other systems call the same. docs/terminology.md
shows them all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from dicom_node.model import Code

FOLDER = Path(__file__).resolve().parent / "config" / "terminology"
TABLES = ("findings", "anatomy", "measurements", "units", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One entry; `reviewed` says where value and meaning were checked, and is honest where they were not."""

    key: str
    code: Code
    reviewed: str
    equivalents: tuple[Code, ...] = ()


@cache
def table(name: str) -> Mapping[str, Term]:
    """Return one of `TABLES`, in the order of its file."""
    with (FOLDER / f"{name}.toml").open("rb") as file:
        entries = tomllib.load(file)
    return MappingProxyType({key: _term(key, entry) for key, entry in entries.items()})


def term_code(name: str, key: str) -> Code:
    """Return the code under `key` of the table `name`. Raises `KeyError` for a key it lacks."""
    return table(name)[key].code


def _term(key: str, entry: Mapping[str, object]) -> Term:
    equivalents = entry.get("equivalents", [])
    assert isinstance(equivalents, list)
    return Term(
        key=key,
        code=_code(entry),
        reviewed=str(entry["reviewed"]),
        equivalents=tuple(_code(one) for one in equivalents),
    )


def _code(entry: Mapping[str, object]) -> Code:
    return Code(str(entry["value"]), str(entry["scheme"]), str(entry["meaning"]))
