"""Who lives on a data folder: proved by a lock, also after kill -9, also between processes that look the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dicom_node.core.errors import IndexUnavailable, SettingsError
from dicom_node.storage.owners import Owners, read_note, take_lock

_HOLDER = """
import sys, time
from pathlib import Path
from dicom_node.storage.owners import Owners
print(Owners(Path(sys.argv[1])).me.token, flush=True)
time.sleep(600)
"""


@contextmanager
def other_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    argv = [sys.executable, "-c", _HOLDER, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_process_lives_until_it_is_killed_and_is_forgotten_when_its_things_are_in_order(tmp_path: Path) -> None:
    mine = Owners(tmp_path)
    with other_process(tmp_path) as (process, token):
        assert {one.token for one in mine.living()} >= {token}
        with mine.dead() as dead:
            assert dead == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert token not in {one.token for one in mine.living()}
        with suppress(IndexUnavailable), mine.dead() as dead:
            raise IndexUnavailable("What they left is not in order.")
        with mine.dead() as dead:
            assert [one.token for one in dead] == [token]
        with mine.dead() as dead:
            assert dead == []


def test_a_note_is_whole_for_whoever_reads_while_it_is_written(tmp_path: Path) -> None:
    mine, over = Owners(tmp_path), threading.Event()
    mine.note(roles=["index"], more="x" * 2000)

    def write() -> None:
        while not over.is_set():
            mine.note(more="x" * 2000)
            mine.note(more="")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        torn = sum("roles" not in one.note for _ in range(1000) for one in Owners(tmp_path).living())
    finally:
        over.set()
        writer.join()
    assert torn == 0


def test_two_starts_of_one_process_are_two_owners(tmp_path: Path) -> None:
    one, other = Owners(tmp_path), Owners(tmp_path)
    assert one.me.identity != other.me.identity
    assert len(one.living()) == len(other.living()) == 2


def test_what_an_owner_notes_others_read(tmp_path: Path) -> None:
    one, other = Owners(tmp_path), Owners(tmp_path)
    one.note(roles=["deliver"], ports={"api": 8042})
    one.note(roles=["api"])
    (found,) = other.living()
    assert found == one.me
    assert found.note["roles"] == ["api"]
    assert found.note["ports"] == {"api": 8042}


def test_a_lock_is_one_holders_at_a_time_and_its_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert take_lock(path, {"pid": 7}) is not None
    assert take_lock(path, {"pid": 8}) is None
    assert read_note(path)["pid"] == 7
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        _ = Owners(tmp_path / "file" / "owners").me


def test_a_process_that_is_stopped_is_silent_and_one_that_gives_signs_is_not(tmp_path: Path) -> None:
    mine = Owners(tmp_path)
    mine.beat()
    with other_process(tmp_path) as (_, token):
        an_hour_ago = (tmp_path / f"{token}.lock").stat().st_mtime - 3600
        os.utime(tmp_path / f"{token}.lock", (an_hour_ago, an_hour_ago))  # the clocks of this test
        silence_s = {owner.token: seconds for owner, seconds in mine.silences()}
    assert silence_s[mine.me.token] == 0
    assert silence_s[token] > 3000
