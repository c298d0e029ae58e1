"""What peers proposed to send and the node does not take, counted since its start: for the operator who wonders why a
sender says that it has sent, and nothing came. Without this, an association ends with "stored 0, refused 0"."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter
from pydicom.uid import UID

from dicom_node.core.errors import SettingsError
from dicom_node.receive.channel import ContextRefused
from dicom_node.storage.folder import make_private

#: Kinds that are remembered; beyond, the one that was met longest ago is forgotten.
_MOST = 256
_MOST_NAMED = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedContexts:
    """How often one peer proposed one SOP class that was not taken, when last, in which transfer syntaxes, and why."""

    calling_ae_title: str
    host: str
    sop_class_uid: str
    sop_class_name: str
    transfer_syntaxes: Sequence[str]
    why: str
    count: int
    last_at: datetime


class Refusals:
    """Counts what was not taken, by peer, SOP class and reason. Thread-safe."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._counted: OrderedDict[ContextRefused, tuple[int, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, refused: ContextRefused) -> None:
        """Count one proposal that was refused; a line of the log tells the first of its kind.

        No warning: many archives propose all that there is, whatever they are about to send.
        """
        with self._lock:
            count, _ = self._counted.pop(refused, (0, None))
            self._counted[refused] = (count + 1, self._now())
            if len(self._counted) > _MOST:
                self._counted.popitem(last=False)
        if count == 0:
            syntaxes = [uid_name(uid) for uid in refused.transfer_syntax_uids[:_MOST_NAMED]]
            what = {"sop_class": uid_name(refused.sop_class_uid), "transfer_syntaxes": syntaxes, "why": refused.why}
            who = {"calling_ae_title": refused.calling_ae_title, "host": refused.host}
            _log.info("objects cannot be sent here", extra={**who, **what})

    def latest(self) -> list[RefusedContexts]:
        """Return what was counted, the latest first."""
        with self._lock:
            counted = list(reversed(self._counted.items()))
        return [
            RefusedContexts(
                calling_ae_title=one.calling_ae_title, host=one.host, sop_class_uid=one.sop_class_uid,
                sop_class_name=uid_name(one.sop_class_uid),
                transfer_syntaxes=[uid_name(uid) for uid in one.transfer_syntax_uids], why=one.why, count=count,
                last_at=last_at,
            )
            for one, (count, last_at) in counted
        ]  # fmt: skip


# --- for the other processes of the node ------------------------------------------------------------------------------

_READ = TypeAdapter(list[RefusedContexts])


def keep(counted: Sequence[RefusedContexts], path: Path) -> None:
    """Write what a receiver counted where other processes of the node read it; where that fails, they see what was
    there before: it is no reason to stop receiving."""
    with suppress(OSError, SettingsError):
        make_private(path.parent)
        part = path.with_suffix(".part")
        part.write_bytes(_READ.dump_json(list(counted)))
        part.replace(path)


def kept_in(folder: Path, now: Mapping[Path, Sequence[RefusedContexts]] | None = None) -> list[RefusedContexts]:
    """Return what the receivers of a node counted, the latest first; a file that cannot be read is passed over.

    `now` is what receivers of this process have counted by now, by their files.
    """
    by_file = now or {}
    found = [one for counted in by_file.values() for one in counted]
    for path in folder.glob("*.json"):
        if path not in by_file:
            with suppress(OSError, ValueError):
                found += _READ.validate_json(path.read_bytes())
    return sorted(found, key=lambda one: one.last_at, reverse=True)


def uid_name(uid: str) -> str:
    """Return what a UID of the standard is called, the UID itself where it is none of these."""
    return UID(uid).name
