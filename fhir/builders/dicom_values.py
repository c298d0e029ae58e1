"""Values of received images made fit for FHIR: dates and times with a zone, and text as Unicode on one line.

The zone of an image is its TimezoneOffsetFromUTC (PS3.3 C.12.1.1), or the suffix of a DT value. Most modalities write
neither: then their clock is taken to show the site's time (`FhirOptions.time_zone`, else the zone of this machine,
with the daylight saving rule of that day), because FHIR forbids a time without a zone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2}):?(\d{2}):?(\d{2})?(?:\.(\d{1,6}))?")
_DATE_TIME = re.compile(r"(\d{8})(\d{4}(?:\d{2}(?:\.\d{1,6})?)?)?([+-]\d{4})?")
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")

#: Of anything else an image says nothing: 00010101 and 99991231 stand for no date, and have no time in some zones.
_YEARS = range(1895, 2200)

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


def date_of(dataset: Dataset, keyword: str) -> str:
    """Return a date attribute as FHIR date; empty when it is absent, unreadable, or one that nobody has."""
    moment = _moment(str(dataset.get(keyword) or "").strip(), "", UTC)
    return moment.fhir() if moment else ""


def earliest_acquisition(datasets: Sequence[Dataset], site_zone: tzinfo | None) -> Moment | None:
    """Return when the first of these images was taken, or `None` when none says so."""
    known = [moment for dataset in datasets if (moment := _acquired(dataset, site_zone)) is not None]
    timed = [moment for moment in known if not moment.date_only]
    return min(timed or known, key=lambda moment: moment.at, default=None)


def _acquired(dataset: Dataset, site_zone: tzinfo | None) -> Moment | None:
    whole = _DATE_TIME.fullmatch(str(dataset.get("AcquisitionDateTime") or "").strip())
    if whole:
        date, time, suffix = whole.groups()
        zone = _offset(suffix or "") or zone_of(dataset, site_zone)
        return _moment(date, time or "", zone)
    candidates = (_from_pair(dataset, keywords, site_zone) for keywords in _ACQUISITION)
    return next((moment for moment in candidates if moment is not None), None)


def _from_pair(dataset: Dataset, keywords: tuple[str, str], site_zone: tzinfo | None) -> Moment | None:
    date, time = (str(dataset.get(keyword) or "").strip() for keyword in keywords)
    return _moment(date, time, zone_of(dataset, site_zone))


def _moment(date: str, time: str, zone: tzinfo | None) -> Moment | None:
    day, clock = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if day is None:
        return None
    year, month, day_of_month = (int(part) for part in day.groups())
    if year not in _YEARS:
        return None
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


def zone_of(dataset: Dataset, site_zone: tzinfo | None) -> tzinfo | None:
    """Return the zone of an image's times: its own, else the site's; `None` is the machine's."""
    return _offset(str(dataset.get("TimezoneOffsetFromUTC") or "").strip()) or site_zone


def _offset(text: str) -> tzinfo | None:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-ahead if sign == "-" else ahead) if ahead < timedelta(hours=24) else None


# --- text ------------------------------------------------------------------------------------------------------------

#: Switches of character set (ISO 2022) that pydicom leaves in text of ISO 2022 IR 58.
_DESIGNATION = re.compile(r"\x1b[\x20-\x2f]+[\x30-\x7e]")
#: Categories that FHIR strings must not hold, or that break lines: control, surrogate, line and paragraph separators.
_UNWANTED = {"Cc", "Cs", "Zl", "Zp"}
#: Marks that turn the direction of text and so can disguise it; joiners, which some scripts need, stay.
_DIRECTION_MARKS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def one_line(text: str) -> str:
    """Replace control characters and direction marks by spaces and runs of spaces by one."""
    plain = _DESIGNATION.sub("", text)
    return " ".join("".join(" " if _is_unwanted(character) else character for character in plain).split())


def source_text(dataset: Dataset, keyword: str) -> str:
    """Return the value of a text attribute on one line; empty when it is absent."""
    value = dataset.get(keyword)
    return "" if value is None else one_line(str(value))


def person_name(dataset: Dataset) -> str:
    """Return PatientName for people: each group (alphabetic, ideographic, phonetic; PS3.5 6.2.1) as it was sent."""
    groups = (one_line(group.replace("^", " ")) for group in name_groups(dataset))
    return " / ".join(group for group in groups if group)


def name_groups(dataset: Dataset) -> Sequence[str]:
    """Return the groups of PatientName in their order, with ``^`` between components, whatever their length."""
    name = PersonName(str(dataset.get("PatientName") or ""), validation_mode=IGNORE)
    return str(name).split("=")


def _is_unwanted(character: str) -> bool:
    point = ord(character)
    # XML has no place for the code points that Unicode keeps from being characters, and the narrative is XHTML.
    is_no_character = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return is_no_character or point in _DIRECTION_MARKS or unicodedata.category(character) in _UNWANTED
