"""Keeps what the worklist sorts, filters and finds studies by; in the same way for those that came before it did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicom_node.core.entities import PatientNumber
from dicom_node.core.search_key import SearchKeys
from dicom_node.headers.demographics import Demographics
from dicom_node.index.database import Database
from dicom_node.index.received.worklist import UnlistedStudy, enter, list_anew, unlisted

_BATCH, _BATCHES = 50, 20
_LONGEST_NUMBER = 64
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class WorklistSweep:
    """Works studies out that something has happened to. `authority` gave out the numbers of images that name nobody;
    `read` tells whose stored objects are, for studies from before their numbers were kept."""

    database: Database
    keys: SearchKeys
    authority: str
    path_of: Callable[[str], Path]
    read: Callable[[Sequence[Path]], list[Demographics | None]]
    _is_known_secret: bool = field(default=False, init=False)

    def run(self) -> None:
        """Work out what waits, at most a thousand studies, for the next run to go on. Raises `IndexUnavailable`."""
        self._look_at_secret()
        for _ in range(_BATCHES):
            with self.database.read() as connection:
                waiting = unlisted(connection, _BATCH)
            told = self._with_patients(waiting)
            if told:
                with self.database.write() as connection:
                    enter(connection, told, self.keys, self.authority)
            if len(waiting) < _BATCH:
                return

    def _look_at_secret(self) -> None:
        if self._is_known_secret:
            return
        with self.database.write() as connection:
            others = list_anew(connection, self.keys)
        if others:
            _log.warning("the key by which studies are found is another: they are worked out again",
                         extra={"studies": others})  # fmt: skip
        self._is_known_secret = True

    def _with_patients(self, waiting: Sequence[UnlistedStudy]) -> list[UnlistedStudy]:
        """Add whose the studies are of which the index does not know it."""
        asked = [one for one in waiting if one.patient is None and one.object_key]
        heard = self.read([self.path_of(one.object_key) for one in asked])
        numbers = {
            one.study_instance_uid: PatientNumber(said.patient_id, said.issuer)
            for one, said in zip(asked, heard, strict=True)
            if said and said.patient_id and max(len(said.patient_id), len(said.issuer)) <= _LONGEST_NUMBER
        }
        return [replace(one, heard=numbers.get(one.study_instance_uid)) for one in waiting]
