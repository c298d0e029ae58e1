"""A node left alone for a year, of which a usual run has two days pass: nothing lost or twice, the disk in bounds.

What befalls it is in a table, by day. The year itself takes an hour or more: `make campaign`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.simulated_year import Hospital, hospital
from tests.peers.process import wait_until
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(6 * 3600)]

DAYS = amount(2, campaign=365)
RETENTION = amount({"images_days": 1, "results_days": 2}, campaign={"images_days": 20, "results_days": 60})
#: It looks every minute, and is begun again by a restart.
_RETENTION_PATIENCE_S = 180.0
#: A Monday that is still to come: certificates of peers, who go by the real clock, are valid then.
_MONDAY = datetime(2027, 1, 4, 6, tzinfo=UTC)


def pacs_goes(site: Hospital) -> None:
    site.pacs.stop()


def pacs_is_back(site: Hospital) -> None:
    site.pacs.start()


def scanner_is_out_of_order(site: Hospital) -> None:
    site.silent.add("CT2")


def scanner_is_mended(site: Hospital) -> None:
    site.silent.discard("CT2")


def certificate_is_renewed(site: Hospital) -> None:
    make_certificate(site.folder / "tls", days=4000)


def database_is_restarted(site: Hospital) -> None:
    site.postgres.stop()
    site.postgres.start()


def node_is_killed(site: Hospital) -> None:
    site.node.kill9()
    site.start()


def node_is_upgraded(site: Hospital) -> None:
    """As an upgrade does it: the old one ends in order, and another begins on the same data."""
    assert site.node.stop() == 0
    site.start()


#: What happens, by day (from 0) and hour.
EVENTS: Mapping[tuple[int, int], Callable[[Hospital], None]] = amount(
    {(0, 9): pacs_goes, (0, 10): database_is_restarted, (1, 8): pacs_is_back, (1, 9): node_is_killed,
     (1, 10): node_is_upgraded},
    campaign={
        (70, 8): pacs_goes, (72, 15): pacs_is_back, (147, 8): scanner_is_out_of_order, (152, 8): scanner_is_mended,
        (205, 8): certificate_is_renewed, (110, 10): database_is_restarted, (180, 12): node_is_upgraded,
        (215, 11): node_is_killed, (260, 9): database_is_restarted, (300, 16): node_is_upgraded,
    },
)  # fmt: skip


#: What people were told of, by rule and subject; nothing else.
ALARMS = amount(
    {("results_waiting", "pacs"), ("peer_unreachable", "pacs")},
    campaign={("results_waiting", "pacs"), ("peer_unreachable", "pacs"), ("scanner_silent", "CT2"),
              ("certificate_ends", "dicom_tls")},
)  # fmt: skip


def test_a_node_left_alone_loses_nothing_doubles_nothing_and_keeps_its_disk_in_bounds(tmp_path: Path) -> None:
    make_certificate(tmp_path / "tls", days=(_MONDAY - datetime.now(UTC)).days + 210)
    tls = {"port": 0, "certificate": str(tmp_path / "tls" / "node.pem"),
           "private_key": str(tmp_path / "tls" / "node.key"), "client_certificate": "none"}  # fmt: skip
    with hospital(tmp_path, _MONDAY, {"retention": RETENTION, "dicom_tls": tls}) as site:
        site.start()
        for day in range(DAYS):
            site.day(lambda moment, day=day: happen(site, day, moment))  # type: ignore[misc]
        site.rest()
        wait_until(lambda: all(site.alarms().values()), 60, "the end of every alarm", 0.5)
        assert site.alarms().keys() == ALARMS
        site.clock.move_to(site.clock.now + timedelta(days=RETENTION["results_days"] + 9))

        assert site.sent.keys() - site.pacs.reports.keys() == set(), "studies without a report"
        assert {uid: number for uid, number in site.pacs.came.items() if number > 1} == {}
        assert set(site.pacs.reports.values()) == {1}
        assert site.rows("SELECT count(*) FROM studies")[0][0] == len(site.sent), "a study that nobody can explain"
        wait_until(lambda: site.bytes_stored() == 0, _RETENTION_PATIENCE_S, "the end of what is kept too long", 1.0)
        assert_is_bounded(site)


def make_certificate(folder: Path, days: int) -> None:
    """Write a certificate that is valid for so many days from today, and its key."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "node.key", "-out",
         folder / "node.pem", "-days", str(days), "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip


def happen(site: Hospital, day: int, moment: datetime) -> None:
    what = EVENTS.get((day, moment.hour))
    if what is not None:
        what(site)


def assert_is_bounded(site: Hospital) -> None:
    """Once as much goes as comes, no day has more than the days before; a working week more or less lies between."""
    kept = RETENTION["results_days"] + 9
    early, late = site.stored_bytes[kept : 2 * kept], site.stored_bytes[2 * kept :]
    assert not late or max(late) <= 1.2 * max(early)
