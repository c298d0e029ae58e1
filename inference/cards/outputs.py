"""What a card says about a model's outputs: the classes, values and structures they stand for, in coded words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from dicom_node.core.codes import ANATOMICAL_STRUCTURE, LEFT, RIGHT, table, term_code
from dicom_node.core.entities import Code
from dicom_node.inference.cards.fields import CardFields

_FOUND = ("findings", "measurements", "anatomy")
_OUTLINED = ("anatomy", "findings")
_COLORS = ((240, 150, 60), (70, 160, 230), (120, 200, 80), (200, 90, 200), (230, 210, 60), (220, 80, 80))
_SIDES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True, slots=True)
class PlausibleRange:
    """Both ends belong to the plausible range; `None` is no limit."""

    low: float | None = None
    high: float | None = None

    def hold(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        low = "" if self.low is None else f"{self.low:g}"
        return f"{low} to {self.high:g}" if self.high is not None else f"at least {low}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFinding:
    """One class a model evaluates, or one value it estimates: its codes and its place in the output of the network.

    `unit` is that of a regression's value, `plausible` what may be reported of it.
    """

    key: str
    label: str
    code: Code
    site: Code
    output_index: int = 0
    unit: Code | None = None
    plausible: PlausibleRange = PlausibleRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSegment:
    """One structure a model outlines: the value of its voxels, its codes, and the volumes that may be reported."""

    value: int
    key: str
    label: str
    category: Code
    type: Code
    region: Code | None
    side: Code | None
    color_rgb: tuple[int, int, int]
    plausible_ml: PlausibleRange


def read_finding(fields: CardFields) -> CardFinding:
    """Read one `[[finding]]`. Raises `SettingsError`."""
    return CardFinding(
        key=fields.text("key"),
        label=fields.text("label"),
        code=_code(fields, "code", _FOUND),
        site=_code(fields, "site", ("anatomy",)),
        output_index=int(fields.number("output_index", 0) or 0),
        unit=_optional_code(fields, "unit", ("units",)),
        plausible=_limits(fields.table("plausible")),
    )


def read_segment(fields: CardFields, place: int) -> CardSegment:
    """Read one `[[segment]]`, the `place`-th of the card. Raises `SettingsError`."""
    value = int(fields.number("value", None) or 0)
    if not 0 < value < 256:
        fields.refuse("value", "must be the value of the structure's voxels, 1 to 255")
    side = fields.choice("side", tuple(_SIDES)) if "side" in fields.values else ""
    return CardSegment(
        value=value,
        key=fields.text("key"),
        label=fields.text("label"),
        category=_optional_code(fields, "category", _OUTLINED) or ANATOMICAL_STRUCTURE,
        type=_code(fields, "type", _OUTLINED),
        region=_optional_code(fields, "region", ("anatomy",)),
        side=_SIDES.get(side),
        color_rgb=_color(fields, place),
        plausible_ml=_limits(fields.table("plausible_ml")),
    )


def _code(fields: CardFields, key: str, tables: Sequence[str]) -> Code:
    """Read a code: a table of value, scheme and meaning, or a key of the terminology. Raises `SettingsError`."""
    named = fields.values.get(key)
    if not isinstance(named, str):
        return _explicit_code(fields.table(key))
    known = {term: one for one in reversed(tables) for term in table(one)}
    if named not in known:
        near = get_close_matches(named, known, 3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        fields.refuse(
            key, f"is {named!r}, which the terminology lacks{hint}; docs/reference/terminology.md has its keys"
        )
    return term_code(known[named], named)


def _explicit_code(fields: CardFields) -> Code:
    meaning = fields.text("meaning")
    if len(meaning) > 64:
        fields.refuse("meaning", "is longer than 64 characters (PS3.3 8.8)")
    return Code(fields.text("value"), fields.text("scheme"), meaning)


def _optional_code(fields: CardFields, key: str, tables: Sequence[str]) -> Code | None:
    return _code(fields, key, tables) if fields.values.get(key) else None


def _limits(fields: CardFields) -> PlausibleRange:
    return PlausibleRange(fields.number("min", None), fields.number("max", None))


def _color(fields: CardFields, place: int) -> tuple[int, int, int]:
    value = fields.values.get("color_rgb", list(_COLORS[place % len(_COLORS)]))
    if not isinstance(value, list) or len(value) != 3 or not all(type(one) is int and 0 <= one < 256 for one in value):
        fields.refuse("color_rgb", "must be three whole numbers 0 to 255")
    red, green, blue = value
    return red, green, blue
