"""What the channels of a segmenting network mean, and the structures that come of them.

Several channels are either classes that exclude each other, of which the strongest holds in a voxel, or structures of
their own, which may lie in each other. Their values do not tell: a voxel outside a crop is 0 in every channel, be they
the one or the other. So it is known from what made them, or the card says so; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.outputs import THRESHOLD_OF
from dicom_node.inference.prediction import Prediction
from dicom_node.inference.runtimes.axes import Floats

DEFAULT_THRESHOLD = 0.5
_HIGHEST_VALUE = 255
#: What metadata call a first channel that is no structure.
_BACKGROUND_NAMES = ("background", "bg", "other", "none", "unlabel", "void")


@dataclass(frozen=True, slots=True)
class Channels:
    """What channels mean: whether they exclude each other, whether channel 0 is background, from which value on a
    structure of its own is there: all, or by its value in the card."""

    exclusive: bool
    background: bool
    threshold: float = DEFAULT_THRESHOLD
    own_thresholds: Mapping[int, float] = field(default_factory=dict)

    def value_of(self, channel: int) -> int:
        """Return the value by which a card names a channel; 0 is background."""
        return channel if self.background else channel + 1

    def holds(self, channel: int, values: Floats) -> NDArray[np.bool_]:
        """Tell where the structure of a channel is, of those that may overlap."""
        return values >= np.float32(self.own_thresholds.get(self.value_of(channel), self.threshold))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEvidence:
    """What is known of channels before the network has run; `None` where nothing tells.

    `known_from` says for people what tells; `first_name` is what metadata call channel 0, `named` how many channels
    they name; `threshold` is the card's, `own_thresholds` those of single structures by their value; `highest_value` is
    that of its segments, 0 without one.
    """

    exclusive: bool | None = None
    background: bool | None = None
    known_from: str = ""
    first_name: str = ""
    named: int = 0
    threshold: float | None = None
    own_thresholds: Mapping[int, float] = field(default_factory=dict)
    highest_value: int = 0

    def meaning(self, count: int) -> Channels:
        """Return what `count` channels mean. Raises `ModelUnavailable` naming the key of the card that must say it."""
        if self.exclusive is None:
            raise ModelUnavailable(
                f"Nothing says what the {count} channels of the network mean. Say in the card: [output] channels = "
                '"exclusive" (classes, of which the strongest holds) or "overlapping" (each a structure of its own).'
            )
        check_rivals(self.exclusive, count)
        if self.exclusive and self.has_threshold:
            raise ModelUnavailable(
                "[parameters] threshold has no effect where the strongest class holds. Remove it from the card."
            )
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        found = Channels(self.exclusive, self._background(count), threshold, self.own_thresholds)
        self._check_values(found.value_of(count - 1), count)
        return found

    @property
    def has_threshold(self) -> bool:
        """Whether the card names any."""
        return self.threshold is not None or bool(self.own_thresholds)

    def _background(self, count: int) -> bool:
        """Tell whether channel 0 is background: of classes it is, unless it is called something else; of structures
        that may overlap it is not, unless the card has no use for the last channel."""
        if self.background is not None:
            return self.background
        if self.named not in (0, count) and not self.exclusive:
            self._ask(f"its metadata name {self.named} channels and it gives {count}, so they are of another network")
        named_so = any(word in self.first_name.lower() for word in _BACKGROUND_NAMES)
        if self.first_name and (named_so or not self.exclusive):
            return named_so
        if self.first_name:
            self._ask(f"its metadata call it {self.first_name!r}")
        if not self.exclusive and 0 < self.highest_value < count:
            self._ask(f"the card names values up to {self.highest_value} of {count} channels")
        return bool(self.exclusive)

    def _ask(self, why: str) -> NoReturn:
        raise ModelUnavailable(
            f"It is not known whether channel 0 of the network is background: {why}. Say in the card: [output] "
            "background = true (channel 1 is value 1) or false (channel 0 is value 1)."
        )

    def _check_values(self, highest: int, count: int) -> None:
        """A value that the network never gives would be reported absent."""
        if self.highest_value > highest or highest > _HIGHEST_VALUE:
            raise ModelUnavailable(
                f"The {count} channels of the network are values up to {highest}; the card names {self.highest_value}, "
                f"and at most {_HIGHEST_VALUE} can be told apart. Correct value in [[segment]], or [output] background."
            )

    def told(self, count: int) -> str:
        """Say it of `count` channels for people, as `models try` does; 0 where nobody knows how many there are."""
        if self.exclusive is None:
            return "what its channels mean is not known: say [output] channels in the card"
        text = f"channels {'exclude each other' if self.exclusive else 'may overlap'} (known from {self.known_from})"
        if count < 2:
            return text
        named = f" ({self.first_name})" if self.first_name else ""
        return f"{text}, channel 0{named} of {count} is {'background' if self._background(count) else 'value 1'}"


def check_rivals(exclusive: bool | None, count: int) -> None:
    """Raise `ModelUnavailable` for a single output that is to exclude others: its softmax is 1 whatever it sees."""
    if exclusive and count == 1:
        raise ModelUnavailable(
            "The network has one output, of which softmax or argmax makes the same answer for every image. Use sigmoid "
            "([output] activation in the card, Activations in the postprocessing of a bundle)."
        )


def evidence_of_card(card: ModelCard) -> ChannelEvidence:
    """Return what a card says: `[output]`, the values of its segments, its threshold."""
    said = card.output.channels
    exclusive = said == "exclusive" if said else None
    if exclusive is None and card.output.activation != "none":
        exclusive = card.output.activation == "softmax"
    return ChannelEvidence(
        exclusive=exclusive,
        background=card.output.background,
        known_from="the card",
        threshold=card.parameters.get("threshold"),
        own_thresholds={
            one.values[0]: card.parameters[THRESHOLD_OF + one.key]
            for one in card.segments
            if THRESHOLD_OF + one.key in card.parameters and len(one.values) == 1
        },
        highest_value=max((value for segment in card.segments for value in segment.values), default=0),
    )


# --- from channels to structures -------------------------------------------------------------------------------------


def outlined(volumes: Iterable[Floats], meaning: Channels, *, keeps_chances: bool = False) -> Prediction:
    """Return what every voxel belongs to, from channels (slices, rows, columns) that come one by one, because together
    they may hold more than the memory there is; with `keeps_chances` also the channels, by value."""
    kept: list[Floats] = []
    kept_on_the_way = _keeping(volumes, kept) if keeps_chances else volumes
    chances = None
    if meaning.exclusive:
        labels = _strongest(kept_on_the_way, meaning)
        chances = chances_by_value(kept, meaning) if keeps_chances else None
        return Prediction(labels=labels, probabilities=chances)
    masks = {
        meaning.value_of(channel): meaning.holds(channel, values)
        for channel, values in enumerate(kept_on_the_way)
        if meaning.value_of(channel) > 0
    }
    chances = chances_by_value(kept, meaning) if keeps_chances else None
    return Prediction(masks=masks, probabilities=chances)


def chances_by_value(volumes: Iterable[Floats], meaning: Channels) -> Floats:
    """Return (values, slices, rows, columns): channels at the values by which the card names them, background first."""
    kept = list(volumes)
    if not meaning.background:
        kept.insert(0, 1.0 - np.max(kept, axis=0))
    return np.stack(kept)


def whole_labels(values: Floats) -> NDArray[np.uint8] | None:
    """Return the numbers of classes that one channel holds, `None` unless all are whole numbers from 0 to 255."""
    rounded = np.rint(values)
    whole = bool(np.isfinite(values).all()) and float(np.abs(rounded - values).max(initial=0.0)) < 1e-3
    if not whole or rounded.min(initial=0.0) < 0 or rounded.max(initial=0.0) > _HIGHEST_VALUE:
        return None
    return rounded.astype(np.uint8)


def _keeping(volumes: Iterable[Floats], kept: list[Floats]) -> Iterable[Floats]:
    for values in volumes:
        kept.append(values)
        yield values


def _strongest(volumes: Iterable[Floats], meaning: Channels) -> NDArray[np.uint8]:
    """Return the value of the strongest channel, the first where equal; 0 where no channel holds anything."""
    labels, best, held = np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros(0, np.bool_)
    for channel, values in enumerate(volumes):
        if channel == 0:
            best, labels = np.full(values.shape, -np.inf, np.float32), np.zeros(values.shape, np.uint8)
            held = np.zeros(values.shape, np.bool_)
        labels[values > best] = meaning.value_of(channel)
        np.maximum(best, values, out=best)
        held |= values != 0
    labels[~held] = 0
    return labels
