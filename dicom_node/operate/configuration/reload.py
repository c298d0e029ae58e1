"""Settings that change while a process runs: all that differs is taken over at once, or nothing.

Each part of the process is asked first whether it can run with the new settings, and says how it would begin to; only
when all can, all do. What runs at that moment, an association, a job, a delivery, ends as it began.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.config.changes import SettingChange, changes_between, renamed, revision_of
from dicom_node.config.settings import Settings
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import Conflict, NodeError, SettingsError
from dicom_node.core.principal import NODE, Principal, UserRole
from dicom_node.operate.configuration.told import (
    NOTE,
    ConfigurationState,
    ReloadAnswer,
    ReloadRequest,
    as_note,
    ask_all,
    latest_request,
    states_of,
)
from dicom_node.people.audit.trail import digests_of
from dicom_node.storage.owners import Owners

#: A file that was written so lately is read when it has been left alone for that long: half of it may be there.
_SETTLED_S, _WRITTEN_WITHIN_S = 0.2, 5.0
_LATELY_S = 2.0
#: What the settings name beside their own file, a secret or a folder, is looked at so often.
_LOOK_AGAIN_S = 60.0
_log = logging.getLogger(__name__)

Signature = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """How a part begins to run with other settings, which cannot fail any more; and what people should know of it."""

    begin: Callable[[], None]
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationParts:
    """What the settings of a process are read from (`file` may be `None`, then they are the defaults and variables),
    the key of revisions, who lives on the data folder, and where acts are written down."""

    file: Path | None
    load: Callable[[Path | None], Settings]
    key: bytes
    owners: Owners
    audit: Audit


class Configuration:
    """The settings of this process. Safe to share between threads."""

    def __init__(self, settings: Settings, parts: ConfigurationParts) -> None:
        self._settings = settings
        self._data_dir = settings.node.data_dir
        self._parts = parts
        self._prepare: list[Callable[[Settings], PreparedChange]] = []
        self._lock = threading.RLock()
        self._is_over = False
        self._signature: Signature = None
        self._looked_at_s = float("-inf")
        self._answered = ""
        self._hangups: Callable[[], int] = lambda: 0
        self._hung_up = 0
        self.state = ConfigurationState(
            file="" if parts.file is None else str(parts.file.resolve()), revision=self._revision(settings),
            since=datetime.now(UTC),
        )  # fmt: skip

    # --- the life of the process ---

    @contextmanager
    def starting(self, roles: Sequence[str], hangups: Callable[[], int]) -> Iterator[None]:
        """Let nobody change anything while the parts start; `hangups` counts how often SIGHUP has asked."""
        with self._lock:
            asked = latest_request(self._data_dir)
            # What was asked before this start is done by it, unless the file was written after it was read here.
            self._answered = asked.id if asked is not None and self._is_of_the_file() else ""
            self._hangups = hangups
            me = self._parts.owners.me.identity.rpartition(":")[0]
            self.state = replace(self.state, process=me, roles=tuple(roles))
            yield
            self._tell(self.state)

    def attend(self, prepare: Callable[[Settings], PreparedChange]) -> None:
        """Ask this part whenever the settings are to change; it raises `SettingsError` where it cannot run with them,
        and has changed nothing then. The order is that in which parts attended."""
        self._prepare.append(prepare)

    def close(self) -> None:
        """Change nothing any more: the process ends."""
        with self._lock:
            self._is_over = True

    # --- reading again ---

    def reload(self, by: Principal, address: str = "", request: ReloadRequest | None = None) -> ReloadAnswer:
        """Read the settings again and run with them; return what changed.

        Raises `SettingsError` where they cannot be used, or something differs that takes a restart, `IndexUnavailable`
        where the database is away, and `Conflict` while the process ends: then nothing has changed.
        """
        with self._lock:
            if self._is_over:
                raise Conflict("The node is ending. It reads the settings when it starts again.")
            about = {} if request is None else {"reload": request.id}
            self._answered = request.id if request is not None else self._answered
            try:
                wanted = self._read()
                changes = changes_between(self._settings, wanted)
                self._require_live(changes)
                prepared = [prepare(wanted) for prepare in self._prepare] if changes else []
            except NodeError as error:  # of the database, too: nobody knows then what people wrote over the routes
                self._refuse(str(error), by, address, about)
                raise
            for one in prepared:
                one.begin()
            warnings = (*_told_of_renamed(self._settings, wanted), *(text for one in prepared for text in one.warnings))
            self._settings = wanted
            return self._taken(changes, tuple(dict.fromkeys(warnings)), by, address, about)

    def ask_others(self, by: Principal) -> None:
        """Have the other processes of the node read the settings, too. Raises `SettingsError`."""
        with self._lock:
            request = ReloadRequest(by=by.name)
            self._answered = request.id
            ask_all(self._data_dir, request)

    def look(self) -> None:
        """Do what was asked of this process, and see whether the file differs from what runs. To be run each second."""
        hangups = self._hangups()
        if hangups != self._hung_up:
            self._hung_up = hangups
            self._follow(NODE, None)
        asked = latest_request(self._data_dir)
        if asked is not None and asked.id != self._answered:
            # Whoever may write into the data folder may do everything, as by any command.
            self._follow(Principal(asked.by, frozenset({UserRole.ADMIN})), asked)
        self._compare()

    def states(self) -> Sequence[ConfigurationState]:
        """Return what each process of the node runs with."""
        return states_of(self._parts.owners)

    # --- inside ---

    def _follow(self, by: Principal, request: ReloadRequest | None) -> None:
        with suppress(NodeError):  # told in the log, in the trail and in the state
            self.reload(by, request=request)

    def _compare(self) -> None:
        """Tell whether the file differs from what runs, when it was written since, or may name what was."""
        signature, now_s = self._signature_now(), time.monotonic()
        if signature == self._signature and now_s - self._looked_at_s < _LOOK_AGAIN_S:
            return
        with self._lock:
            try:
                differs, problem = self._difference(), ""
            except SettingsError as error:
                differs, problem = (), str(error)
            self._signature, self._looked_at_s = signature, now_s
            words = tuple(one.in_words for one in differs)
            restart = tuple(one.name for one in differs if not one.is_live)
            self._tell(replace(self.state, differs=words, needs_restart=restart, problem=problem))

    def _is_of_the_file(self) -> bool:
        try:
            return not self._difference()
        except SettingsError:
            return False

    def _difference(self) -> tuple[SettingChange, ...]:
        return changes_between(self._settings, self._read())

    def _read(self) -> Settings:
        """Read the settings whole: not while somebody writes their file. Raises `SettingsError`."""
        until_s = time.monotonic() + _WRITTEN_WITHIN_S
        while True:
            before, problem = self._signature_now(), None
            try:
                wanted = self._parts.load(self._parts.file)
            except SettingsError as error:
                problem = error
            if before is not None and abs(time.time() - before[0] / 1e9) < _LATELY_S:
                time.sleep(_SETTLED_S)
            if self._signature_now() == before:
                if problem is not None:
                    raise problem
                return wanted
            if time.monotonic() > until_s:
                raise SettingsError(f"{self._parts.file} is written again and again. Leave it alone, and reload then.")

    def _signature_now(self) -> Signature:
        if self._parts.file is None:
            return None
        try:
            found = self._parts.file.stat()
        except OSError:  # told by whoever reads it
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _require_live(self, changes: Sequence[SettingChange]) -> None:
        fixed = [one.name for one in changes if not one.is_live]
        if fixed:
            raise SettingsError(
                f"Nothing was changed, for this takes effect at a restart only: {', '.join(fixed)}. Restart the node; "
                "or have it in the file as before, and reload."
            )

    def _taken(
        self, changes: Sequence[SettingChange], warnings: tuple[str, ...], by: Principal, address: str,
        about: dict[str, str],
    ) -> ReloadAnswer:  # fmt: skip
        words, revision = tuple(one.in_words for one in changes), self._revision(self._settings)
        told = {"changed": list(words), "revision": revision, **about}
        _log.info("settings read again", extra={"by": by.name, **told})
        for text in warnings:
            _log.warning("settings", extra={"why": text})
        self._note(AuditedEvent(act=AuditedAct.SETTINGS_RELOADED, actor=by, address=address, detail=told))
        if changes:
            self._note(AuditedEvent(act=AuditedAct.SETTINGS_IN_FORCE, actor=NODE, detail=digests_of(self._settings)))
        answer = ReloadAnswer(at=datetime.now(UTC), changes=words, warnings=warnings, request=self._answered)
        since = answer.at if changes else self.state.since
        self._signature = None  # looked at anew
        self._tell(replace(self.state, revision=revision, since=since, differs=(), needs_restart=(), problem="",
                           last_reload=answer))  # fmt: skip
        return answer

    def _refuse(self, why: str, by: Principal, address: str, about: dict[str, str]) -> None:
        _log.error("settings not read again", extra={"why": why, "by": by.name, **about})
        event = AuditedEvent(act=AuditedAct.SETTINGS_RELOADED, actor=by, address=address,
                             outcome=AuditOutcome.MINOR_FAILURE, detail={"refused": why, **about})  # fmt: skip
        self._note(event)
        self._signature = None
        refused = ReloadAnswer(at=datetime.now(UTC), refused=why, request=self._answered)
        self._tell(replace(self.state, last_reload=refused))

    def _note(self, event: AuditedEvent) -> None:
        self._parts.audit.note(event)

    def _revision(self, settings: Settings) -> str:
        return revision_of(settings, self._parts.key)

    def _tell(self, state: ConfigurationState) -> None:
        """Note what this process runs with, where the others read it; a torn note would be no sign of life."""
        is_new, self.state = state != self.state or NOTE not in self._parts.owners.me.note, state
        if is_new:
            self._parts.owners.note(**{NOTE: as_note(state)})


def _told_of_renamed(before: Settings, after: Settings) -> Iterator[str]:
    """Yield what is to be known of a destination that has another name now: nobody else takes it for the same."""
    for old, new in renamed(before, after):
        yield (
            f"Destination {new} is configured as {old} was, which is gone. It is another destination: what is owed to "
            f"{old} stays owed to that name."
        )
