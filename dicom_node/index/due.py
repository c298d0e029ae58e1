"""When a row that waits for a time is due; a clock that was set back must not stop what waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_

from dicom_node.core.retry_after import LONGEST_WAIT_S

#: Waits are shaken by a tenth.
_MARGIN = 1.25


def is_due(column: Any, now: datetime, longest_wait_s: float = LONGEST_WAIT_S) -> ColumnElement[bool]:
    """Return the condition that the time in `column` has come.

    A time further ahead than anything is ever put off was written before the clock was set back: it has come, too.
    """
    furthest = now + timedelta(seconds=_MARGIN * longest_wait_s)
    return or_(column <= now, column > furthest)
