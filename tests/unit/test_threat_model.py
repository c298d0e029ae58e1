"""SECURITY.md names for each threat the tests that try it: they exist, and no threat is without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.needs import REPOSITORY

_DOOR = re.compile(r"^#### (.+?)$\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_DEFINED = re.compile(r"^(?:    )?(?:async )?def (test_\w+)", re.MULTILINE)


def threats() -> Iterator[tuple[str, list[str]]]:
    """Each row of the doors' tables: its door and threat, and its cells."""
    page = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    for door, body in _DOOR.findall(page):
        rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
        for row in rows:
            if row[0] != "threat" and row[-1] != "tried by":
                yield f"{door}: {row[1]}", row


@cache
def defined() -> frozenset[str]:
    files = (REPOSITORY / "tests").rglob("test_*.py")
    return frozenset(name for file in files for name in _DEFINED.findall(file.read_text(encoding="utf-8")))


THREATS = dict(threats())


@pytest.mark.parametrize("threat", THREATS)
def test_what_tries_a_threat_exists(threat: str) -> None:
    letters, _, countered, tried = THREATS[threat]
    named = re.findall(r"`(test_\w+)`", tried)

    assert set(letters.split()) <= set("STRIDE")
    assert countered.strip()
    assert named
    assert [name for name in named if name not in defined()] == []


def test_every_door_has_threats() -> None:
    assert len(THREATS) > 30
    assert len({threat.partition(":")[0] for threat in THREATS}) == 7
