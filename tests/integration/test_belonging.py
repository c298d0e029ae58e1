"""Which data folder a database belongs to: given once, held for ever, and refused to every other folder."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.index.database import Database
from dicom_node.roles.node import require_own_store
from dicom_node.storage.spool import Spool
from tests.support.results.arrivals import opened_database


def test_a_database_and_its_folder_know_each_other_again(index: Database, tmp_path: Path) -> None:
    for _start in range(2):
        require_own_store(index, Spool(tmp_path / "spool"))


def test_another_folder_is_refused_empty_or_not_until_it_is_given_the_name(index: Database, tmp_path: Path) -> None:
    own, empty, used = (Spool(tmp_path / name) for name in ("own", "empty", "used"))
    require_own_store(index, own)
    used.name()
    for other in (empty, used):
        with pytest.raises(SettingsError, match="belongs to another data folder") as refused:
            require_own_store(index, other)
        assert f"write {own.name()} into {other.folder / 'store-id'}" in str(refused.value)
    (empty.folder / "store-id").write_text(own.name())
    require_own_store(index, empty)


def test_a_new_database_takes_the_name_of_a_folder_whose_database_was_lost(index: Database, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    with opened_database(f"sqlite:///{tmp_path / 'lost.sqlite'}") as lost:
        require_own_store(lost, spool)
    named = spool.name()
    require_own_store(index, spool)
    assert spool.name() == named


def test_of_folders_that_ask_at_once_one_gets_the_database_and_processes_of_one_folder_agree(
    index: Database, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abab"]
    gate = threading.Barrier(len(folders))

    def start(folder: Path) -> bool:
        gate.wait()
        try:
            require_own_store(index, Spool(folder))
        except SettingsError:
            return False
        return True

    with ThreadPoolExecutor(len(folders)) as pool:
        got = dict.fromkeys(folders, False)
        for folder, accepted in zip(folders, pool.map(start, folders), strict=True):
            got[folder] |= accepted
    assert sorted(got.values()) == [False, True]
    winner = next(folder for folder, accepted in got.items() if accepted)
    for _again in range(2):
        require_own_store(index, Spool(winner))
