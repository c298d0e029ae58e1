"""Whether contrast medium was given, as a header tells."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

#: What stands in Contrast/Bolus Agent where none was given.
_NO_CONTRAST = re.compile(
    r"(none|no|not|non|nil|null|without|w[/.]?o|native?|plain|unenhanced|ohne|sans|sin|senza|n[/.]?a|0|false)\b",
    re.IGNORECASE,
)
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName")
#: In descriptions, beside words of any kind: ``T1 +C``, ``t1_mprage_km``, ``AX T1 POST GD``.
_GIVEN = re.compile(
    r"(?<![A-Z0-9])(\+ ?C|C\+|\+ ?GD|GD|GAD[A-Z]*|KM|CE|POST(?![ -]?OP)|CONTRASTE?|KONTRAST[A-Z]*|DOTAREM)"
    r"(?![A-Z0-9])"
)
_NOT_GIVEN = re.compile(r"(?<![A-Z])(NO|NON|W/?O|WITHOUT|PRE|OHNE|SANS|SIN|NATIVE?|UNENHANCED)(?![A-Z])|-C(?![A-Z])")


def contrast_was_given(header: Dataset) -> bool:
    """Tell whether contrast medium was given: Contrast/Bolus Agent (PS3.3 C.7.6.4) names one, or codes it.

    Scanners and sites write ``NONE``, ``NO CONTRAST`` or ``W/O`` into it, too.
    """
    agents = header.get("ContrastBolusAgent")
    texts = [agents] if isinstance(agents, str) else list(agents or ())
    named = [str(one).strip() for one in texts if str(one).strip(" \0-.")]
    if named:
        return not all(_NO_CONTRAST.match(one) for one in named)
    return bool(header.get("ContrastBolusAgentSequence"))


def contrast_is_described(header: Dataset) -> bool:
    """Tell whether a description of the series speaks of contrast medium that was given.

    >>> header = Dataset()
    >>> header.SeriesDescription = "t1_mprage_sag_KM"
    >>> contrast_is_described(header)
    True
    >>> header.SeriesDescription = "AX T1 PRE CONTRAST"
    >>> contrast_is_described(header)
    False
    """
    texts = [str(header.get(keyword) or "").upper().replace("_", " ") for keyword in _DESCRIPTIONS]
    return any(_GIVEN.search(text) and not _NOT_GIVEN.search(text) for text in texts)
