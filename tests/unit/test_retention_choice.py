"""What may be deleted of a study, and why everything else stays: one table of rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dicom_node.core.entities import KeptKind, StudyState
from dicom_node.core.retention.disk_forecast import FEWEST_DAYS, DiskSample, Growth, forecast
from dicom_node.core.retention.rules import (
    STAY_RULES,
    RetentionLimits,
    StudyFacts,
    choice_by_age,
    choice_for_space,
    why_it_stays,
)

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OLD = StudyFacts(
    study_instance_uid="1.2.3", state=StudyState.REPORTED, last_active_at=NOW - timedelta(days=100), images=500,
    image_bytes=262 << 20, results=6, result_bytes=4 << 20,
)  # fmt: skip
WITHOUT_IMAGES = replace(OLD, images=0, image_bytes=0)
LIMITS = RetentionLimits(images_days=90, results_days=400, keep_free_bytes=5000 << 20)

KEPT = {
    "HELD": {"held_by": "anna", "held_because": "a teaching case"},
    "ARRIVING": {"state": StudyState.RECEIVING},
    "ANALYSING": {"state": StudyState.ANALYSING},
    "SUSPENDED_ROUTE": {"suspended_routes": 1},
    "OWED": {"owed": 2},
    "TO_TAKE_BACK": {"to_take_back": 1},
    "UNDER_REVIEW": {"reviews_under_way": 1},
}


def test_what_no_rule_keeps_may_go() -> None:
    assert why_it_stays(OLD, KeptKind.IMAGES) is None
    assert why_it_stays(WITHOUT_IMAGES, KeptKind.RESULTS) is None


@pytest.mark.parametrize("code", KEPT)
@pytest.mark.parametrize("kind", KeptKind)
def test_a_state_keeps_a_study_whatever_its_age_and_however_full_the_disk_is(code: str, kind: KeptKind) -> None:
    facts = replace(OLD if kind is KeptKind.IMAGES else WITHOUT_IMAGES, **KEPT[code])
    stays = why_it_stays(facts, kind)
    assert stays is not None
    assert (stays.code, stays.text.endswith((".", "case"))) == (code, True)
    chosen = choice_by_age(facts, LIMITS, NOW)
    assert chosen is not None
    assert (chosen.goes, chosen.stays) == (False, stays)
    assert not choice_for_space(facts, kind, LIMITS, NOW).goes


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"open_associations": 1}, "ARRIVING"),
        ({"retrievals": 1}, "ARRIVING"),
        ({"waiting_jobs": 1}, "ANALYSING"),
        ({"state": StudyState.COMPLETE}, "ANALYSING"),
        ({"being_reviewed": True}, "UNDER_REVIEW"),
    ],
)
def test_each_sign_of_work_keeps_it(facts: dict[str, object], code: str) -> None:
    stays = why_it_stays(replace(OLD, **facts), KeptKind.IMAGES)
    assert stays is not None
    assert stays.code == code


def test_results_stay_until_the_images_are_gone_and_it_is_proved_where_they_are() -> None:
    first = why_it_stays(OLD, KeptKind.RESULTS)
    assert first is not None
    assert first.code == "IMAGES_FIRST"
    asked = replace(WITHOUT_IMAGES, unproved=3)
    still = why_it_stays(asked, KeptKind.RESULTS)
    assert still is not None
    assert (still.code, still.text) == ("NOT_PROVED", "Whether 3 objects arrived is still being asked.")
    assert why_it_stays(replace(OLD, unproved=3), KeptKind.IMAGES) is None  # images are not what is asked about


def test_every_rule_of_the_table_is_tried_here() -> None:
    assert {rule.code for rule in STAY_RULES} == {*KEPT, "NOT_PROVED", "IMAGES_FIRST"}


@pytest.mark.parametrize(("days", "goes"), [(89, False), (90, True), (3650, True)])
def test_images_go_by_the_age_of_what_happened_last(days: int, goes: bool) -> None:
    facts = replace(OLD, last_active_at=NOW - timedelta(days=days))
    chosen = choice_by_age(facts, LIMITS, NOW)
    assert chosen is not None
    assert (chosen.kind, chosen.goes, chosen.rule) == (KeptKind.IMAGES, goes, "images_days = 90" if goes else "")
    if not goes:
        assert chosen.stays is not None
        assert chosen.stays.text == "Last active 89 days ago; images_days = 90."


def test_results_go_later_by_a_limit_of_their_own() -> None:
    young = choice_by_age(WITHOUT_IMAGES, LIMITS, NOW)
    old = choice_by_age(replace(WITHOUT_IMAGES, last_active_at=NOW - timedelta(days=400)), LIMITS, NOW)
    assert young is not None
    assert old is not None
    assert (young.goes, old.rule) == (False, "results_days = 400")
    assert choice_by_age(replace(WITHOUT_IMAGES, results=0), LIMITS, NOW) is None


def test_without_a_limit_nothing_goes_by_age() -> None:
    chosen = choice_by_age(replace(OLD, last_active_at=NOW - timedelta(days=9000)), RetentionLimits(), NOW)
    assert chosen is not None
    assert chosen.stays is not None
    assert (chosen.stays.code, RetentionLimits().is_set) == ("NO_LIMIT", False)


def test_want_of_space_takes_what_is_young_but_not_what_is_in_the_making() -> None:
    yesterday = replace(OLD, last_active_at=NOW - timedelta(days=1))
    just_now = replace(OLD, last_active_at=NOW - timedelta(minutes=59))
    assert choice_for_space(yesterday, KeptKind.IMAGES, LIMITS, NOW).rule == "keep_free_mb = 5000"
    stays = choice_for_space(just_now, KeptKind.IMAGES, LIMITS, NOW).stays
    assert stays is not None
    assert stays.code == "YOUNG"


# --- when the disk is full -------------------------------------------------------------------------------------------


def samples(*used_gb: float) -> list[DiskSample]:
    return [DiskSample(day, int(gb * (1 << 30)), 1 << 40) for day, gb in enumerate(used_gb)]


def test_too_few_days_foretell_nothing() -> None:
    told = forecast(samples(*range(FEWEST_DAYS - 1)), 1 << 40, NOW)
    assert (told.growth, told.full_on) == (Growth.TOO_FEW_DAYS, None)
    assert told.text.startswith("Not enough data")


@pytest.mark.parametrize("used", [(7, 7, 7, 7, 7), (9, 8, 7, 6, 5), (5, 9, 5, 9, 5, 9, 5)])
def test_a_disk_that_does_not_grow_is_never_full(used: tuple[int, ...]) -> None:
    told = forecast(samples(*used), 1 << 30, NOW)
    assert (told.growth, told.days, told.full_on) == (Growth.NOT_GROWING, None, None)


def test_a_steady_growth_is_foretold_to_the_day() -> None:
    told = forecast(samples(*range(10, 40, 2)), 60 << 30, NOW)
    assert (told.growth, told.days, told.full_on) == (Growth.GROWING, 30.0, NOW + timedelta(days=30))
    assert told.text == "Full on 2026-12-30, in 30 days: it grows by 2,048 MB a day."


def test_a_day_of_copying_and_a_day_of_tidying_change_little() -> None:
    used = [10 + 2 * day + (300 if day == 4 else 0) - (15 if day == 9 else 0) for day in range(14)]
    told = forecast(samples(*used), 60 << 30, NOW)
    assert told.days == pytest.approx(30, rel=0.1)


def test_days_that_nobody_looked_are_no_days_without_growth() -> None:
    found = [one for one in samples(*range(0, 60, 2)) if one.day % 7 not in (5, 6)]
    assert forecast(found, 60 << 30, NOW).days == 30.0
