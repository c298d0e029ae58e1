"""Names of SOP classes; the dictionary of pydicom lags behind that of pynetdicom."""

from __future__ import annotations

import re

from pydicom.uid import UID
from pynetdicom.sop_class import _STORAGE_CLASSES

_KEYWORDS = {uid: keyword for keyword, uid in _STORAGE_CLASSES.items()}


def sop_class_name(uid: str) -> str:
    """Return the name of a SOP class, and any other UID as it is."""
    name = UID(uid).name
    if name != uid or uid not in _KEYWORDS:
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _KEYWORDS[uid])
