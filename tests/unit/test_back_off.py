"""How long a destination is left in peace after failures."""

from __future__ import annotations

import pytest

from dicom_node.deliver.dispatch.outage import BackOff

FIRST_S, LONGEST_S = 5.0, 600.0


@pytest.mark.parametrize(
    ("failures", "about_s"), [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (10**6, 600)]
)
def test_waits_double_up_to_the_longest_and_differ_by_a_tenth(failures: int, about_s: float) -> None:
    waits = [BackOff(FIRST_S, LONGEST_S).wait_s(failures) for _ in range(50)]
    assert all(0.9 * about_s <= wait_s <= 1.1 * about_s for wait_s in waits)
    assert len(set(waits)) > 1
