"""The routes of the configuration file with what people have written over them: the same on every process of a node.

Every process looks into the database what the newest edit is, whenever it needs the routes, and builds them anew when
there is another. What a process cannot use (a model that it does not have) leaves the file's route in force there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dicom_node.config.running import RouteSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Route
from dicom_node.core.errors import Conflict, NotFound, SettingsError
from dicom_node.core.principal import Principal
from dicom_node.index.database import Database
from dicom_node.index.decided.actions import require_reason
from dicom_node.index.decided.route_edits import RouteEdit, add_edit, edits_in_force, newest_edits, newest_version
from dicom_node.index.decided.suspensions import route_suspensions
from dicom_node.index.decided.versions_looked_at import require_version, take_turn_to_change
from dicom_node.inference.cards.card import ModelCard
from dicom_node.operate.configuration.reload import PreparedChange
from dicom_node.operate.rules import routes_of, with_routes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOrigin:
    """Who wrote a route anew, when and why. `conflict` says that the file has another route of this name than it had
    then; `unusable` why the edit is not in force here. Both are empty where all is well."""

    edited_by: str
    edited_at: datetime
    edit_reason: str
    conflict: str = ""
    unusable: str = ""


@dataclass(frozen=True, slots=True)
class RoutesNow:
    """The routes in force, the settings that they come to, and of each that a person has written by whom."""

    settings: Settings
    routes: Sequence[Route]
    origins: Mapping[str, RouteOrigin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteChange:
    """Who changes a route, when and why. `looked_at` is the version that they saw; `None`: they do not say."""

    reason: str
    actor: Principal
    at: datetime
    looked_at: str | None = None


@dataclass(frozen=True, slots=True)
class _Basis:
    """Of which settings, and of which newest edit, the routes are made; none of any yet."""

    settings: Settings
    version: int = -1


class RoutesInForce:
    """Keeps what the routes are now. Safe to share between threads."""

    def __init__(self, settings: Settings, cards: Mapping[str, ModelCard], database: Database) -> None:
        self._cards = cards
        self._database = database
        self._lock = threading.Lock()
        self._basis = _Basis(settings)
        self._now = RoutesNow(settings, ())

    @property
    def _settings(self) -> Settings:
        return self._basis.settings

    def now(self) -> RoutesNow:
        """Return the routes as they are at this moment. Raises `IndexUnavailable`."""
        while True:
            basis = self._basis
            with self._database.read() as connection:
                version = newest_version(connection)
                edits = edits_in_force(connection) if version != basis.version else ()
            with self._lock:
                if basis is not self._basis:  # other settings meanwhile, or another thread was quicker
                    continue
                if version > basis.version:
                    self._now = overlaid(basis.settings, self._cards, edits)
                    self._basis = _Basis(basis.settings, version)
                return self._now

    def prepared(self, settings: Settings) -> PreparedChange:
        """Return how the routes of other settings come into force, and which edits are not what they were over these.

        Raises `SettingsError` where their own routes cannot be used, and `IndexUnavailable`.
        """
        with self._database.read() as connection:
            edits = edits_in_force(connection)
        origins = overlaid(settings, self._cards, edits).origins
        warnings = [f"Edited route {name}: {told}" for name, one in origins.items()
                    if (told := one.unusable or one.conflict)]  # fmt: skip

        def begin() -> None:
            with self._lock:
                self._basis = _Basis(settings)

        return PreparedChange(begin, warnings)

    def save(self, route: Mapping[str, Any], change: RouteChange) -> None:
        """Put a route over the file's, or add one; what is queued already keeps its model and series.

        Raises `SettingsError` for what the settings would refuse, `IllegalTransition` without a reason, and
        `ChangedMeanwhile`.
        """
        require_reason(change.reason)
        wanted = with_routes(self.now().settings, [route])
        routes_of(wanted, self._cards)
        name = str(route["name"])
        kept = next(one for one in wanted.route if one.name == name)
        self._add(name, kept.model_dump(mode="json", exclude_defaults=True), change)

    def revert(self, name: str, change: RouteChange) -> None:
        """Let the file's route be in force again; one that the file does not have goes.

        Raises `NotFound` where nobody has edited it, `Conflict` where others need it, `ChangedMeanwhile`, and
        `IllegalTransition`.
        """
        require_reason(change.reason)
        with self._database.read() as connection:
            edits = edits_in_force(connection)
        if name not in {one.name for one in edits}:
            raise NotFound(f"Nobody has edited a route {name!r}: it is the configuration file's.")
        left = overlaid(self._settings, self._cards, [one for one in edits if one.name != name])
        present = self.now().origins
        needing = [one for one, origin in left.origins.items() if origin.unusable and not present[one].unusable]
        if needing:
            raise Conflict(f"Routes that people have written need it: {', '.join(needing)}. Revert these first.")
        self._add(name, None, change)

    def require_unchanged(self, connection: Connection, name: str, looked_at: str | None) -> None:
        """Do nothing where a route is as somebody saw it, and let nobody change it until the transaction ends.

        Raises `ChangedMeanwhile`.
        """
        take_turn_to_change(connection)
        names = {one.name for one in self.now().routes} | {one.name for one in edits_in_force(connection)}
        suspension, edit = route_suspensions(connection).get(name), newest_edits(connection).get(name)
        require_version(looked_at, f"Route {name}", name in names, suspension, edit)

    def _add(self, name: str, settings: Mapping[str, Any] | None, change: RouteChange) -> None:
        edit = RouteEdit(
            name=name, at=change.at, edited_by=change.actor.name, reason=change.reason.strip(), settings=settings,
            file_digest=_file_digest(self._settings, name),
        )  # fmt: skip
        with self._database.write() as connection:
            self.require_unchanged(connection, name, change.looked_at)
            add_edit(connection, edit)


def overlaid(settings: Settings, cards: Mapping[str, ModelCard], edits: Sequence[RouteEdit]) -> RoutesNow:
    """Lay edits over the settings, in their order; one that cannot be used is told of and left out.

    Raises `SettingsError` where the file's own routes cannot be used.
    """
    found, origins = RoutesNow(settings, routes_of(settings, cards)), {}
    for edit in edits:
        origin = _origin(edit, settings)
        try:
            wanted = with_routes(found.settings, [edit.settings or {}])
            found = RoutesNow(wanted, routes_of(wanted, cards))
        except SettingsError as error:
            origin = replace(origin, unusable=str(error))
        origins[edit.name] = origin
        if origin.conflict or origin.unusable:
            _log.warning("edited route", extra={"route": edit.name, "why": origin.unusable or origin.conflict})
    return replace(found, origins=origins)


def _origin(edit: RouteEdit, settings: Settings) -> RouteOrigin:
    is_as_then = edit.file_digest == _file_digest(settings, edit.name)
    conflict = (
        ""
        if is_as_then
        else (
            f"The configuration file has another route {edit.name!r} than when {edit.edited_by} edited it on "
            f"{edit.at:%Y-%m-%d}. The edit is in force. To have the file's: dicom-node rules revert {edit.name} "
            "--reason TEXT"
        )
    )
    return RouteOrigin(edited_by=edit.edited_by, edited_at=edit.at, edit_reason=edit.reason, conflict=conflict)


def _file_digest(settings: Settings, name: str) -> str:
    route: RouteSettings | None = next((one for one in settings.route if one.name == name), None)
    if route is None:
        return ""
    return hashlib.sha256(json.dumps(route.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
