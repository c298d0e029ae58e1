"""When a study counts as complete."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.core.received.completeness import Arrivals, judge

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def after(seconds):
    return START + timedelta(seconds=seconds)


def test_a_study_still_arriving_waits_for_the_rest_of_the_quiet_period():
    verdict = judge(Arrivals(START, after(10), 0), quiet_period_s=30, max_wait_s=7200, now=after(15))
    assert (verdict.ready, verdict.partial, verdict.wait_s) == (False, False, 25)
    assert verdict.reason == "Waiting: last image 5 s ago (quiet period 30 s)."


def test_a_quiet_study_is_complete():
    verdict = judge(Arrivals(START, after(10), 0), quiet_period_s=30, max_wait_s=7200, now=after(40))
    assert (verdict.ready, verdict.partial, verdict.wait_s) == (True, False, 0)
    assert verdict.reason == "Complete: no image for 30 s (quiet period 30 s)."


def test_an_open_association_holds_a_quiet_study():
    verdict = judge(Arrivals(START, after(10), 1), quiet_period_s=30, max_wait_s=7200, now=after(100))
    assert not verdict.ready
    assert 0 < verdict.wait_s <= 1
    assert verdict.reason == "Waiting: 1 association still open, last image 90 s ago (quiet period 30 s)."


def test_silence_about_the_study_for_a_few_quiet_periods_ends_the_hold_of_an_association_that_stays_open():
    """A router keeps one association open all day; what it does on it for other studies tells nothing of this one."""
    verdict = judge(Arrivals(START, after(10), 1), quiet_period_s=30, max_wait_s=7200, now=after(10 + 4 * 30))
    assert (verdict.ready, verdict.partial) == (True, False)
    assert verdict.reason == "Complete: no image for 120 s (quiet period 30 s), 1 association still open."


def test_a_quiet_study_that_an_open_association_holds_is_not_partial_at_the_cap():
    verdict = judge(Arrivals(START, after(7150), 1), quiet_period_s=30, max_wait_s=7200, now=after(7200))
    assert (verdict.ready, verdict.partial) == (True, False)


def test_the_hard_cap_cuts_off_even_what_still_arrives():
    verdict = judge(Arrivals(START, after(7199), 2), quiet_period_s=30, max_wait_s=7200, now=after(7200))
    assert (verdict.ready, verdict.partial) == (True, True)
    assert "Cut off after 7200 s (limit 7200 s)" in verdict.reason
    assert "2 associations still open" in verdict.reason


def test_a_study_that_was_quiet_before_the_cap_is_not_partial():
    verdict = judge(Arrivals(START, after(10), 0), quiet_period_s=30, max_wait_s=60, now=after(9000))
    assert (verdict.ready, verdict.partial) == (True, False)


def test_a_clock_set_back_never_makes_a_study_ready():
    assert not judge(Arrivals(START, after(10), 0), quiet_period_s=30, max_wait_s=7200, now=after(-600)).ready


@given(
    last=st.floats(0, 10_000),
    later=st.floats(0, 10_000),
    open_associations=st.integers(0, 3),
    quiet=st.floats(0.1, 600),
    cap=st.floats(0.1, 10_000),
)
def test_every_study_is_ready_or_says_when_to_ask_again(last, later, open_associations, quiet, cap):
    verdict = judge(Arrivals(START, after(last), open_associations), quiet, cap, after(last + later))
    assert verdict.ready == (verdict.wait_s == 0) or verdict.wait_s < 1e-3
    assert verdict.ready or not verdict.partial
    assert judge(Arrivals(START, after(last), open_associations), quiet, cap, after(last + cap + 1)).ready
