"""Retry-After: any text is read without a fault, and no wish is longer than an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.core.calls.limits import LONGEST_WAIT_S, retry_after_s


def test_a_wait_may_be_given_in_seconds_or_as_a_date() -> None:
    at = datetime.now(UTC) + timedelta(seconds=90)

    wait_s = retry_after_s(format_datetime(at, usegmt=True))

    assert retry_after_s("120") == 120
    assert wait_s is not None
    assert 30 < wait_s <= 90


def test_a_date_in_the_past_means_no_wait() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("value", ["2592000", "1000000000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wish_is_longer_than_an_hour(value: str) -> None:
    assert retry_after_s(value) == LONGEST_WAIT_S


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-3",
        "1e12",
        "nan",
        "²",
        "Wed, 21 Oct 99999999999 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999",
    ],
)
def test_an_unreadable_wait_is_none(value: str) -> None:
    assert retry_after_s(value) is None


@given(st.text() | st.from_regex(r"\w{3}, \d+ (Jan|Feb) \d+ \d+:\d+:\d+ ([+-]\d+|GMT)", fullmatch=True))
def test_any_text_is_read_without_a_fault(value: str) -> None:
    wait_s = retry_after_s(value)

    assert wait_s is None or 0 <= wait_s <= LONGEST_WAIT_S
