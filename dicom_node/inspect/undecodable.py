"""What decoders raise for pixels that are cut off, mislabelled or of a kind they do not know."""

from __future__ import annotations

import struct

UNDECODABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
)


def why(error: Exception) -> str:
    """Return the reason in one short line; pixel decoders quote no patient."""
    return " ".join(str(error).split())[:200] or type(error).__name__
