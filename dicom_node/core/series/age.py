"""How old a patient is, from what a header says: Patient's Age, else the dates of birth and of the study."""

from __future__ import annotations

import re

#: The name of completed years among the attributes of a series.
AGE_YEARS = "age_years"

_AGE = re.compile(r"(\d{3})([DWMY])")
_UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_DATE = re.compile(r"\d{8}")


def age_in_years(stated: str, born: str, studied: str) -> float | None:
    """Return the age in years from a value of VR AS (PS3.5 6.2), or else from two dates; `None` if neither is usable.

    >>> age_in_years("018M", "", ""), age_in_years("", "20200612", "20260105"), age_in_years("5", "", "20260105")
    (1.5, 5.0, None)
    """
    match = _AGE.fullmatch(stated.strip())
    if match:
        return int(match[1]) / _UNITS_PER_YEAR[match[2]]
    if not (_DATE.fullmatch(born) and _DATE.fullmatch(studied)):
        return None
    years = int(studied[:4]) - int(born[:4]) - (studied[4:] < born[4:])
    return float(years) if years >= 0 else None


def completed_years(stated: str, born: str = "", studied: str = "") -> str:
    """Return the completed years as text, as attributes are kept; empty where nothing usable is said."""
    years = age_in_years(stated, born, studied)
    return "" if years is None else str(int(years))
