"""Where models lie: a folder that cannot be read is told of, and does not keep the others from being used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.inference.cards.card import CARD_NAME, SHIPPED_MODELS, ModelCard, load_card


@dataclass(frozen=True, slots=True)
class Survey:
    """Every model by name, and every folder that holds none that could be used, with the reason."""

    cards: Mapping[str, ModelCard]
    problems: Mapping[Path, str]


def survey_models(extra_dirs: Sequence[Path] = ()) -> Survey:
    """Read every card: the shipped models, then those in `extra_dirs`.

    Of two folders with a model of the same name the first counts: nothing takes the place of a shipped model.
    """
    cards: dict[str, ModelCard] = {}
    problems: dict[Path, str] = {}
    for path in (p for root in (SHIPPED_MODELS, *extra_dirs) for p in sorted(root.glob(f"*/{CARD_NAME}"))):
        try:
            card = load_card(path.parent)
        except (SettingsError, ModelUnavailable) as error:
            problems[path.parent] = str(error)
            continue
        first = cards.setdefault(card.name, card)
        if first.folder != card.folder:
            problems[path.parent] = f"Two models are named {card.name!r}: {first.folder} and {card.folder}. Rename one."
    return Survey(cards, problems)


def find_models(extra_dirs: Sequence[Path] = ()) -> Mapping[str, ModelCard]:
    """Return every model by name. Raises `SettingsError` when a folder holds none that could be used."""
    survey = survey_models(extra_dirs)
    for problem in survey.problems.values():
        raise SettingsError(problem)
    return survey.cards
