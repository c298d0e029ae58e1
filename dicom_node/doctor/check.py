"""One answer of the doctor."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: How long a peer may take to answer.
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is well, what was seen, and what to do if it is not (empty when it is)."""

    name: str
    ok: bool
    text: str
    advice: str = ""


def current_user() -> str:
    """The user this process runs as, for advice."""
    return str(os.environ.get("USER") or os.geteuid())
