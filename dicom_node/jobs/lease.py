"""A claim kept while its work is done: renewed beside it, so that only what a dead node has claimed is taken over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicom_node.core.errors import IndexUnavailable

_log = logging.getLogger(__name__)


@contextmanager
def lease_kept(renew: Callable[[], None], lease_s: float, what: str) -> Iterator[None]:
    """Call `renew` three times in every lease, until the work is done; `what` names it for the log."""
    done = threading.Event()

    def keep_renewing() -> None:
        while not done.wait(lease_s / 3):
            try:
                renew()
            except IndexUnavailable as error:
                _log.warning("lease not renewed", extra={"of": what, "why": str(error)})

    thread = threading.Thread(target=keep_renewing, name=f"lease of {what}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
