"""The clock against time servers: chronyd, and one that answers wrongly in every way that a packet can."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.config.running import TimeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import TimeUnavailable
from dicom_node.doctor.machine import check_time_servers
from dicom_node.operate.clock import ClockState, ClockWatch, fault_of, kernel_synchronised, time_servers
from dicom_node.operate.time_servers import Reading, TimeServer, agreed, ask
from tests.peers.chrony import running_chronyd
from tests.peers.time_server import answer_to, ntp_time, time_server
from tests.support.api_client import client_of, parts_over, seeded_database

SOON_S = 0.3


def watch_of(*ports: int, **settings: float) -> ClockWatch:
    return ClockWatch(TimeSettings(servers=tuple(f"127.0.0.1:{port}" for port in ports), **settings))  # type: ignore[arg-type]


def state_of(watch: ClockWatch) -> ClockState:
    state = watch.state()
    assert state is not None
    return state


def test_chronyd_tells_the_time_and_the_clock_is_well(tmp_path: Path) -> None:
    with running_chronyd(tmp_path / "chrony") as port:
        reading = ask(TimeServer("127.0.0.1", port), 10)
        # Both read one clock: what is between them is the way there and back, whose half the node knows.
        assert abs(reading.offset_s) <= reading.error_s + 0.001
        assert (reading.stratum, reading.server) == (8, f"127.0.0.1:{port}")
        watch = watch_of(port)
        watch.run()
        assert (state_of(watch).fault, state_of(watch).offset_s is not None) == ("", True)
        checks = check_time_servers(Settings(time=TimeSettings(servers=(f"127.0.0.1:{port}",))))
        assert [(check.name, check.ok) for check in checks] == [(f"time server 127.0.0.1:{port}", True)]


def test_a_chronyd_that_does_not_know_the_time_itself_is_not_believed(tmp_path: Path) -> None:
    with (
        running_chronyd(tmp_path / "chrony", local="") as port,
        pytest.raises(TimeUnavailable, match=r"unsynchronised|kiss"),
    ):
        ask(TimeServer("127.0.0.1", port), 10)


@pytest.mark.parametrize("ahead_s", [0.0, 2.5, -2.5, 86400.0, 20 * 365 * 86400.0])
def test_an_offset_is_measured_on_both_sides_and_into_the_next_era(ahead_s: float) -> None:
    with time_server(lambda question: [answer_to(question, ahead_s)]) as server:
        reading = ask(TimeServer("127.0.0.1", server.port), 10)
    assert abs(reading.offset_s - ahead_s) <= reading.error_s + 0.001


def test_a_question_tells_nothing_of_the_node_and_is_no_two_times_the_same() -> None:
    with time_server() as server:
        for _ in range(2):
            ask(TimeServer("127.0.0.1", server.port), 10)
    first, second = server.questions
    assert (len(first), first[:40]) == (48, b"\x23" + bytes(39))
    assert first[40:] != second[40:]


#: Bytes of an answer from an offset on, and what is said of it.
USELESS: Mapping[str, tuple[Mapping[int, bytes], str]] = {
    "leap indicator 3": ({0: b"\xe4"}, "unsynchronised"),
    "stratum 16": ({1: b"\x10"}, "unsynchronised"),
    "kiss of death": ({1: b"\x00", 12: b"DENY"}, "DENY"),
    "no time of its own": ({40: bytes(8)}, "cannot be"),
    "never received": ({32: bytes(8)}, "cannot be"),
    "answered before it was asked": ({40: ntp_time(0x5A000000)}, "cannot be"),
    "set after it answered": ({16: ntp_time(time.time() + 3600)}, "cannot be"),
    "another question's": ({24: b"\x01" * 8}, "does not answer"),
    "no question's": ({24: bytes(8)}, "does not answer"),
    "a client's": ({0: b"\x23"}, "does not answer"),
    "a broadcast": ({0: b"\x25"}, "does not answer"),
}


@pytest.mark.parametrize("name", USELESS)
def test_an_answer_that_tells_no_time_is_refused(name: str) -> None:
    fields, why = USELESS[name]
    with (
        time_server(lambda question: [answer_to(question, 0, fields)]) as server,
        pytest.raises(TimeUnavailable, match=why),
    ):
        ask(TimeServer("127.0.0.1", server.port), SOON_S)


def test_forged_answers_before_the_right_one_are_passed_over() -> None:
    def forged_first(question: bytes) -> list[bytes]:
        forged = answer_to(question, 3600, {24: b"\x07" * 8})
        return [b"", b"\x24" * 47, forged, forged, answer_to(question)]

    with time_server(forged_first) as server:
        assert abs(ask(TimeServer("127.0.0.1", server.port), 10).offset_s) < 60


def test_an_answer_from_another_address_is_not_heard() -> None:
    with time_server() as asked, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:

        def from_elsewhere(question: bytes) -> list[bytes]:
            other.sendto(answer_to(question), asked.askers[-1])
            return []

        asked.answers = from_elsewhere
        with pytest.raises(TimeUnavailable, match="does not answer"):
            ask(TimeServer("127.0.0.1", asked.port), SOON_S)
        assert len(asked.askers) == 1


def test_nobody_there_and_no_such_name_are_told() -> None:
    with time_server() as server:
        free = server.port
    with pytest.raises(TimeUnavailable, match="cannot be asked"):
        ask(TimeServer("127.0.0.1", free), 10)
    with pytest.raises(TimeUnavailable, match="no address"):
        ask(TimeServer("time.invalid"), SOON_S)


def _said(offset_s: float, error_s: float = 0.01) -> Reading:
    return Reading("", offset_s, error_s, 2)


@pytest.mark.parametrize(
    ("offsets", "believed"),
    [
        ([0.0], 0.0),
        ([0.0, 0.015], 0.0),
        ([0.0, 5.0], None),
        ([5.0, 0.0, 0.01], 0.0),
        ([0.0, 5.0, 9.0], None),
        ([], None),
    ],
)
def test_more_than_half_of_the_servers_must_agree(offsets: list[float], believed: float | None) -> None:
    best = agreed([_said(one) for one in offsets])
    assert (best and best.offset_s) == believed if best else believed is None


def test_a_clock_that_is_off_is_told_until_it_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ahead = [2.5]
    database = seeded_database(tmp_path)
    with time_server(lambda question: [answer_to(question, ahead[0])]) as server:
        watch = watch_of(server.port)
        api = client_of(replace(parts_over(database, tmp_path), clock=watch.state))
        with caplog.at_level(logging.INFO):
            watch.run()
            watch.run()
            told = api.get("/api/status").json()["clock"]
            assert "s behind 127.0.0.1" in told["fault"]
            assert told["offset_s"] == pytest.approx(2.5, abs=0.5)
            # It takes studies all the same: a node without them helps nobody's clock.
            assert api.stranger().get("/readyz").json()["clock_fault"] == told["fault"]
            ahead[0] = 0.0
            watch.run()
    assert api.get("/api/status").json()["clock"]["fault"] == ""
    assert [record.message for record in caplog.records if record.name == "dicom_node.operate.clock"] == [
        "clock not to be believed", "clock is well"
    ]  # fmt: skip
    database.close()


def test_servers_that_contradict_each_other_and_one_that_is_too_unsure_are_told() -> None:
    unsure = {8: (2 << 16).to_bytes(4, "big")}
    with ExitStack() as stack:
        right, wrong, vague = (
            stack.enter_context(time_server(lambda question, a=ahead_s, f=fields: [answer_to(question, a, f)]))  # type: ignore[misc]
            for ahead_s, fields in ((0.0, {}), (60.0, {}), (0.0, unsure))
        )
        watch = watch_of(right.port, wrong.port, vague.port)
        watch.run()
    state = state_of(watch)
    assert "contradict" in state.fault
    assert "unsure by 2 s" in state.servers[f"127.0.0.1:{vague.port}"]
    assert state.offset_s is None


def test_silence_is_told_after_a_while_and_a_server_that_wants_no_questions_gets_none() -> None:
    now = [0.0]
    with ExitStack() as stack:
        denies, asks_for_less = (
            stack.enter_context(time_server(lambda question, c=code: [answer_to(question, 0, {1: b"\0", 12: c})]))  # type: ignore[misc]
            for code in (b"DENY", b"RATE")
        )
        settings = TimeSettings(
            servers=tuple(f"127.0.0.1:{one.port}" for one in (denies, asks_for_less)),
            ask_every_s=100,
            silent_after_s=350,
        )
        watch = ClockWatch(settings, lambda: now[0])
        asked = []
        for now[0] in range(0, 1000, 100):
            watch.run()
            asked.append((len(denies.questions), len(asks_for_less.questions)))
            assert bool(state_of(watch).fault) == (now[0] >= 350)
    # RATE: after 200 s, then after 400 s more.
    assert asked == [(1, 1), (1, 1), (1, 2), (1, 2), (1, 2), (1, 2), (1, 3), (1, 3), (1, 3), (1, 3)]
    assert "kiss-o'-death 'DENY'" in state_of(watch).fault


def test_the_doctor_tells_of_a_server_and_of_the_clock() -> None:
    with time_server(lambda question: [answer_to(question, -90)]) as server:
        settings = Settings(time=TimeSettings(servers=(f"127.0.0.1:{server.port}", "time.invalid")))
        checks = check_time_servers(settings)
    assert [check.ok for check in checks] == [True, False, False]
    assert "s ahead of" in checks[2].text
    assert all(check.advice for check in checks[1:])


def test_without_a_server_nothing_is_asked_and_nothing_is_claimed() -> None:
    watch = ClockWatch(TimeSettings())
    watch.run()
    assert watch.state() is None
    assert fault_of([], 1) == ""
    assert kernel_synchronised() in {True, False, None}


@pytest.mark.parametrize("server", ["", "http://ntp.site", "ntp.site:0", "ntp.site:99999", "ntp.site/x", "u@ntp.site"])
def test_what_is_no_server_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        TimeSettings(servers=(server,))


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [("ntp.site", "ntp.site", 123), ("[::1]:1123", "::1", 1123), ("10.0.0.1:1", "10.0.0.1", 1)],
)
def test_a_server_may_have_a_port(server: str, host: str, port: int) -> None:
    assert time_servers(TimeSettings(servers=(server,))) == [TimeServer(host, port)]
