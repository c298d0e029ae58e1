"""Threads of a process that runs for months share one heap, so that what one has freed another uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
_FOUR_THREADS_ALLOCATE = """
import os
import threading
from benchmarks.soak import thread_heaps
from dicom_node.memory import share_one_heap

{first}
together = threading.Barrier(4)

def work():
    held = [bytes(2000) for _ in range(1000)]
    together.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(thread_heaps(os.getpid()))
"""


def heaps_after(first: str) -> int:
    code = _FOUR_THREADS_ALLOCATE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_threads_share_one_heap_that_would_each_have_one() -> None:
    if heaps_after("pass") == 0:
        pytest.skip("the C library gives threads no heaps of their own")
    assert heaps_after("share_one_heap()") == 0
