"""Golden studies of a model: studies with known answers, as files of its folder ``golden/*.toml``.

A study is a phantom made in code or a folder of DICOM files beside the file; what is expected are states, presences
and numbers with tolerances::

    name = "whole lungs"
    [study]
    phantom = "chest-ct"
    [study.arguments]
    slices = 32
    [expect]
    state = "DONE"
    [[expect.finding]]
    key = "lungs"
    [[expect.finding.measurement]]
    label = "Volume"
    value = 5000
    tolerance = 100
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.fields import CardFields
from dicom_node.model import JobState, Presence

_STATES = (JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE)


@dataclass(frozen=True, slots=True)
class Expected:
    """A number and how far from it the answer may be."""

    value: float
    tolerance: float

    def holds(self, value: float) -> bool:
        return abs(value - self.value) <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFinding:
    """What must be said of one finding; what is `None` or not listed is not looked at."""

    key: str
    presence: Presence | None
    probability: Expected | None
    measurements: Mapping[str, Expected]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One study with its answer. Either `phantom`, made with `arguments`, or `folder` is its input."""

    name: str
    file: str
    phantom: str
    arguments: Mapping[str, object]
    folder: Path | None
    parameters: Mapping[str, float]
    state: JobState
    reason: str
    findings: Sequence[ExpectedFinding]


def load_cases(card: ModelCard) -> Sequence[GoldenCase]:
    """Read every golden study of a model, by name of file. Raises `SettingsError` naming file and key."""
    return [_case(card, path) for path in sorted((card.folder / "golden").glob("*.toml"))]


def _case(card: ModelCard, path: Path) -> GoldenCase:
    try:
        fields = CardFields(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    study, expect = fields.table("study"), fields.table("expect")
    named = [key for key in ("phantom", "folder") if key in study.values]
    if len(named) != 1:
        study.refuse("phantom", "or folder must say what the study is, one of them")
    folder = card.folder / "golden" / study.inside(study.text("folder")) if named == ["folder"] else None
    if folder is not None and not folder.is_dir():
        study.refuse("folder", "does not exist")
    parameters = fields.table("parameters").numbers()
    card.effective_parameters(parameters)
    return GoldenCase(
        name=fields.text("name"),
        file=path.name,
        phantom=study.text("phantom") if folder is None else "",
        arguments=study.table("arguments").values,
        folder=folder,
        parameters=parameters,
        state=JobState(expect.choice("state", [state.value for state in _STATES])),
        reason=expect.text("reason") if "reason" in expect.values else "",
        findings=[_finding(one, card) for one in expect.subtables("finding")],
    )


def _finding(fields: CardFields, card: ModelCard) -> ExpectedFinding:
    key = fields.text("key")
    known = [finding.key for finding in card.findings]
    if known and key not in known:
        fields.refuse("key", f"is {key!r}, which the card does not name; it names {', '.join(known)}")
    return ExpectedFinding(
        key=key,
        presence=Presence(fields.choice("presence", list(Presence))) if "presence" in fields.values else None,
        probability=_expected(fields.table("probability")) if "probability" in fields.values else None,
        measurements={one.text("label"): _expected(one) for one in fields.subtables("measurement")},
    )


def _expected(fields: CardFields) -> Expected:
    value, tolerance = fields.number("value", None), fields.number("tolerance", None)
    if value is None or tolerance is None or tolerance < 0:
        fields.refuse("value", "and tolerance must be numbers, the tolerance not negative")
    return Expected(float(value), float(tolerance))
