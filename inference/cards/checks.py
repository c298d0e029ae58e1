"""What the values of a model card must be to one another: unique keys, ranges the right way round, sensible thresholds.

A slip here would show much later and elsewhere: two findings of one key are one tracking identifier in the PACS.
"""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.inference.cards.fields import CardFields

#: What the index keeps of a name and of a version.
_LONGEST = 64
_SCORED = ("classification", "detection")


def check_values(fields: CardFields) -> None:
    """Raise `SettingsError` naming file and key."""
    for key in ("name", "version"):
        if len(fields.text(key)) > _LONGEST:
            fields.refuse(key, f"is longer than {_LONGEST} characters")
    _check_unique(fields, "finding", "key")
    _check_unique(fields, "segment", "key")
    _check_unique(fields, "segment", "value")
    for one in fields.subtables("finding"):
        index = one.number("output_index", 0)
        if index is None or index < 0 or index != int(index):
            one.refuse("output_index", "must be a whole number, 0 or more")
    for limits in _ranges(fields):
        low, high = limits.number("min", None), limits.number("max", None)
        if low is not None and high is not None and low > high:
            limits.refuse("min", f"is {low:g}, above max, {high:g}")
    _check_parameters(fields)


def _check_unique(fields: CardFields, table: str, key: str) -> None:
    seen: set[object] = set()
    for one in fields.subtables(table):
        value = one.values.get(key)
        if value in seen:
            one.refuse(key, f"is {value!r}, as that of an earlier [[{table}]]; each must have its own")
        seen.add(value)


def _ranges(fields: CardFields) -> Iterator[CardFields]:
    yield fields.table("gate").table("age_years")
    for finding in fields.subtables("finding"):
        yield finding.table("plausible")
    for segment in fields.subtables("segment"):
        yield segment.table("plausible_ml")


def _check_parameters(fields: CardFields) -> None:
    parameters = fields.table("parameters")
    threshold, temperature = parameters.number("threshold", None), parameters.number("temperature", None)
    if threshold is not None and fields.text("task") in _SCORED and not 0 <= threshold <= 1:
        parameters.refuse("threshold", "must lie between 0 and 1: it is held against probabilities")
    if temperature is not None and temperature <= 0:
        parameters.refuse("temperature", "must be above 0: logits are divided by it")
