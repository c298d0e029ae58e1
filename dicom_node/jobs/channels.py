"""Which series of a study a model that reads several together is given, one for each channel of its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dicom_node.analysis.answer import Declined
from dicom_node.core.entities import Route, Study
from dicom_node.core.series.routing import decide
from dicom_node.inference.cards.card import ModelCard


def channel_series(study: Study, route: Route | None, card: ModelCard, first: str) -> tuple[str, ...]:
    """Return the series of each channel, in the order of the card, as far as the study has them; none for a model that
    reads one series.

    `first` is the series that the route has chosen: it is the first channel, if it meets what that asks for.
    """
    if not card.channels or not first or route is None:
        return ()
    alone = replace(study, series=tuple(one for one in study.series if one.series_instance_uid == first))
    chosen = (
        decide(study if place else alone, route, (one.when,), card.rank).chosen
        for place, one in enumerate(card.channels)
    )
    return tuple(one for one in chosen if one)


def channel_missing(card: ModelCard, channels: Sequence[str]) -> Declined | None:
    """Say that a study lacks a series which the model reads together with others, or has one for two of them."""
    if not card.channels or (len(channels) == len(card.channels) and len(set(channels)) == len(channels)):
        return None
    names = ", ".join(one.key for one in card.channels)
    return Declined("CHANNELS_MISSING", f"The model reads {names}; the study has {len(set(channels))} such series.")
