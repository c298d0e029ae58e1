"""The age of the patient as the headers of an image tell it."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

_AGE = re.compile(r"(\d{3})([DWMY])")
_UNITS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def age_years(header: Dataset) -> float | None:
    """Return the age in years from PatientAge, or from the birth and study dates; `None` if neither is usable."""
    match = _AGE.fullmatch(str(header.get("PatientAge") or "").strip())
    if match:
        return int(match[1]) / _UNITS_PER_YEAR[match[2]]
    born, studied = (str(header.get(keyword) or "") for keyword in ("PatientBirthDate", "StudyDate"))
    if not (re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", studied)):
        return None
    years = int(studied[:4]) - int(born[:4]) - (studied[4:] < born[4:])
    return float(years) if years >= 0 else None
