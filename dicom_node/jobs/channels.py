"""Which series of a study a model that reads several together is given, one for each channel of its card, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from dicom_node.analysis.answer import Declined
from dicom_node.core.entities import Route, Study
from dicom_node.core.series.routing import Candidate, RouteDecision, decide, shortfall
from dicom_node.inference.cards.card import ModelCard


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """What one channel is given: a Series Instance UID, or nothing. Candidates stand in order of choice; in their
    clauses `model` asks for what the channel does."""

    key: str
    chosen: str | None
    reason: str
    candidates: tuple[Candidate, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the choice as JSON-ready data."""
        return asdict(self)


def channel_choices(study: Study, route: Route, card: ModelCard, first: str) -> tuple[ChannelChoice, ...]:
    """Return what each channel of the card is given, in its order; none for a model that reads one series.

    `first` is the series that the route has chosen: it is the first channel, if it meets what that asks for. Without
    one nothing is analysed; what the others would be given is told all the same.
    """
    choices: list[ChannelChoice] = []
    for place, (key, decision) in enumerate(_decisions(study, route, card, first)):
        same = next((one.key for one in choices if decision.chosen and one.chosen == decision.chosen), "")
        reason = _reason(decision, "" if place else first) if place or first else "The route has chosen no series."
        told = f"{reason} Channel {same} has it, too, and one series cannot be both." if same else reason
        choices.append(ChannelChoice(key, decision.chosen, told, decision.candidates))
    return tuple(choices)


def channel_series(study: Study, route: Route | None, card: ModelCard, first: str) -> tuple[str, ...]:
    """Return the series of each channel, in the order of the card, as far as the study has them; none for a model that
    reads one series, and none where the route has chosen no `first`."""
    if not first or route is None:
        return ()
    return tuple(decision.chosen for _, decision in _decisions(study, route, card, first) if decision.chosen)


def channel_missing(card: ModelCard, channels: Sequence[str]) -> Declined | None:
    """Say that a study lacks a series which the model reads together with others, or has one for two of them."""
    if not card.channels or (len(channels) == len(card.channels) and len(set(channels)) == len(channels)):
        return None
    names = ", ".join(one.key for one in card.channels)
    return Declined("CHANNELS_MISSING", f"The model reads {names}; the study has {len(set(channels))} such series.")


def _decisions(study: Study, route: Route, card: ModelCard, first: str) -> Iterator[tuple[str, RouteDecision]]:
    alone = replace(study, series=tuple(one for one in study.series if one.series_instance_uid == first))
    for place, one in enumerate(card.channels):
        yield one.key, decide(study if place else alone, route, (one.when,), card.rank)


def _reason(decision: RouteDecision, first: str) -> str:
    """Say why a channel is given a series or none; `first`: the only one that it may be given."""
    if decision.chosen:
        return f"Series {first} is the one that the route chose." if first else decision.reason
    if not decision.candidates:
        return "The study has no source series."
    which = "The series that the route chose is none" if first else "No series is"
    return f"{which} for this channel. Closest: {shortfall(decision.candidates)}"
