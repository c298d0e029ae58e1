"""In how many ways a regular expression can be tried on a text: Python's `re` goes back and tries them one by one.

The expression is read as `re` itself reads it, so that no spelling of it hides what it does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from re import _parser  # type: ignore[attr-defined]  # what `re.compile` reads a pattern with; there is no other reader
from typing import Any

#: The longest text of most attributes (PS3.5 6.2, LO).
_CHARACTERS = 64
#: So many ways take a second at most on such a text.
MOST_WAYS = 2_000_000
_REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


def ends_soon(pattern: str) -> bool:
    """Tell whether an expression has so few ways that it ends soon on any text. Raises `re.error` for one that is none.

    Counted are those that could be gone, not those that some text leads to: never too few.
    """
    try:
        return _bits(_parser.parse(pattern, re.IGNORECASE)) <= math.log2(MOST_WAYS)
    except (RecursionError, OverflowError):  # nested too deeply, or repeated more often than `re` can count
        return False


def _bits(parts: Iterable[tuple[Any, Any]]) -> float:
    """Return the binary logarithm of the ways of parts that come one after the other."""
    return sum(_bits_of(str(kind), argument) for kind, argument in parts)


def _bits_of(kind: str, argument: Any) -> float:
    if kind in _REPEATS:
        least, most, body = argument
        often = min(int(most), _CHARACTERS)
        return often * _bits(body) + math.log2(max(1, often - int(least) + 1))
    if kind == "BRANCH":
        branches = argument[1]
        return math.log2(len(branches)) + max(map(_bits, branches))
    if kind == "GROUPREF_EXISTS":
        return sum(_bits(one) for one in argument[1:] if one is not None)
    return sum(_bits(one) for one in _within(argument))


def _within(argument: Any) -> Iterable[Any]:
    """Return the expressions that a group, or a look around, holds."""
    if isinstance(argument, _parser.SubPattern):
        return (argument,)
    return (one for one in argument if isinstance(one, _parser.SubPattern)) if isinstance(argument, tuple) else ()
