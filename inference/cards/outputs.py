"""What a card says about a model's outputs: the classes, values and structures they stand for, in coded words."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.codes import ANATOMICAL_STRUCTURE, LEFT, RIGHT
from dicom_node.inference.cards.fields import CardFields
from dicom_node.model import Code

_COLORS = ((240, 150, 60), (70, 160, 230), (120, 200, 80), (200, 90, 200), (230, 210, 60), (220, 80, 80))
_SIDES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True, slots=True)
class Limits:
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
    plausible: Limits = Limits()


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
    plausible_ml: Limits


def read_finding(fields: CardFields) -> CardFinding:
    """Read one `[[finding]]`. Raises `SettingsError`."""
    return CardFinding(
        key=fields.text("key"),
        label=fields.text("label"),
        code=read_code(fields.table("code")),
        site=read_code(fields.table("site")),
        output_index=int(fields.number("output_index", 0) or 0),
        unit=_optional_code(fields.table("unit")),
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
        category=_optional_code(fields.table("category")) or ANATOMICAL_STRUCTURE,
        type=read_code(fields.table("type")),
        region=_optional_code(fields.table("region")),
        side=_SIDES.get(side),
        color_rgb=_color(fields, place),
        plausible_ml=_limits(fields.table("plausible_ml")),
    )


def read_code(fields: CardFields) -> Code:
    """Read a code of value, scheme and meaning. Raises `SettingsError`."""
    meaning = fields.text("meaning")
    if len(meaning) > 64:
        fields.refuse("meaning", "is longer than 64 characters (PS3.3 8.8)")
    return Code(fields.text("value"), fields.text("scheme"), meaning)


def _optional_code(fields: CardFields) -> Code | None:
    return read_code(fields) if fields.present else None


def _limits(fields: CardFields) -> Limits:
    return Limits(fields.number("min", None), fields.number("max", None))


def _color(fields: CardFields, place: int) -> tuple[int, int, int]:
    value = fields.values.get("color_rgb", list(_COLORS[place % len(_COLORS)]))
    if not isinstance(value, list) or len(value) != 3 or not all(type(one) is int and 0 <= one < 256 for one in value):
        fields.refuse("color_rgb", "must be three whole numbers 0 to 255")
    red, green, blue = value
    return red, green, blue
