"""What may be told of a connection that failed: a library's own words may quote what the peer sent (h11 quotes the line
that it cannot read), and a peer that fails may well be repeating the patient."""

from __future__ import annotations


def fault_told(error: BaseException) -> str:
    """Return what the operating system or TLS says behind an error, else its type."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
