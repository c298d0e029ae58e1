"""When a row that waits for a time is due; a clock that was set back must not stop what waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_

#: Nothing the node puts off is put off for longer, whatever a peer asks for.
LONGEST_WAIT_S = 3600.0
#: Waits are shaken by a tenth.
_MARGIN = 1.25


def is_due(column: Any, now: datetime, longest_wait_s: float = LONGEST_WAIT_S) -> ColumnElement[bool]:
    """Return the condition that the time in `column` has come.

    A time further ahead than anything is ever put off was written before the clock was set back: it has come, too.
    """
    furthest = now + timedelta(seconds=_MARGIN * longest_wait_s)
    return or_(column <= now, column > furthest)
