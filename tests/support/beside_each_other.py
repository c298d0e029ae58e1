"""Several that write to one index at the same moment, as the processes of a node do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection

from dicom_node.index.database import Database


def beside_each_other(index: Database, names: Sequence[str], *each: Callable[[Connection, str], object]) -> None:
    """For one name after the other, let every function write in a transaction of its own, all at the same time."""
    together = threading.Barrier(len(each))

    def run(one: Callable[[Connection, str], object]) -> None:
        try:
            for name in names:
                together.wait(60)
                with index.write() as connection:
                    one(connection, name)
        except BaseException:
            together.abort()  # nobody waits for one that has failed
            raise

    with ThreadPoolExecutor(len(each)) as pool:
        running = [pool.submit(run, one) for one in each]
    for one in sorted(running, key=lambda one: isinstance(one.exception(), threading.BrokenBarrierError)):
        one.result()
