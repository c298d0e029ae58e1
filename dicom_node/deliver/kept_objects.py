"""What was kept, read again to be taken back: only where its bytes are still those that were written."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.fhir.json_types import Json
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.storage.spool import Spool

_log = logging.getLogger(__name__)


class KeptObjects:
    """Reads objects of the spool; `damaged` are the keys of those that are gone or hold other bytes."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.damaged: list[str] = []

    def header(self, key: str) -> Dataset | None:
        """Return the header of a DICOM object, `None` where it is damaged or there is none (no key)."""
        if not self._is_whole(key):
            return None
        try:
            return dcmread(self.spool.path(key), stop_before_pixels=True)
        except (OSError, *READ_ERRORS) as error:  # an image may have come as it is
            _log.error("object unreadable for a withdrawal", extra={"object_key": key, "why": type(error).__name__})
            return None

    def bundle(self, key: str) -> Json | None:
        """Return a FHIR bundle, `None` where it is damaged."""
        if not self._is_whole(key):
            return None
        found: Any = json.loads(self.spool.path(key).read_bytes())
        return found if isinstance(found, dict) else None

    def _is_whole(self, key: str) -> bool:
        if not key or self.spool.is_whole(key):
            return bool(key)
        _log.error("object is damaged", extra={"object_key": key, "wanted_for": "a withdrawal, made without it"})
        self.damaged.append(key)
        return False
