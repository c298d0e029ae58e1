"""What a card says about a model's outputs: the classes, values and structures they stand for, in coded words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from dicom_node.core.codes import ANATOMICAL_STRUCTURE, LEFT, RIGHT, table, term_code
from dicom_node.core.entities import Code, Measurement
from dicom_node.inference.cards.fields import CardFields

_FOUND = ("findings", "measurements", "anatomy")
_OUTLINED = ("anatomy", "findings")
_COLORS = ((240, 150, 60), (70, 160, 230), (120, 200, 80), (200, 90, 200), (230, 210, 60), (220, 80, 80))
#: What may be measured of a structure (`inference.answers.measures`).
MEASURES = ("volume", "mean", "diameter")
#: Begins the name of a parameter that is the threshold of one finding or structure.
THRESHOLD_OF = "threshold-"
_HIGHEST_VALUE = 255
_SIDES = {"left": LEFT, "right": RIGHT}
_REASON_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,63}")


@dataclass(frozen=True, slots=True)
class PlausibleRange:
    """Both ends belong to the plausible range; `None` is no limit. `reason` says why nothing else can be."""

    low: float | None = None
    high: float | None = None
    reason: str = ""

    def hold(self, value: float) -> bool:
        """Tell whether a value may be reported; one that is no number is in no range, and is told as not measurable."""
        if not math.isfinite(value):
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}" if self.high is not None else f"at least {self.low:g}"

    def refusal(self, label: str, measurement: Measurement) -> str:
        """Say in a sentence which number of what is not reported, and why; `label` is that of the finding."""
        unit = {"[hnsf'U]": "HU", "1": ""}.get(measurement.unit.value, measurement.unit.value)
        reason = f": {self.reason}" if self.reason else ""
        return (
            (
                f"{label}: {measurement.label} of {measurement.value:.4g} {unit} is not plausible ({self} "
                f"{unit} expected{reason}), so it is not reported."
            )
            .replace("  ", " ")
            .replace(" )", ")")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CardMeasurement:
    """What may be reported of one kind of number, whichever finding it is of, or of the findings with these keys."""

    name: Code
    derivation: Code | None
    findings: tuple[str, ...]
    plausible: PlausibleRange

    def is_of(self, key: str, measurement: Measurement) -> bool:
        """Tell whether it speaks of a number of the finding with this key."""
        ours, theirs = ((one.name, one.derivation) for one in (self, measurement))
        return _meanings(*ours) == _meanings(*theirs) and (not self.findings or key in self.findings)


def _meanings(*codes: Code | None) -> list[tuple[str, str] | None]:
    """Return what codes mean, whatever they are called."""
    return [None if code is None else (code.value, code.scheme) for code in codes]


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
    """One structure a model outlines: the values of its voxels, its codes, what is measured of it, and the volumes that
    may be reported."""

    #: More than one: all that the network tells apart and the structure holds (1 + 2 + 4).
    values: tuple[int, ...]
    key: str
    label: str
    category: Code
    type: Code
    region: Code | None
    side: Code | None
    color_rgb: tuple[int, int, int]
    plausible_ml: PlausibleRange
    #: Of `MEASURES`; empty: outlined alone.
    measure: tuple[str, ...] = ("volume",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardCheck:
    """A number that a model leaves about its own answer, and between which values the answer may be used at all; `code`
    and `label` tell what is wrong where it lies elsewhere."""

    figure: str
    label: str
    unit: str
    plausible: PlausibleRange
    code: str

    def refusal(self, value: float) -> str:
        """Say in a sentence which number is not as it should be, and why."""
        unit = f" {self.unit}" if self.unit else ""
        reason = f": {self.plausible.reason}" if self.plausible.reason else ""
        return f"{self.label} is {value:.4g}{unit} ({self.plausible}{unit} expected{reason})."


def threshold_of(parameters: Mapping[str, float], key: str, default: float = 0.5) -> float:
    """Return from which score on a finding or structure is there: its own, ``threshold-KEY``, before that of all."""
    return parameters.get(THRESHOLD_OF + key, parameters.get("threshold", default))


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
    side = fields.choice("side", tuple(_SIDES), "")
    return CardSegment(
        values=_values(fields),
        key=fields.text("key"),
        label=fields.text("label"),
        category=_optional_code(fields, "category", _OUTLINED) or ANATOMICAL_STRUCTURE,
        type=_code(fields, "type", _OUTLINED),
        region=_optional_code(fields, "region", ("anatomy",)),
        side=_SIDES.get(side),
        color_rgb=_color(fields, place),
        plausible_ml=_limits(fields.table("plausible_ml")),
        measure=_measures(fields) if fields.flag("measured", default=True) else (),
    )


def read_measurement(fields: CardFields) -> CardMeasurement:
    """Read one `[[measurement]]`. Raises `SettingsError`."""
    limits = fields.table("plausible")
    limits.text("reason")
    plausible = _limits(limits)
    if plausible.low is None and plausible.high is None:
        limits.refuse("min", "or max must be there: a range without an end holds every number")
    return CardMeasurement(
        name=_code(fields, "name", ("measurements",)),
        derivation=_optional_code(fields, "derivation", ("measurements",)),
        findings=fields.texts("findings"),
        plausible=plausible,
    )


def read_check(fields: CardFields) -> CardCheck:
    """Read one `[[check]]`. Raises `SettingsError`."""
    code = fields.text("code")
    if _REASON_CODE.fullmatch(code) is None:
        fields.refuse("code", "must be capital letters, digits and _ alone, as IMPLAUSIBLE_VOLUME")
    low, high = fields.number("min", None), fields.number("max", None)
    if low is None and high is None:
        fields.refuse("min", "or max must be there: a range without an end holds every number")
    return CardCheck(
        figure=fields.text("figure"),
        label=fields.text("label"),
        unit=fields.optional_text("unit"),
        plausible=PlausibleRange(low, high, fields.optional_text("reason")),
        code=code,
    )


def _values(fields: CardFields) -> tuple[int, ...]:
    """Read `value`, or `values` of a structure that holds several which the network tells apart."""
    if ("value" in fields.values) == ("values" in fields.values):
        fields.refuse("value", "or values must say which voxels the structure has, one of them")
    single = "value" in fields.values
    found = (fields.number("value", None) or 0,) if single else fields.floats("values")
    if not all(0 < one <= _HIGHEST_VALUE and one == int(one) for one in found):
        fields.refuse("value" if single else "values", "must be the value of the structure's voxels, 1 to 255")
    if not single and len(set(found)) < max(2, len(found)):
        fields.refuse("values", "must be two values or more, each once")
    return tuple(int(one) for one in found)


def _measures(fields: CardFields) -> tuple[str, ...]:
    named = fields.texts("measure") if "measure" in fields.values else MEASURES[:1]
    if not named or len(set(named)) < len(named) or not set(named) <= set(MEASURES):
        fields.refuse("measure", f"must be of {', '.join(MEASURES)}, each once, and one at least")
    return named


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
    return PlausibleRange(fields.number("min", None), fields.number("max", None), fields.optional_text("reason"))


def _color(fields: CardFields, place: int) -> tuple[int, int, int]:
    value = fields.values.get("color_rgb", list(_COLORS[place % len(_COLORS)]))
    if not isinstance(value, list) or len(value) != 3 or not all(type(one) is int and 0 <= one < 256 for one in value):
        fields.refuse("color_rgb", "must be three whole numbers 0 to 255")
    red, green, blue = value
    return red, green, blue
