"""Arrivals are entered; where they are other versions of what is in use, the two are compared first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from sqlalchemy import Connection

from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.core.received.versions import NOT_COMPARED, Comparison, Difference, NotYetCompared, StoredVersion
from dicom_node.index.database import Database
from dicom_node.sandbox.host import ProcessLimits, Sandbox
from dicom_node.storage.spool import Spool

#: For one pair; and for all that are entered together, after which the rest counts as changed: others wait as well.
_LIMITS, _BATCH_LIMIT_S = ProcessLimits(time_s=20.0, address_space_mb=4096), 60.0
#: Versions that come together are compared one after the other; more of one instance count as changed.
_ROUNDS = 4
_log = logging.getLogger(__name__)

Result = TypeVar("Result")


class VersionComparer:
    """Compares files of the spool in a child process that starts with the first pair. Safe to share between threads."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._sandbox = Sandbox("dicom_node.headers.comparison:compare", answer=Difference | None, limits=_LIMITS)

    def enter(self, enter: Callable[[Connection, Comparison], Result]) -> Result:
        """Call `enter` in a transaction, and again with what it asks for: see `index.arrivals.add_instances`.

        What is new or a duplicate, nearly everything, costs nothing more. A comparison is made between two attempts,
        for no transaction may wait for a codec. Raises `IndexUnavailable`.
        """
        comparison, until = Comparison(asks=True), time.monotonic() + _BATCH_LIMIT_S
        for _ in range(_ROUNDS):
            try:
                with self._database.write() as connection:
                    return enter(connection, comparison)
            except NotYetCompared as asked:
                found = {(old.sha256, new.sha256): self._difference(old, new, until) for old, new in asked.pairs}
                studies = comparison.studies | asked.studies
                comparison = replace(comparison, differences={**comparison.differences, **found}, studies=studies)
        with self._database.write() as connection:
            return enter(connection, replace(comparison, asks=False))

    def _difference(self, old: StoredVersion, new: StoredVersion, until: float) -> Difference:
        if time.monotonic() > until:
            return NOT_COMPARED
        pair = (self._spool.path(old.object_key), self._spool.path(new.object_key))
        try:
            found = cast("Difference | None", self._sandbox.run(pair))
        except (WorkerDied, InferenceError) as error:
            extra = {"why": str(error), "object": new.object_key}
            _log.warning("two versions of an instance cannot be compared", extra=extra)
            return NOT_COMPARED
        return NOT_COMPARED if found is None else found

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()
