"""DICOM dates and times become FHIR times with a zone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.dicom_values import earliest_acquisition, fhir_instant, study_started
from dicom_node.fhir.builders.wording import readable_time
from tests.support.results.fhir_examples import CONTEXT, OPTIONS, analysis, radiograph

SITE = timezone(timedelta(hours=1))


def started(date: str, time: str, **more: object) -> str | None:
    moment = study_started(radiograph(StudyDate=date, StudyTime=time, **more), SITE)
    return moment.fhir() if moment else None


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20261120", "101010", "2026-11-20T10:10:10+01:00"),
        ("20261120", "101010.5", "2026-11-20T10:10:10.500+01:00"),
        ("20261120", "101010.123456", "2026-11-20T10:10:10.123+01:00"),
        ("20261120", "1010", "2026-11-20T10:10:00+01:00"),
        ("20261120", "10:10:10", "2026-11-20T10:10:10+01:00"),
        ("20261120", "235960", "2026-11-20T23:59:59+01:00"),
        ("20261120", "10", "2026-11-20"),
        ("20261120", "", "2026-11-20"),
        ("2026.11.20", "", "2026-11-20"),
        ("20261340", "101010", None),
        ("", "101010", None),
        ("yesterday", "", None),
    ],
)
def test_a_dicom_date_and_time_becomes_a_fhir_date_time(date: str, time: str, expected: str | None) -> None:
    assert started(date, time) == expected


def test_the_zone_of_the_image_outranks_that_of_the_site() -> None:
    assert started("20261120", "101010", TimezoneOffsetFromUTC="-0530") == "2026-11-20T10:10:10-05:30"


def test_a_site_zone_follows_daylight_saving() -> None:
    summer = study_started(radiograph(StudyDate="20260701", StudyTime="120000"), ZoneInfo("Europe/Berlin"))

    assert summer is not None
    assert summer.fhir() == "2026-07-01T12:00:00+02:00"


def test_without_any_zone_that_of_the_machine_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = study_started(radiograph(), None)

    assert moment is not None
    assert moment.at == datetime(2026, 11, 20, 10, 10).astimezone()


def test_the_earliest_image_with_a_time_counts() -> None:
    images = [
        radiograph(AcquisitionTime="101500"),
        radiograph(AcquisitionTime="101010"),
        radiograph(AcquisitionTime=None, ContentDate="20261120"),
        radiograph(AcquisitionDateTime="20261120101400+0200"),
    ]

    moment = earliest_acquisition(images, SITE)

    assert moment is not None
    assert moment.fhir() == "2026-11-20T10:14:00+02:00"


def test_images_without_any_date_have_no_moment() -> None:
    bare = radiograph(AcquisitionDate=None, StudyDate=None)

    assert earliest_acquisition([bare], SITE) is None


def test_an_instant_is_utc_with_milliseconds() -> None:
    at = datetime(2026, 11, 20, 10, 12, 10, 123456, tzinfo=SITE)

    assert fhir_instant(at) == "2026-11-20T09:12:10.123+00:00"


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2026-11-20T10:10:10.500+01:00", "2026-11-20 10:10:10 +01:00"),
        ("2026-11-20T09:12:10.123+00:00", "2026-11-20 10:12:10 +01:00"),
        ("2026-11-20T23:30:00-05:30", "2026-11-21 06:00:00 +01:00"),
        ("2026-07-01T10:00:00+00:00", "2026-07-01 12:00:00 +02:00"),
        ("2026-11-20", "2026-11-20"),
        ("", ""),
    ],
)
def test_people_are_told_every_time_by_one_clock(moment: str, told: str) -> None:
    assert readable_time(moment, ZoneInfo("Europe/Berlin")) == told


def test_greenwich_is_told_by_name() -> None:
    assert readable_time("2026-11-20T10:10:10+01:00", UTC) == "2026-11-20 09:10:10 UTC"


@pytest.mark.parametrize(
    ("zone", "offset", "expected"),
    [(SITE, "", "+01:00"), (SITE, "-0530", "-05:30"), (None, "-0530", "-05:30"), (UTC, "", "UTC")],
)
def test_all_times_of_a_report_are_of_one_zone(zone: tzinfo | None, offset: str, expected: str) -> None:
    source = radiograph(TimezoneOffsetFromUTC=offset or None)
    bundle = build_bundle(analysis(sources=(source,)), CONTEXT, (), replace(OPTIONS, time_zone=zone))
    (report,) = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")

    shown = re.findall(r"\d\d:\d\d:\d\d ([-+:\w]+)", report["text"]["div"])
    assert shown == [expected] * 3


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)))
def test_every_dicom_time_is_kept_to_the_second(at: datetime) -> None:
    text = started(at.strftime("%Y%m%d"), at.strftime("%H%M%S"), TimezoneOffsetFromUTC="+0000")

    assert text is not None
    assert datetime.fromisoformat(text) == at.replace(microsecond=0, tzinfo=UTC)
