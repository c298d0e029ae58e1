"""DICOM dates and times as FHIR dateTime and instant, always with a time zone where there is a time.

The zone of an image is its TimezoneOffsetFromUTC (PS3.3 C.12.1.1), or the suffix of a DT value. Most modalities write
neither: then their clock is taken to show the site's time (`FhirOptions.time_zone`, else the zone of this machine,
with the daylight saving rule of that day), because FHIR forbids a time without a zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset

_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2}):?(\d{2}):?(\d{2})?(?:\.(\d{1,6}))?")
_DATE_TIME = re.compile(r"(\d{8})(\d{4}(?:\d{2}(?:\.\d{1,6})?)?)?([+-]\d{4})?")
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")

#: Where an image says when it was taken, best first.
_ACQUISITION = (
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time as known: `at` is aware; `date_only` when the source names no time of day."""

    at: datetime
    date_only: bool

    def fhir(self) -> str:
        """Return the FHIR dateTime: a plain date, or date, time and offset."""
        if self.date_only:
            return self.at.date().isoformat()
        return self.at.isoformat(timespec="milliseconds" if self.at.microsecond else "seconds")


def fhir_instant(at: datetime) -> str:
    """Return an aware time as FHIR instant in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def study_started(dataset: Dataset, site_zone: tzinfo | None) -> Moment | None:
    """Return StudyDate and StudyTime, or `None` when the date is absent or unreadable."""
    return _from_pair(dataset, ("StudyDate", "StudyTime"), site_zone)


def earliest_acquisition(datasets: Sequence[Dataset], site_zone: tzinfo | None) -> Moment | None:
    """Return when the first of these images was taken, or `None` when none says so."""
    known = [moment for dataset in datasets if (moment := _acquired(dataset, site_zone)) is not None]
    timed = [moment for moment in known if not moment.date_only]
    return min(timed or known, key=lambda moment: moment.at, default=None)


def _acquired(dataset: Dataset, site_zone: tzinfo | None) -> Moment | None:
    whole = _DATE_TIME.fullmatch(str(dataset.get("AcquisitionDateTime") or "").strip())
    if whole:
        date, time, suffix = whole.groups()
        zone = _offset(suffix or "") or _zone(dataset, site_zone)
        return _moment(date, time or "", zone)
    candidates = (_from_pair(dataset, keywords, site_zone) for keywords in _ACQUISITION)
    return next((moment for moment in candidates if moment is not None), None)


def _from_pair(dataset: Dataset, keywords: tuple[str, str], site_zone: tzinfo | None) -> Moment | None:
    date, time = (str(dataset.get(keyword) or "").strip() for keyword in keywords)
    return _moment(date, time, _zone(dataset, site_zone))


def _moment(date: str, time: str, zone: tzinfo | None) -> Moment | None:
    day, clock = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if day is None:
        return None
    year, month, day_of_month = (int(part) for part in day.groups())
    hour, minute, second, fraction = clock.groups() if clock else ("0", "0", None, None)
    try:
        local = datetime(
            year,
            month,
            day_of_month,
            int(hour),
            int(minute),
            # A leap second (60) has no place in a datetime.
            min(int(second or 0), 59),
            int((fraction or "0").ljust(6, "0")),
        )
    except ValueError:
        return None
    return Moment(local.astimezone() if zone is None else local.replace(tzinfo=zone), date_only=clock is None)


def _zone(dataset: Dataset, site_zone: tzinfo | None) -> tzinfo | None:
    return _offset(str(dataset.get("TimezoneOffsetFromUTC") or "").strip()) or site_zone


def _offset(text: str) -> tzinfo | None:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-ahead if sign == "-" else ahead) if ahead < timedelta(hours=24) else None
