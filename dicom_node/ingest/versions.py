"""How arrivals differ from the versions of the same instances that are in use: looked at before they are entered."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import cast

from dicom_node.core.entities import Instance
from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.core.versions import NOT_COMPARED, NOTHING_COMPARED, Comparison, Difference, FilePair
from dicom_node.index.database import Database
from dicom_node.index.versions import versions_of
from dicom_node.sandbox.host import Sandbox
from dicom_node.storage.spool import Spool

#: For one pair; and for all of a batch, after which the rest counts as changed: nobody else need wait any longer.
_TIME_LIMIT_S, _BATCH_LIMIT_S = 20.0, 60.0
_MEMORY_LIMIT_MB = 4096
_log = logging.getLogger(__name__)


class VersionComparer:
    """Compares files of the spool in a child process that starts with the first pair. Safe to share between threads."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._sandbox = Sandbox(
            "dicom_node.headers.comparison:compare", time_limit_s=_TIME_LIMIT_S, memory_limit_mb=_MEMORY_LIMIT_MB
        )

    def compare(self, arrivals: Sequence[Instance]) -> Comparison:
        """Hold arrivals, whose files are in the spool, against what is in use. Raises `IndexUnavailable`.

        Costs one look into the index where nothing is known under other bytes, which is nearly always. It is made
        outside the transaction that enters the arrivals, which must not wait for a codec; should another version come
        between the two, the arrival counts as changed.
        """
        if not arrivals:
            return NOTHING_COMPARED
        with self._database.read() as connection:
            known = versions_of(connection, [arrival.sop_instance_uid for arrival in arrivals])
        in_use = {uid: version for uid, versions in known.items() if (version := versions.in_use) is not None}
        keys = {uid: (version.sha256, version.object_key) for uid, version in in_use.items()}
        differences: dict[tuple[str, str], Difference] = {}
        until = time.monotonic() + _BATCH_LIMIT_S
        for arrival in arrivals:
            new = (arrival.sha256, arrival.object_key)
            old = keys.setdefault(arrival.sop_instance_uid, new)
            if old[0] != new[0]:
                difference = self._difference(old[1], new[1], until)
                differences[old[0], new[0]] = difference
                if not difference.is_encoding_only:
                    keys[arrival.sop_instance_uid] = new
        if not known:
            return NOTHING_COMPARED
        return Comparison(differences, frozenset(version.study_instance_uid for version in in_use.values()))

    def _difference(self, old_key: str, new_key: str, until: float) -> Difference:
        if time.monotonic() > until:
            return NOT_COMPARED
        try:
            pair = FilePair(self._spool.path(old_key), self._spool.path(new_key))
            found = cast("Difference | None", self._sandbox.run(pair))
        except (WorkerDied, InferenceError) as error:
            _log.warning("two versions of an image cannot be compared", extra={"why": str(error), "object": new_key})
            return NOT_COMPARED
        return NOT_COMPARED if found is None else found

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()
