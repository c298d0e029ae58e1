"""The node stays as it is: object after object, memory, threads and descriptors of its processes do not grow."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.soak import Sample, soak
from tests.support import needs
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(600, campaign=7200))]

OBJECTS, ASSOCIATIONS = amount((2_000, 1), campaign=(100_000, 4))
#: The node remembers what it has seen, less with every step; the others hold nothing from one object to the next.
MAY_GROW_MB = {"node": 80.0, "acceptor": 10.0, "headers": 30.0}


def test_object_after_object_leaves_every_process_as_it_was(tmp_path: Path) -> None:
    needs.tool("storescu", "dcmtk")
    by_process: dict[str, list[Sample]] = defaultdict(list)
    for sample in soak(tmp_path, OBJECTS, ASSOCIATIONS):
        by_process[sample.process].append(sample)
    assert by_process.keys() == MAY_GROW_MB.keys()
    for process, samples in by_process.items():
        first, last = samples[0], samples[-1]
        assert last.objects > first.objects
        assert last.rss_mb <= first.rss_mb + MAY_GROW_MB[process], samples
        assert process == "headers" or last.thread_heaps == 0, samples  # each would keep what its thread once needed
        assert last.threads <= first.threads + 2, samples  # the scheduler's pool may grow meanwhile
        assert last.descriptors <= first.descriptors + 8, samples  # two sweeps that meet open more of the database
