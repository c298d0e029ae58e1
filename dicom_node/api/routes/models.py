"""One model, for those who answer for it: its card in words, what was decided on it, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from fastapi import APIRouter, Path

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.parts import Parts
from dicom_node.core.errors import NotFound
from dicom_node.core.series.predicates import evaluate
from dicom_node.governance.standing import ModelView
from dicom_node.index.decided.model_decisions import Decision, decisions_on
from dicom_node.inference.cards.card import Gate, ModelCard

#: What a model's folder may hold beside its card: figures of its evaluation, made by whoever trained it.
_FIGURES = "metrics.json"
_MOST_BYTES = 1 << 20
router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))

ModelName = Annotated[str, Path(max_length=64, description="Name of a model.", examples=["cxr-pneumonia"])]


@dataclass(frozen=True, slots=True)
class CardCondition:
    """One condition in words on what a model is given: an attribute of a series, or a limit of the gate."""

    attribute: str
    condition: str


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """One thing that a model looks for, with its code (value, scheme)."""

    label: str
    code: str
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetail:
    """A model as its card has it. `takes` are alternatives, each a list of conditions that must all hold; `gate` are
    the limits that its images are held to; `parameters` the thresholds and others that a route may set otherwise.
    `decisions` are who accepted or activated it, the newest first, with the answers of its golden studies. `figures`
    are those of its evaluation that lie in its folder; `null`: none."""

    model: ModelView
    task: str
    shipped: bool
    takes: Sequence[Sequence[CardCondition]]
    gate: Sequence[CardCondition]
    parameters: Mapping[str, float]
    looks_for: Sequence[ModelFinding]
    decisions: Sequence[Decision]
    figures: Mapping[str, Any] | None


@router.get("/models/{name}", tags=["node"], summary="One model: card, decisions, figures", responses=described(404))
def get_model(parts: Parts, name: ModelName) -> ModelDetail:
    """What the model takes, looks for and must not be given, who let it run, and how well it did."""
    view, card = parts.models().get(name), parts.cards.get(name)
    if view is None or card is None:
        raise NotFound(f"There is no model {name!r}.")
    with parts.database.read() as connection:
        decisions = decisions_on(connection, name)
    return ModelDetail(
        model=view,
        task=card.task,
        shipped=card.is_shipped,
        takes=[_in_words(alternative) for alternative in card.accepts],
        gate=_limits(card.gate),
        parameters=card.parameters,
        looks_for=[_finding(card, number) for number in range(len(card.findings))],
        decisions=decisions,
        figures=_figures(card),
    )


def _in_words(alternative: Mapping[str, object]) -> Sequence[CardCondition]:
    return [CardCondition(clause.attribute, clause.condition) for clause in evaluate(alternative, {})]


def _limits(gate: Gate) -> Sequence[CardCondition]:
    """Return what the card asks for; what it leaves as it is for every model is not told."""
    usual = Gate()
    named = [(one.name, getattr(gate, one.name)) for one in fields(gate)]
    return [CardCondition(name, _value(value)) for name, value in named if value != getattr(usual, name)]


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finding(card: ModelCard, number: int) -> ModelFinding:
    one = card.findings[number]
    site = one.site.meaning if one.site is not None else ""
    return ModelFinding(one.label, f"{one.code.value}, {one.code.scheme}", site)


def _figures(card: ModelCard) -> Mapping[str, Any] | None:
    path = card.folder / _FIGURES
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # it is beside the point whether somebody's file can be read
        return None
    return found if isinstance(found, dict) else None
