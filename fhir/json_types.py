"""FHIR JSON as Python holds it, and its one canonical form as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

#: A resource or data type as JSON-ready data; what may stand in it is checked by `validation`, not by types.
Json: TypeAlias = dict[str, Any]


def to_json_bytes(bundle: Mapping[str, object]) -> bytes:
    """Return the bytes to keep and to send: UTF-8, keys sorted, so that equal bundles are equal bytes."""
    text = json.dumps(bundle, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def without_empty(values: Mapping[str, Any]) -> Json:
    """Drop the elements that have no value; FHIR forbids empty strings, lists and objects (R4 json.html)."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
