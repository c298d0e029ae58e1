"""What a result says in one line: what is present first, and never more than the model said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.core.entities import Presence

_SHOWN = 3
#: What is told first: a result that holds something must not be read as one that holds nothing.
_ORDER = (Presence.PRESENT, Presence.UNDETERMINED, Presence.ABSENT)
_WORDS = {Presence.PRESENT: "{}", Presence.UNDETERMINED: "{}: cannot tell", Presence.ABSENT: "{}: absent"}
_SYMBOLS = {"[hnsf'U]": "HU", "1": "", "{ratio}": ""}


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One line of text; `is_positive`: the model says that something is present."""

    text: str = ""
    is_positive: bool = False


def in_one_line(summary: Mapping[str, Any]) -> FindingLine:
    """Return what a stored answer found, at most three things and how many more; empty where it names nothing."""
    found = [one for one in _mappings(summary.get("findings")) if one.get("label")]
    judged = sorted((one for one in found if one.get("presence") in _ORDER), key=lambda one: _place(one["presence"]))
    told = [_judged(one) for one in judged] or [text for one in found if (text := _measured(one))]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    is_positive = any(one["presence"] == Presence.PRESENT for one in judged)
    return FindingLine("; ".join(told[:_SHOWN]) + more, is_positive)


def _place(presence: Any) -> int:
    return _ORDER.index(presence)


def _judged(finding: Mapping[str, Any]) -> str:
    text = _WORDS[Presence(finding["presence"])].format(finding["label"])
    score = finding.get("probability")
    if finding["presence"] == Presence.PRESENT and isinstance(score, int | float):
        return f"{text} (score {score * 100:.0f} %)"
    return text


def _measured(finding: Mapping[str, Any]) -> str:
    for one in _mappings(finding.get("measurements")):
        value = one.get("value")
        if isinstance(value, int | float):
            name, unit = _meaning(one.get("name")), one.get("unit")
            code = str(unit.get("value", "")) if isinstance(unit, Mapping) else ""
            label = f"{finding['label']}: {one.get('label') or name} {value:g} {_SYMBOLS.get(code, code)}"
            return label.rstrip()
    return ""


def _meaning(code: Any) -> str:
    return str(code.get("meaning", "")) if isinstance(code, Mapping) else ""


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what can be read of a list that is kept as JSON."""
    given: Sequence[Any] = value if isinstance(value, list) else []
    return (one for one in given if isinstance(one, Mapping))
