"""Declarative conditions on attributes of a series: no code in configuration, and every clause can be explained.

A condition is a scalar (equals), a list (any of), or a table of operators::

    modality = "CT"
    body_part_examined = ["CHEST", "THORAX"]
    slice_thickness = { max = 3, or_absent = true }
    image_type = { contains = ["ORIGINAL", "PRIMARY"] }

Text is compared without regard to case, numbers as numbers. An attribute has every distinct value found over the
instances of the series; a condition holds if one of them meets all its operators, `none_of` if no value is listed.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.core.errors import SettingsError

#: Longest text a regular expression is tried on: bounds what one careless pattern can cost.
MAX_MATCHED_CHARACTERS = 512
_SHOWN_VALUES = 6
_SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition, told: `condition` in words, `actual` the values found, `asked_by` the route or the model."""

    attribute: str
    condition: str
    holds: bool
    actual: str
    asked_by: str = ""


def evaluate(conditions: Mapping[str, object], attributes: Mapping[str, frozenset[str]]) -> tuple[Clause, ...]:
    """Return one clause per condition, in the order of the configuration. `conditions` must have been checked."""
    return tuple(_clause(name, _operators(given), attributes.get(name)) for name, given in conditions.items())


def check_conditions(conditions: Mapping[str, object], known: Collection[str] | None = None) -> None:
    """Raise `SettingsError` for an attribute or operator that cannot be used, naming it and what is allowed.

    `known`, if given, lists every attribute the node collects: a name outside it could never match.
    """
    for attribute, given in conditions.items():
        check_attribute(attribute, known)
        operators = _operators(given)
        for name, operand in operators.items():
            _check_operator(attribute, name, operand)
        _check_together(attribute, operators)


# --- evaluating --------------------------------------------------------------------------------------------------


def _clause(attribute: str, operators: Mapping[str, Any], found: frozenset[str] | None) -> Clause:
    values = found or frozenset()
    return Clause(attribute, _in_words(operators), _holds(operators, values), _shown(values))


def _holds(operators: Mapping[str, Any], values: frozenset[str]) -> bool:
    if "exists" in operators and operators["exists"] is not bool(values):
        return False
    if any(_is_listed(value, _as_list(operators.get("none_of", []))) for value in values):
        return False
    tests = [(_VALUE_TESTS[name], operand) for name, operand in operators.items() if name in _VALUE_TESTS]
    if not tests or (not values and operators.get("or_absent")):
        return True
    return any(all(test(value, operand) for test, operand in tests) for value in values)


def _equals(value: str, operand: object) -> bool:
    if isinstance(operand, str):
        return value.casefold() == operand.casefold()
    return number_in(value) == operand


def _is_listed(value: str, operand: Collection[object]) -> bool:
    return any(_equals(value, one) for one in operand)


def _matches(value: str, pattern: str) -> bool:
    return re.search(pattern, value[:MAX_MATCHED_CHARACTERS], re.IGNORECASE) is not None


def _contains(value: str, operand: object) -> bool:
    """Whether one DICOM value, multi-valued as on the wire, has all wanted components."""
    components = value.split("\\")
    return all(any(_equals(component, wanted) for component in components) for wanted in _as_list(operand))


def _at_least(value: str, bound: float) -> bool:
    number = number_in(value)
    return number is not None and number >= bound


def _at_most(value: str, bound: float) -> bool:
    number = number_in(value)
    return number is not None and number <= bound


#: Operators that one value must meet; all those of a condition by the same value.
_VALUE_TESTS: Mapping[str, Callable[[str, Any], bool]] = {
    "equals": _equals,
    "any_of": _is_listed,
    "regex": _matches,
    "contains": _contains,
    "min": _at_least,
    "max": _at_most,
}


def _operators(given: object) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    return {"any_of": list(given)} if isinstance(given, list | tuple) else {"equals": given}


def _as_list(operand: object) -> Collection[object]:
    return operand if isinstance(operand, list | tuple) else [operand]


def number_in(text: str) -> float | None:
    """Return the number a text stands for, or `None`; not-a-number and infinity are no numbers here."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- a clause in words -------------------------------------------------------------------------------------------

_WORDS = {
    "equals": "is {}",
    "any_of": "is one of {}",
    "none_of": "is none of {}",
    "regex": "matches /{}/",
    "contains": "contains {}",
    "min": "is at least {}",
    "max": "is at most {}",
}


def _in_words(operators: Mapping[str, Any]) -> str:
    texts = [_WORDS[name].format(_joined(operand)) for name, operand in operators.items() if name in _WORDS]
    if "exists" in operators:
        texts.append("is present" if operators["exists"] else "is absent")
    return " and ".join(texts) + (" or is absent" if operators.get("or_absent") else "")


def _joined(operand: object) -> str:
    return ", ".join(str(one) for one in _as_list(operand))


def _shown(values: frozenset[str]) -> str:
    if not values:
        return "absent"
    # A multi-valued value is there whole and in parts; people want to read the whole.
    parts = {part for value in values if "\\" in value for part in value.split("\\")}
    listed = sorted(values - parts)
    more = len(listed) - _SHOWN_VALUES
    return ", ".join(value[:64] for value in listed[:_SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")


# --- checking ----------------------------------------------------------------------------------------------------


def check_attribute(attribute: str, known: Collection[str] | None = None) -> None:
    """Raise `SettingsError` unless `attribute` is a keyword in snake_case, and one of `known` if that is given."""
    if _SNAKE_CASE.fullmatch(attribute) is None:
        raise SettingsError(
            f"Attribute {attribute!r}: must be a DICOM keyword in snake_case, such as body_part_examined."
        )
    if known is not None and attribute not in known:
        near = difflib.get_close_matches(attribute, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SettingsError(f"Attribute {attribute!r}: not collected. {hint}Known: {', '.join(sorted(known))}.")


def _check_operator(attribute: str, name: str, operand: object) -> None:
    if name not in _OPERANDS:
        raise SettingsError(f"Condition on {attribute}: unknown operator {name!r}. Allowed: {', '.join(_OPERANDS)}.")
    wanted, is_right = _OPERANDS[name]
    if not is_right(operand):
        raise SettingsError(f"Condition on {attribute}: {name} needs {wanted}, not {operand!r}.")
    if name == "regex":
        _check_regex(attribute, str(operand))


def _check_regex(attribute: str, pattern: str) -> None:
    try:
        re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingsError(f"Condition on {attribute}: {pattern!r} is not a regular expression: {error}.") from error


def _check_together(attribute: str, operators: Mapping[str, Any]) -> None:
    others = operators.keys() - {"exists", "or_absent"}
    if not operators or operators.keys() == {"or_absent"}:
        raise SettingsError(f"Condition on {attribute}: says nothing. Add one of {', '.join(_OPERANDS)}.")
    if operators.get("exists") is False and others:
        raise SettingsError(
            f"Condition on {attribute}: exists = false leaves no value for {', '.join(sorted(others))}."
        )
    if "exists" in operators and "or_absent" in operators:
        raise SettingsError(f"Condition on {attribute}: exists and or_absent contradict each other; keep one.")


def _is_scalar(operand: object) -> bool:
    return isinstance(operand, str) or _is_number(operand)


def _is_number(operand: object) -> bool:
    return isinstance(operand, int | float) and not isinstance(operand, bool)


def _is_list(operand: object) -> bool:
    return isinstance(operand, list | tuple) and bool(operand) and all(_is_scalar(one) for one in operand)


def _is_scalar_or_list(operand: object) -> bool:
    return _is_scalar(operand) or _is_list(operand)


def _is_text(operand: object) -> bool:
    return isinstance(operand, str)


def _is_bool(operand: object) -> bool:
    return isinstance(operand, bool)


#: What each operator takes: in words, and as a test.
_OPERANDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "equals": ("a text or a number", _is_scalar),
    "any_of": ("a list of texts or numbers", _is_list),
    "none_of": ("a text, a number or a list of them", _is_scalar_or_list),
    "regex": ("a regular expression as text", _is_text),
    "contains": ("a text, a number or a list of them", _is_scalar_or_list),
    "min": ("a number", _is_number),
    "max": ("a number", _is_number),
    "exists": ("true or false", _is_bool),
    "or_absent": ("true or false", _is_bool),
}
