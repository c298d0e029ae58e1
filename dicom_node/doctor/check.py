"""One answer of the doctor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is well, what was seen, and what to do if it is not (empty when it is)."""

    name: str
    ok: bool
    text: str
    advice: str = ""
