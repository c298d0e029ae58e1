"""What the processes of a node tell of the settings they run with, and how all of them are asked to read them again.

Each notes its own beside its proof of life (`storage.owners`); who asks leaves a file in the data folder, which every
process looks at each second. Neither is needed to start: after a restart the settings file rules.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dicom_node.core.errors import SettingsError
from dicom_node.storage.owners import Owners

#: Under which name a process notes what it runs with.
NOTE = "configuration"
REQUEST_FILE = "reload.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadAnswer:
    """What became of the last reload of a process: `changes` are in force, or `refused` says why nothing changed."""

    request: str = ""
    at: datetime
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationState:
    """What one process of the node runs with. `file` is where it reads settings, "" where it was started without one;
    `revision` tells these settings from others, `since` when they are in force. `differs` says what a reload would
    change, `needs_restart` names what of it takes a restart; `problem` says why the file cannot be used as it is."""

    process: str = ""
    roles: tuple[str, ...] = ()
    file: str
    revision: str
    since: datetime
    differs: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problem: str = ""
    last_reload: ReloadAnswer | None = None

    @property
    def is_of_the_file(self) -> bool:
        """Tell whether the process runs with what the file says now."""
        return not (self.differs or self.problem)

    @property
    def fault(self) -> str:
        """What is to be done about a file that differs from what runs; "" where it does not."""
        where = self.file or "The environment"
        if self.problem:
            return f"The settings of before run, for those of now cannot be used: {self.problem}"
        if self.needs_restart:
            return f"{where} has settings that take effect at a restart only: {', '.join(self.needs_restart)}."
        if self.differs:
            return f"{where} has other settings than run: {'; '.join(self.differs)}. Run: dicom-node reload"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRequest:
    """Somebody asks every process of the node to read the settings again."""

    by: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


_STATES = TypeAdapter(ConfigurationState)
_REQUESTS = TypeAdapter(ReloadRequest)


def as_note(state: ConfigurationState) -> object:
    """Return a state as it is noted."""
    return _STATES.dump_python(state, mode="json")


def states_of(owners: Owners) -> Sequence[ConfigurationState]:
    """Return what each living process runs with, those that run all roles of a node or some of them."""
    found = []
    for owner in owners.living():
        try:
            state = _STATES.validate_python(owner.note[NOTE])
        except (KeyError, ValidationError):  # it is starting, writes at this moment, or is of another version
            continue
        found.append(state)
    return found


def ask_all(data_dir: Path, request: ReloadRequest) -> None:
    """Leave a request where every process of the node finds it. Raises `SettingsError`."""
    path = data_dir / REQUEST_FILE
    draft = path.with_name(f".{REQUEST_FILE}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(_REQUESTS.dump_python(request, mode="json")), encoding="utf-8")
        if os.geteuid() == 0:  # root asks a node that runs as another user
            owner = data_dir.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(path)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written ({error.strerror}). Ask as the user of the node, or as root."
        ) from error


def latest_request(data_dir: Path) -> ReloadRequest | None:
    """Return what was asked last, if anything ever was."""
    try:
        return _REQUESTS.validate_json((data_dir / REQUEST_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
