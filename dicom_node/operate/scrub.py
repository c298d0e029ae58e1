"""Reads every kept object again, slowly, and compares its digest: damage is found before the object is needed.

How far it has come is in the index, so that a restart goes on there. What is known to be damaged is looked at again in
every run: a file that was restored from a backup is whole from then on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.index.damage import (
    DamagedKind,
    KeptObject,
    after_place,
    move_place,
    note_damaged,
    note_repaired,
    noted_damage,
    objects_at,
)
from dicom_node.index.database import Database
from dicom_node.storage.spool import Spool

#: Kinds of object, in the order in which a round goes through them.
_ROUND = (DamagedKind.IMAGE, DamagedKind.RESULT)
_BATCH = 64
_NOTED = 100
#: However long nothing was read, no more than this is read at once, in seconds' worth.
_LONGEST_BURST_S = 60.0
_MEGABYTE = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Scrub:
    """The search for damage, a piece in each run; `mb_s` is how much it may read, 0: only what is known is looked at
    again."""

    database: Database
    spool: Spool
    mb_s: float
    clock: Callable[[], float] = time.monotonic
    _last_run: float = field(init=False)
    #: What may be read now, in bytes; negative after a large object, which is paid off by waiting.
    _budget: float = 0.0
    _turn: int = 0

    def __post_init__(self) -> None:
        self._last_run = self.clock()

    def run(self) -> None:
        """Look again at what is damaged, then at the next objects. Raises `IndexUnavailable`."""
        self._look_again()
        now = self.clock()
        allowance = self.mb_s * _MEGABYTE
        self._budget = min(self._budget + (now - self._last_run) * allowance, _LONGEST_BURST_S * allowance)
        self._last_run = now
        while self._budget > 0 and self._read_some():
            pass

    def _read_some(self) -> bool:
        """Read the next objects of a kind; `False` when a round has ended, for the next run to begin another."""
        kind = _ROUND[self._turn % len(_ROUND)]
        with self.database.read() as connection:
            batch = after_place(connection, kind, _BATCH)
        looked_at = self._read(batch)
        damaged = [key for one in looked_at for key in one.keys if not self.spool.is_whole(key)]
        with self.database.write() as connection:
            move_place(connection, kind, looked_at[-1].place if looked_at else "", datetime.now(UTC))
        self._tell(damaged)
        if looked_at:
            return True
        self._turn += 1
        return self._turn % len(_ROUND) != 0

    def _read(self, batch: Sequence[KeptObject]) -> Sequence[KeptObject]:
        """Return as many objects as may be read now, and pay for them."""
        count = 0
        for one in batch:
            if self._budget <= 0:
                break
            self._budget -= one.size_bytes
            count += 1
        return batch[:count]

    def _look_again(self) -> None:
        with self.database.read() as connection:
            noted = noted_damage(connection, _NOTED)
        whole = [one.object_key for one in noted if one.kind in _ROUND and self.spool.is_whole(one.object_key)]
        if whole:
            with self.database.write() as connection:
                note_repaired(connection, whole, datetime.now(UTC))
            _log.info("damaged objects are whole again", extra={"objects": whole})

    def _tell(self, damaged: Sequence[str]) -> None:
        if not damaged:
            return
        with self.database.write() as connection:
            new = note_damaged(connection, objects_at(connection, damaged), datetime.now(UTC))
        for one in new:
            advice = "Look at the disk. Send the images again, analyse results again, or restore from a backup."
            _log.error("damaged object found", extra={
                "object": one.object_key, "what": one.kind.value, "uid": one.uid, "study": one.study_instance_uid,
                "advice": advice})  # fmt: skip
