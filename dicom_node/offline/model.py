"""Which model a run is for: one that the node knows by name, if it may run, or a folder, verified first."""

from __future__ import annotations

from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.core.errors import ModelUnavailable, NotFound
from dicom_node.governance.admission import Standing
from dicom_node.governance.standing import standing_so_far
from dicom_node.governance.verify import verify_folder
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.cards.folders import survey_models


def chosen_model(model: str, settings: Settings) -> ModelCard:
    """Return the card of a model. Raises `NotFound`, or `ModelUnavailable` for one that must not or cannot run.

    A name goes before a folder of that name; ``./NAME`` is the folder. Who names a folder vouches for its code, as far
    as that is not confined; a model that was added runs by what was decided on it.
    """
    cards = survey_models(settings.models_dirs).cards
    if model in cards:
        found = standing_so_far(cards[model], settings)
        if found.standing is not Standing.LIVE:
            raise ModelUnavailable(f"{model} is not run: {found.text}")
        return cards[model]
    folder = Path(model)
    if not folder.is_dir():
        raise NotFound(f"There is no model or folder {model}; there are the models: {', '.join(sorted(cards))}.")
    wrong = [f"{one.name}: {one.text}" for one in verify_folder(folder, settings.inference.confine) if not one.ok]
    if wrong:
        raise ModelUnavailable(f"The model in {folder} is not run. {' '.join(wrong)}")
    return load_card(folder.resolve())
