"""How long a destination that takes nothing is left in peace, and when it is asked whether it is back."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dicom_node.deliver.dispatch.outage import BackOff, Outage

BACK_OFF = BackOff(5.0, 600.0)


def outage() -> Outage:
    one = Outage(BACK_OFF, 1000.0)
    one.attempt_failed(1000.0, answered=False)
    return one


def test_attempts_are_as_far_apart_as_the_outage_has_lasted_up_to_the_longest() -> None:
    one, now, waits = outage(), 1000.0, []
    while now < 1000.0 + 3600.0:
        began = now
        while not one.is_attempt_due(now):
            now += 0.5
        waits.append(now - began)
        one.attempt_failed(now, answered=False)
    assert 4.5 <= waits[0] <= 6
    assert all(later >= 0.75 * earlier for earlier, later in pairwise(waits))
    assert max(waits) <= 660.5
    assert len(waits) < 16


def test_failures_in_one_moment_do_not_lengthen_the_wait() -> None:
    one = outage()
    for _ in range(1000):
        one.attempt_failed(1000.0, answered=False)
    assert one.is_attempt_due(1006.0)


def test_a_destination_that_answers_again_is_tried_at_once_and_only_once() -> None:
    one = outage()
    one.asked(1004.0, answered=False)
    assert not one.is_attempt_due(1004.0)
    one.asked(1009.0, answered=True)
    assert one.is_attempt_due(1009.0)
    one.attempt_failed(1009.0, answered=True)
    one.asked(1010.0, answered=True)
    assert not one.is_attempt_due(1010.0)


@pytest.mark.parametrize(("away_s", "every_s"), [(0, 5), (24, 5), (300, 5), (900, 15), (1800, 30), (86400, 30)])
def test_it_is_asked_every_few_seconds_for_as_long_as_it_is_away(away_s: float, every_s: float) -> None:
    one, now = outage(), 1000.0 + away_s
    one.asked(now, answered=False)
    assert not one.is_to_be_asked(now + every_s - 0.1)
    assert one.is_to_be_asked(now + every_s)


def test_the_wish_of_the_destination_counts_where_it_is_longer() -> None:
    one = outage()
    one.attempt_failed(1000.0, answered=True, at_least_s=120.0)
    assert not one.is_attempt_due(1119.0)
    assert one.is_attempt_due(1121.0)
