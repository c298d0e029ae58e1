"""Findings as they are kept in the index, read back as what the builders take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dicom_node.analysis.written import finding_data
from dicom_node.core.assessment.review import ReviewedFinding
from dicom_node.core.entities import Finding, ModelIdentity
from dicom_node.core.errors import Conflict

_FINDING = TypeAdapter(Finding)
_MODEL = TypeAdapter(ModelIdentity)


def findings_in(summary: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return what the summary of a result says was found, in its order. Raises `Conflict` for what cannot be read."""
    try:
        return tuple(_finding(one) for one in summary.get("findings") or ())
    except ValidationError as error:
        raise Conflict(
            f"What the model found is kept in a form that cannot be reviewed ({error.error_count()} values). "
            "Reject the result, or have the study analysed again."
        ) from error


def analysed_uids_in(summary: Mapping[str, Any]) -> list[str]:
    """Return the SOP Instance UIDs of all images that a result was made from: those that it lies on, then those of
    further series that were read together with them."""
    return [*map(str, summary.get("source_sop_instance_uids") or ()), *further_uids_in(summary)]


def further_uids_in(summary: Mapping[str, Any]) -> list[str]:
    """Return the SOP Instance UIDs of the images of further series alone."""
    return [str(uid) for uid in summary.get("further_source_sop_instance_uids") or ()]


def readable_findings(summary: Mapping[str, Any]) -> tuple[tuple[Finding, ...], int]:
    """Return the findings of a summary that can be read, and how many others it holds."""
    given = summary.get("findings") or ()
    found = [one for told in given if (one := _readable(told)) is not None]
    return tuple(found), len(given) - len(found)


def _readable(told: Mapping[str, Any]) -> Finding | None:
    try:
        return _finding(told)
    except ValidationError:
        return None


def _finding(told: object) -> Finding:
    """Read one finding; a number that is not finite, for which JSON has no word, is kept as null."""
    if isinstance(told, Mapping) and isinstance(told.get("measurements"), list | tuple):
        told = {**told, "measurements": [_with_number(one) for one in told["measurements"]]}
    return _FINDING.validate_python(told)


def _with_number(told: object) -> object:
    if isinstance(told, Mapping) and told.get("value", 0.0) is None:
        return {**told, "value": math.nan}
    return told


def model_named(summary: Mapping[str, Any]) -> ModelIdentity:
    """Return which model a summary names; what it does not say of it, or in another form, is empty."""
    told = summary.get("model")
    said = told if isinstance(told, Mapping) else {}
    texts = ("name", "version", "manufacturer", "digest", "device_uid", "intended_use", "limits")
    return ModelIdentity(
        **{name: str(said.get(name) or "") for name in texts},
        parameters=tuple(map(str, said.get("parameters") or ())),
        calibrated=said.get("calibrated") is True,
    )


def model_in(summary: Mapping[str, Any]) -> ModelIdentity:
    """Return which model a summary names. Raises `Conflict` for one that cannot be read."""
    try:
        return _MODEL.validate_python(summary.get("model"))
    except ValidationError as error:
        raise Conflict("The result does not say which model made it, so it cannot be reviewed.") from error


def reviewed_data(findings: Sequence[ReviewedFinding]) -> list[dict[str, object]]:
    """Return reviewed findings as JSON-ready data."""
    return [
        {
            "finding": finding_data(one.finding),
            "said_by_model": None if one.said_by_model is None else finding_data(one.said_by_model),
            "text": one.text,
            "removed": one.removed,
        }
        for one in findings
    ]


def reviewed_from(kept: Sequence[Mapping[str, Any]]) -> tuple[ReviewedFinding, ...]:
    """Return reviewed findings as they were before `reviewed_data`."""
    return tuple(
        ReviewedFinding(
            finding=_finding(one["finding"]),
            said_by_model=None if one["said_by_model"] is None else _finding(one["said_by_model"]),
            text=one["text"],
            removed=one["removed"],
        )
        for one in kept
    )
