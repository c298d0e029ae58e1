"""The models: every card can be read, every route finds its model, and that model may run."""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.config.running import RouteSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.doctor.check import Check
from dicom_node.governance.admission import Standing
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models

_NOT_RUN = "Until then its studies are not analysed."


def check_models(settings: Settings) -> list[Check]:
    """One check per route and one per folder that cannot be used: their studies would end as not analysed."""
    survey = survey_models(settings.models_dirs)
    broken = [Check(f"model folder {folder.name}", False, problem, "Correct or remove it; it is passed over.")
              for folder, problem in survey.problems.items()]  # fmt: skip
    if not settings.route:
        return [*broken, Check("models", False, "no [[route]] is configured", "Add a route, or nothing is analysed.")]
    return [*broken, *(_check_route(route, survey.cards, settings) for route in settings.route)]


def _check_route(route: RouteSettings, cards: Mapping[str, ModelCard], settings: Settings) -> Check:
    name = f"route {route.name}"
    card = cards.get(route.model)
    if card is None:
        known = ", ".join(sorted(cards)) or "none"
        return Check(name, False, f"there is no model {route.model}; there are: {known}", "Correct [[route]] model.")
    try:
        identity = card.identity(route.parameters)
    except (SettingsError, ModelUnavailable) as error:
        return Check(name, False, str(error), _NOT_RUN)
    standing = standing_so_far(card, settings)
    if standing.standing is not Standing.LIVE:
        return Check(name, False, f"{standing.standing}: {standing.text}", _NOT_RUN)
    return Check(name, True, f"{identity.name} {identity.version}, digest {identity.digest[:12]}")
