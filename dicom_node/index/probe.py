"""Does the database take changes at this moment? Answered in time, also when the database never answers."""

from __future__ import annotations

import threading

from dicom_node.core.errors import IndexUnavailable
from dicom_node.index.database import Database

_PATIENCE_S = 5.0


class DatabaseProbe:
    """Asks one database, in a thread of its own and never twice at once. Safe to share between threads."""

    def __init__(self, database: Database, patience_s: float = _PATIENCE_S) -> None:
        self._database = database
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._reason = ""

    def unavailable_reason(self) -> str:
        """Return what is wrong with the database, "" when it takes changes."""
        with self._lock:
            if self._answered.is_set():
                self._answered.clear()
                threading.Thread(target=self._ask, name="database-probe", daemon=True).start()
        if not self._answered.wait(self._patience_s):
            return f"The database has not answered for {self._patience_s:g} s; check that its server runs."
        return self._reason

    def _ask(self) -> None:
        reason = "The database could not be asked; the log says why."
        try:
            self._database.require_writes()
            reason = ""
        except IndexUnavailable as error:
            reason = str(error)
        finally:
            self._reason = reason
            self._answered.set()
