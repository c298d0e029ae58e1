"""What a person stops, and lets go on: destinations and routes, each as long as it is as that person has seen it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from sqlalchemy import Connection

from dicom_node.api.parts import ApiParts
from dicom_node.core.principal import Principal

Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspendable(Generic[Shown]):
    """Destinations, or routes: how one is found, stopped, let go on and shown.

    `require_known` raises `NotFound`, `require_unchanged` where a person has changed it since it was looked at.
    """

    require_known: Callable[[ApiParts, str], None]
    require_unchanged: Callable[[ApiParts, Connection, str, str | None], None]
    suspend: Callable[[Connection, str, str, Principal, datetime], None]
    resume: Callable[[Connection, str, Principal, datetime], None]
    shown: Callable[[Connection, ApiParts, str], Shown]

    def suspended(self, parts: ApiParts, name: str, looked_at: str | None, by: Principal, reason: str) -> Shown:
        """Stop one, and show how it stands then."""
        return self._changed(
            parts, name, looked_at, lambda connection: self.suspend(connection, name, reason, by, datetime.now(UTC))
        )

    def resumed(self, parts: ApiParts, name: str, looked_at: str | None, by: Principal) -> Shown:
        """Let one go on, and wake whoever works on what waited for it."""
        shown = self._changed(
            parts, name, looked_at, lambda connection: self.resume(connection, name, by, datetime.now(UTC))
        )
        parts.wake()
        return shown

    def _changed(
        self, parts: ApiParts, name: str, looked_at: str | None, change: Callable[[Connection], None]
    ) -> Shown:
        self.require_known(parts, name)
        with parts.database.write() as connection:
            self.require_unchanged(parts, connection, name, looked_at)
            change(connection)
            return self.shown(connection, parts, name)
