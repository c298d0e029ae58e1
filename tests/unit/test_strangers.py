"""Callers that do not get in: how much of them the log tells, and when they are not heard any more."""

from __future__ import annotations

import logging

import pytest

from dicom_node.receive.acceptor.strangers import Strangers


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def strangers(clock: Clock, caplog: pytest.LogCaptureFixture) -> Strangers:
    caplog.set_level(logging.INFO)
    return Strangers(clock)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int | None]]:
    return [(r.getMessage(), vars(r)["host"], vars(r).get("count")) for r in caplog.records]


def test_of_many_refusals_the_first_are_told_and_the_others_counted(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        strangers.refused("association rejected", "192.0.2.1", why="x")
    strangers.refused("association rejected", "192.0.2.2", why="x")
    assert told(caplog) == [("association rejected", "192.0.2.1", None)] * 5 + [
        ("association rejected", "192.0.2.2", None)
    ]
    caplog.clear()
    clock.now_s = 61
    strangers.tell_rest()
    strangers.tell_rest()
    assert told(caplog) == [("more connections were refused", "192.0.2.1", 995)]


def test_one_who_has_many_networks_does_not_fill_the_log(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_000):
        strangers.refused("association rejected", f"2001:db8:{number:x}::1", why="x")
    assert len(caplog.records) == 200
    clock.now_s = 61
    strangers.refused("association rejected", "192.0.2.1", why="x")
    assert [vars(one).get("count") for one in caplog.records[200:]] == [9_800, None]


def test_an_address_is_worn_out_until_its_minute_is_over(strangers: Strangers, clock: Clock) -> None:
    for _ in range(30):
        assert not strangers.is_worn_out("192.0.2.1")
        strangers.refused("association rejected", "192.0.2.1")
    assert strangers.is_worn_out("192.0.2.1")
    assert not strangers.is_worn_out("192.0.2.2")
    clock.now_s = 61
    assert not strangers.is_worn_out("192.0.2.1")


def test_what_was_closed_unheard_is_counted_in_the_log(
    strangers: Strangers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        strangers.refused("association rejected", "192.0.2.1")
    strangers.drop("192.0.2.1")
    caplog.clear()
    clock.now_s = 61
    strangers.refused("association rejected", "192.0.2.9")
    assert told(caplog)[0] == ("more connections were refused", "192.0.2.1", 26)


def test_a_network_of_ipv6_is_one_caller_and_mapped_ipv4_is_not(strangers: Strangers) -> None:
    for n in range(30):
        strangers.refused("association rejected", f"2001:db8::{n:x}")
        strangers.refused("association rejected", f"::ffff:192.0.2.{n}")
    assert strangers.is_worn_out("2001:db8::ffff")
    assert not strangers.is_worn_out("2001:db8:0:1::1")
    assert not strangers.is_worn_out("::ffff:192.0.2.1")


def test_the_memory_of_addresses_is_bounded(strangers: Strangers) -> None:
    for _ in range(30):
        strangers.refused("association rejected", "192.0.2.1")
    for n in range(5000):
        strangers.refused("association rejected", f"10.1.{n // 250}.{n % 250}")
    assert not strangers.is_worn_out("192.0.2.1")  # the oldest was forgotten
