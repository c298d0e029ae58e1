"""The small files of a node: what lies in its data folder beside objects, journal and database, and what its settings
name elsewhere. Keys and tokens are among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from dicom_node.config.loading import ENVIRONMENT_PREFIX
from dicom_node.config.settings import Settings
from dicom_node.operate.backup.journals import is_slot, journals_of
from dicom_node.operate.backup.outcome import OUTCOME_FILE
from dicom_node.operate.backup.sqlite import sqlite_file
from dicom_node.operate.configuration.told import REQUEST_FILE
from dicom_node.people.audit.trail import audit_anchor, audit_folder
from dicom_node.storage.spool import Spool

#: What a process makes anew at its start, and the spool, whose objects are copied one by one.
_OF_PROCESSES = ("work", "owners", "not-taken", "ports.json", OUTCOME_FILE, REQUEST_FILE)
_SPOOL = "spool"
#: Below the data folder of a restored node: files that lay elsewhere, by their whole path.
ELSEWHERE = "restored-files"


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """Which files are to be copied: where each lies, and where it goes below the data folder of a restored node.

    `early` are copied before the database: what the anchor of the audit trail names must be in the copy of the
    database, and acts that wait for the trail are either still waiting or in it. `named` are those that lie outside the
    data folder; `not_in_it` says what is left out.
    """

    early: Mapping[Path, str]
    late: Mapping[Path, str]
    named: Mapping[str, str]
    not_in_it: tuple[str, ...]


def site_files(settings: Settings, config: Path | None) -> SiteFiles:
    """Return the files of a node with these settings, read from `config`."""
    data_dir = settings.node.data_dir.resolve()
    places = list(_places(settings))
    files = {path: path.relative_to(data_dir).as_posix() for path in _below(data_dir, _left_out(settings, places))}
    files[data_dir / _SPOOL / Spool.NAME_FILE] = f"{_SPOOL}/{Spool.NAME_FILE}"
    elsewhere = {path: _elsewhere(path) for path in _named_files(settings, config, places)}
    found = {path: target for path, target in {**files, **elsewhere}.items() if path.is_file()}
    early = {path: target for path, target in found.items() if _is_early(settings, path)}
    late = {path: target for path, target in found.items() if path not in early}
    named = {target: str(path) for path, target in elsewhere.items() if path in found}
    return SiteFiles(early, late, named, tuple(_not_in_it(settings, config, places)))


def _is_early(settings: Settings, path: Path) -> bool:
    waiting = (audit_folder(settings) / "waiting").resolve()
    return path == audit_anchor(settings).path.resolve() or path.is_relative_to(waiting)


def _elsewhere(path: Path) -> str:
    return f"{ELSEWHERE}{path.as_posix()}"


def _left_out(settings: Settings, places: list[tuple[str, Path]]) -> set[Path]:
    """Return files and folders below the data folder that are no small files of the node."""
    data_dir = settings.node.data_dir.resolve()
    out = {data_dir / name for name in (*_OF_PROCESSES, _SPOOL)}
    out |= {path.resolve() for name, path in places if name.startswith(("destination.", "watch."))}
    if settings.database_url.startswith("sqlite"):
        file = sqlite_file(settings.database_url)
        out |= {file.with_name(file.name + ending) for ending in ("", "-wal", "-shm", "-journal")}
    return out


def _below(data_dir: Path, left_out: set[Path]) -> Iterator[Path]:
    for folder, names, files in os.walk(data_dir):
        here = Path(folder)
        names[:] = sorted(name for name in names if here / name not in left_out and not (here / name).is_symlink())
        for name in sorted(files):
            path = here / name
            is_passing = name.startswith(".") or name.endswith((".part", ".new")) or name == "lock"
            if path not in left_out and not is_passing and not is_slot(path):
                yield path


def _places(settings: BaseModel, name: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every path that the settings hold, by the key that holds it."""
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, BaseModel):
                yield from _places(one, f"{name}{key}.")
            elif isinstance(one, Path):
                yield f"{name}{key}", one


def _named_files(settings: Settings, config: Path | None, places: list[tuple[str, Path]]) -> Iterator[Path]:
    """Yield files outside the data folder: the settings, what they name, and models."""
    data_dir = settings.node.data_dir.resolve()
    if config is not None:
        yield config.resolve()
    for _, path in places:
        if path.is_file() and not path.resolve().is_relative_to(data_dir):
            yield path.resolve()
    for folder in settings.inference.models_dirs:
        if folder.is_dir() and not folder.resolve().is_relative_to(data_dir):
            yield from _below(folder.resolve(), set())


def _not_in_it(settings: Settings, config: Path | None, places: list[tuple[str, Path]]) -> Iterator[str]:
    data_dir = settings.node.data_dir.resolve()
    if config is None:
        yield "No configuration file was named (--config), so none is in it."
    names = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX))
    if names:
        yield f"Settings of the environment: {', '.join(names)}. Set them again."
    for path in sorted(data_dir.iterdir()):
        if path.is_symlink() and path.is_dir() and path.name != _SPOOL:
            yield f"The folder {path}, which is a link."
    for journal in journals_of(settings):
        if not journal.is_relative_to(data_dir):
            yield f"The journal {journal} is put back into the data folder, as {journal.name}: correct dicom.journal."
    models = {folder.resolve() for folder in settings.inference.models_dirs}
    for name, path in places:
        if path.is_dir() and name != "node.data_dir" and path.resolve() not in models:
            yield f"The folder {path} ({name})."
    yield "The program and the models that come with it: install the version that made the backup, or a newer one."
