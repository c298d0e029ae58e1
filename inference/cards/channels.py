"""Several series of one study as one input: what a card says of each channel, for models that read them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.core.errors import SettingsError
from dicom_node.core.series.predicates import check_conditions
from dicom_node.inference.cards.fields import CardFields


@dataclass(frozen=True, slots=True)
class CardChannel:
    """One channel of the input: its name for people, and what a series must meet to be it, in the words of routes."""

    key: str
    when: Mapping[str, object]


def read_channel(fields: CardFields) -> CardChannel:
    """Read one `[[channel]]`. Raises `SettingsError`."""
    conditions = fields.table("when").values
    if not conditions:
        fields.refuse("when", "must say which series the channel is")
    try:
        check_conditions(conditions)
    except SettingsError as error:
        fields.refuse("when", f"cannot be used. {error}")
    return CardChannel(fields.text("key"), conditions)
