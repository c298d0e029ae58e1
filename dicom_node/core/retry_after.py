"""Retry-After of a web server (RFC 9110 10.2.3): its wish is heard, but it cannot silence a destination for days."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Nothing the node puts off is put off for longer, whatever a peer asks for; after it the server is asked again.
LONGEST_WAIT_S = 3600.0


def retry_after_s(value: str) -> float | None:
    """Return the wait in seconds, 0 to `LONGEST_WAIT_S`; `value` is a number or a date, anything else is `None`."""
    text = value.strip()
    wait_s = float(text) if text.isdecimal() else _until(text)
    return None if wait_s is None else min(max(0.0, wait_s), LONGEST_WAIT_S)


def _until(text: str) -> float | None:
    try:
        when = parsedate_to_datetime(text)
        return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
