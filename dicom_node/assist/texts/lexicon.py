"""The word lists by which reports are read: names of findings, and what a language says around them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

_FOLDER = Path(__file__).resolve().parent
LANGUAGES = ("en", "de")
_FILES = ("findings.toml", "words_en.toml", "words_de.toml")
#: All findings at once: `NormalPhrase.absent` of a study that is normal as a whole.
EVERYTHING = "*"


class Cue(StrEnum):
    """What words around a finding make of it."""

    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    HISTORY = "history"
    #: The question of the study, or a condition: nobody says that it is so.
    ASKED = "asked"


class ReportSection(StrEnum):
    """What stands under a heading."""

    FINDINGS = "findings"
    CONCLUSION = "conclusion"
    #: The question, the technique, what it is compared with: nothing that was found.
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFinding:
    """How one finding is named in a language, and what follows from it for others."""

    key: str
    names: re.Pattern[str]
    other_things: re.Pattern[str] | None
    implies: tuple[str, ...]
    suggests: tuple[str, ...]
    rules_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NormalPhrase:
    """Words that say that all is well with something, and which findings are absent then."""

    words: re.Pattern[str]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Everything that is known of one language. `cues` finds words of a class, the longest first."""

    name: str
    common: re.Pattern[str]
    short: Sequence[tuple[re.Pattern[str], str]]
    before: Mapping[Cue, re.Pattern[str]]
    after: Mapping[Cue, re.Pattern[str]]
    no_cue: re.Pattern[str]
    ends: re.Pattern[str]
    normal: Sequence[NormalPhrase]
    sections: Mapping[ReportSection, re.Pattern[str]]
    findings: Sequence[NamedFinding]


@cache
def language(name: str) -> Language:
    """Return what is known of a language of `LANGUAGES`."""
    words = _table(f"words_{name}.toml")
    around = words["around"]
    return Language(
        name=name,
        common=_any(words["common"]),
        short=[(re.compile(pattern), meant) for pattern, meant in words["short"].items()],
        before={cue: _any(words["before"][cue]) for cue in Cue},
        after={cue: _any(words["after"][cue]) for cue in Cue},
        no_cue=_any(around["none"]),
        ends=_any([*around["ends"], ";"]),
        normal=[NormalPhrase(_any([pattern]), tuple(absent)) for pattern, absent in words["normal"].items()],
        sections={one: re.compile(rf"(?:{'|'.join(words['sections'][one])})(?= ?(?::|$))") for one in ReportSection},
        findings=[_finding(key, told, name) for key, told in _table("findings.toml").items()],
    )  # fmt: skip


@cache
def rules_digest() -> str:
    """Return which state of the word lists this is: the beginning of the sha256 over their files."""
    return hashlib.sha256(b"\0".join((_FOLDER / name).read_bytes() for name in _FILES)).hexdigest()[:12]


def finding_keys() -> Sequence[str]:
    """Return the findings that are looked for, by the keys of the terminology's table."""
    return tuple(_table("findings.toml"))


@cache
def _table(name: str) -> Mapping[str, Any]:
    return MappingProxyType(tomllib.loads((_FOLDER / name).read_text("utf-8")))


def _finding(key: str, told: Mapping[str, Sequence[str]], name: str) -> NamedFinding:
    others = told.get(f"not_{name}", ())
    return NamedFinding(
        key=key,
        names=_any(told[name]),
        other_things=_any(others) if others else None,
        **{which: tuple(told.get(which, ())) for which in ("implies", "suggests", "rules_out")},
    )


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return what finds any of these as whole words; of two that begin at one place the longer is tried first."""
    ordered = sorted(patterns, key=len, reverse=True)
    return re.compile(rf"(?:(?<!\w)|(?=\W))(?:{'|'.join(ordered)})(?:(?!\w)|(?<=\W))")
