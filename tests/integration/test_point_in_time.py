"""To a point in time with PostgreSQL, as the page on backups says: a base backup, the archived log, and the objects."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text

from dicom_node.__main__ import main
from dicom_node.index.database import Database
from dicom_node.index.tables import instances
from dicom_node.operate.backup.restored import restoration_of
from tests.peers.postgres import answers, debian_programs
from tests.peers.process import Process, free_port, wait_until
from tests.support.needs import absent
from tests.support.results.arrivals import arrive, instance, opened_database

USER = "postgres" if os.geteuid() == 0 else None


@pytest.fixture
def programs() -> Path:
    found = debian_programs()
    if found is None:
        absent("pg_basebackup is not here; install the Debian package postgresql")
    assert found is not None
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's folders: those are closed to the user the server must run as.
    with tempfile.TemporaryDirectory(prefix="dicom-node-wal-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        (place / "wal").mkdir()
        if USER is not None:
            for path in (place, place / "wal"):
                shutil.chown(path, USER, USER)
        yield place


def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), user=USER, group=USER, check=True, capture_output=True, timeout=120)


@contextmanager
def serving(programs: Path, data: Path, port: int) -> Iterator[str]:
    url = f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
    server = Process([str(programs / "postgres"), "-D", str(data), "-p", str(port)], data.parent / f"{data.name}.log",
                     user=USER)  # fmt: skip
    try:
        server.wait_until_ready(lambda: answers(url))
        yield url
    finally:
        server.stop()


def configure(data: Path, *lines: str) -> None:
    with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def names(database: Database) -> int:
    with database.read() as connection:
        return len(connection.execute(select(instances.c.id)).all())


def is_in_recovery(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.execute(text("SELECT pg_is_in_recovery()")).scalar())


def test_the_database_is_put_back_to_a_time_and_nothing_is_sent_before_somebody_says_so(
    programs: Path, folder: Path, tmp_path: Path
) -> None:
    data, base, wal, port = folder / "data", folder / "base", folder / "wal", free_port()
    run(programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    configure(data, "listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{folder}'", "wal_level = replica",
              "archive_mode = on", f"archive_command = 'test ! -f {wal}/%f && cp %p {wal}/%f'")  # fmt: skip
    with serving(programs, data, port) as url, opened_database(url) as database:
        arrive(database, instance("before the base backup"))
        run(programs / "pg_basebackup", "-D", base, "-X", "none", "-c", "fast", "-h", "127.0.0.1", "-p", str(port),
            "-U", "postgres")  # fmt: skip
        arrive(database, instance("after it"))
        with database.write() as connection:
            wanted = connection.execute(text("SELECT clock_timestamp()::text")).scalar_one()
        time.sleep(0.05)  # what follows is later, by the server's clock
        arrive(database, instance("lost by mistake"))
        with database.write() as connection:
            connection.execute(text("SELECT pg_switch_wal()"))
        assert names(database) == 3

    configure(base, f"restore_command = 'cp {wal}/%f %p'", f"recovery_target_time = '{wanted}'",
              "recovery_target_action = 'promote'")  # fmt: skip
    run("touch", base / "recovery.signal")
    with serving(programs, base, port) as url, opened_database(url) as database:
        wait_until(lambda: not is_in_recovery(database), 60, "the end of the recovery")
        assert names(database) == 2
        config = tmp_path / "node.toml"
        config.write_text(
            f'[node]\ndata_dir = "{tmp_path / "data"}"\n[database]\nurl = "{url}"\n'
            '[[destination]]\nname = "files"\nkind = "folder"\npath = "out"\n'
        )
        (tmp_path / "data").mkdir()
        assert main(["destinations", "hold", "--config", str(config), "--reason", "The database was put back."]) == 0
        assert main(["destinations", "hold", "--config", str(config), "--reason", "Said again."]) == 0
        assert main(["destinations", "resume", "--config", str(config), "files"]) == 0
        assert restoration_of(tmp_path / "data") is not None
