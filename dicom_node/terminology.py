"""The coded words of the node: reviewed tables in `config/terminology`, read once, shared by SR, SEG and FHIR.

A table maps a key to a code, where that code was checked, what other systems call the same, and for places in the
body the values of BodyPartExamined (PS3.16 Annex L) that mean it. docs/terminology.md shows them all.
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
    body_part_examined: tuple[str, ...] = ()


@cache
def table(name: str) -> Mapping[str, Term]:
    """Return one of `TABLES`, in the order of its file."""
    with (FOLDER / f"{name}.toml").open("rb") as file:
        entries = tomllib.load(file)
    return MappingProxyType({key: _term(key, entry) for key, entry in entries.items()})


def term_code(name: str, key: str) -> Code:
    """Return the code under `key` of the table `name`. Raises `KeyError` for a key it lacks."""
    return table(name)[key].code


@cache
def place_of_body_part(body_part_examined: str) -> Code | None:
    """Return the place that a value of BodyPartExamined names, `None` for a value no table knows."""
    for term in table("anatomy").values():
        if body_part_examined in term.body_part_examined:
            return term.code
    return None


def _term(key: str, entry: Mapping[str, object]) -> Term:
    equivalents = entry.get("equivalents", [])
    parts = entry.get("body_part_examined", [])
    assert isinstance(equivalents, list)
    assert isinstance(parts, list)
    return Term(
        key=key,
        code=_code(entry),
        reviewed=str(entry["reviewed"]),
        equivalents=tuple(_code(one) for one in equivalents),
        body_part_examined=tuple(str(one) for one in parts),
    )


def _code(entry: Mapping[str, object]) -> Code:
    return Code(str(entry["value"]), str(entry["scheme"]), str(entry["meaning"]))
