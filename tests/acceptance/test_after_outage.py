"""What waited for receivers of every kind that were away goes out when they are back: in order, once each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.after_outage import drained, report
from tests.support.campaign import IS_CAMPAIGN, amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(600, campaign=5400))]

RESULTS = amount(20, campaign=500)
#: Away for a working day, or for as long as it takes that the node asks seldom.
MINUTES = amount(5, campaign=480)


def test_what_waited_arrives_once_and_the_urgent_first(tmp_path: Path) -> None:
    found = {one.receiver: one for one in drained(tmp_path, RESULTS, MINUTES)}
    print(report([*found.values()], MINUTES))
    assert set(found) == {"pacs", "ehr", "ris", "hook", "files"}
    for one in found.values():
        assert (one.results, one.came_twice, one.out_of_order) == (RESULTS, 0, 0), one
        if IS_CAMPAIGN:
            assert one.last_s < 600, one
    assert found["pacs"].objects == found["files"].objects == 2 * RESULTS
