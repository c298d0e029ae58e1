"""The models: every card can be read, its weights are those it names, and every route finds its model."""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.config.settings import RouteSettings, Settings
from dicom_node.doctor.check import Check
from dicom_node.errors import ModelUnavailable, SettingsError
from dicom_node.inference.cards import ModelCard, find_models


def check_models(settings: Settings) -> list[Check]:
    """One check per route: with a broken model its studies would end as not analysed."""
    try:
        cards = find_models(settings.inference.models_dirs)
    except (SettingsError, ModelUnavailable) as error:
        return [Check("models", False, str(error), "Correct or remove that model folder; none can be used until then.")]
    if not settings.route:
        return [Check("models", False, "no [[route]] is configured", "Add a route, or nothing is ever analysed.")]
    return [_check_route(route, cards) for route in settings.route]


def _check_route(route: RouteSettings, cards: Mapping[str, ModelCard]) -> Check:
    name = f"route {route.name}"
    card = cards.get(route.model)
    if card is None:
        known = ", ".join(sorted(cards)) or "none"
        return Check(name, False, f"there is no model {route.model}; there are: {known}", "Correct [[route]] model.")
    try:
        identity = card.identity(route.parameters)
    except (SettingsError, ModelUnavailable) as error:
        return Check(name, False, str(error), "Until then its studies are not analysed.")
    return Check(name, True, f"{identity.name} {identity.version}, digest {identity.digest[:12]}")
