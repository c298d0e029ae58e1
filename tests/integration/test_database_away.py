"""A database that turns read-only, is damaged, cut off, silent or too new: one error of ours, and back by itself."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from dicom_node.core.errors import IndexUnavailable, SettingsError
from dicom_node.index.database import SCHEMA_HEAD, Database, DatabaseProbe
from dicom_node.index.tables import studies
from tests.peers.node import Node
from tests.peers.postgres import Postgres
from tests.support.results.arrivals import opened_database

_ROLES = 5
_PAGE = 4096


def write(database: Database) -> None:
    with database.write() as connection:
        connection.execute(delete(studies).where(studies.c.study_instance_uid == "1.2"))


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        yield f"postgresql+psycopg2://somebody@127.0.0.1:{port}/nowhere?connect_timeout=2"


def test_a_database_that_is_read_only_after_a_failover_is_unavailable_and_comes_back(
    postgres: Postgres, postgres_url: str
) -> None:
    with opened_database(postgres_url) as database:
        probe = DatabaseProbe(database)
        assert probe.unavailable_reason() == ""
        postgres.make_read_only(postgres_url)
        with pytest.raises(IndexUnavailable, match="read-only"):
            write(database)
        assert "read-only" in probe.unavailable_reason()
        postgres.make_writable(postgres_url)
        write(database)
        assert probe.unavailable_reason() == ""


def test_a_connection_cut_in_the_middle_of_a_transaction_is_unavailable_and_the_next_one_works(
    postgres: Postgres, postgres_url: str
) -> None:
    with opened_database(postgres_url) as database:
        with pytest.raises(IndexUnavailable):
            _write_while_cut(database, lambda: postgres.end_clients(postgres_url))
        write(database)


def _write_while_cut(database: Database, cut: Callable[[], None]) -> None:
    with database.write() as connection:
        connection.execute(select(func.count()).select_from(studies))
        cut()
        connection.execute(select(func.count()).select_from(studies))


def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    impatient = Database(f"{postgres_url}?options=-cstatement_timeout%3D50")
    with pytest.raises(IndexUnavailable), impatient.read() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    impatient.close()


def test_every_connection_has_limits_unless_the_url_has_its_own(postgres_url: str) -> None:
    with opened_database(postgres_url) as database, database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "1min"
    patient = f"{postgres_url}?options=-cstatement_timeout%3D7min"
    with opened_database(patient) as database, database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7min"


def test_a_server_that_never_answers_is_unavailable(silent_url: str) -> None:
    with pytest.raises(IndexUnavailable, match="does not answer"):
        Database(silent_url).migrate()


def test_a_probe_of_a_server_that_never_answers_does_not_wait_for_it_and_asks_only_once() -> None:
    asked = threading.Semaphore(0)
    answer = threading.Event()

    class Silent(Database):
        def require_writes(self) -> None:
            asked.release()
            answer.wait()

    probe = DatabaseProbe(Silent("sqlite://"), patience_s=0.05)
    assert "not answered" in probe.unavailable_reason()
    assert "not answered" in probe.unavailable_reason()
    assert asked.acquire(timeout=60)
    assert not asked.acquire(blocking=False)
    answer.set()


def test_a_damaged_page_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with opened_database(f"sqlite:///{path}") as database, database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE wide (text TEXT)")
        root = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'wide'").scalar_one()
    with path.open("r+b") as file:
        file.seek((root - 1) * _PAGE)
        file.write(b"\xff" * _PAGE)
    damaged = Database(f"sqlite:///{path}")
    with pytest.raises(IndexUnavailable, match="damaged"), damaged.write() as connection:
        connection.exec_driver_sql("SELECT * FROM wide").all()
    damaged.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"torn" * 4096)
    with pytest.raises(IndexUnavailable, match=r"damaged.*backup"):
        Database(f"sqlite:///{path}").migrate()


def test_mistakes_in_the_program_are_not_called_a_database_that_is_away(index: Database) -> None:
    with pytest.raises((ProgrammingError, IntegrityError)), index.write() as connection:
        connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (NULL)"))


def test_a_schema_from_a_newer_version_stops_the_start_with_a_sentence(index: Database) -> None:
    with index.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=f"schema 9999.*{SCHEMA_HEAD}"):
        index.migrate()


def test_roles_that_start_at_once_on_an_empty_database_all_find_it_migrated(index_url: str) -> None:
    gate = threading.Barrier(_ROLES)

    def start(_number: int) -> str | None:
        database = Database(index_url)
        gate.wait()
        database.migrate()
        version = database.schema_version()
        database.close()
        return version

    with ThreadPoolExecutor(_ROLES) as pool:
        assert set(pool.map(start, range(_ROLES))) == {SCHEMA_HEAD}


def test_the_database_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    sqlite3.connect(path).close()
    path.touch(0o644)
    path.chmod(0o644)
    with opened_database(f"sqlite:///{path}") as database:
        write(database)
        found = {one.name: one.stat().st_mode & 0o077 for one in tmp_path.iterdir()}
    assert len(found) == 3
    assert not any(found.values()), found


def test_one_caller_after_the_other_gets_the_same_connection_to_a_file(tmp_path: Path) -> None:
    """Every connection has a cache of pages and one of statements; callers that take turns need one of them filled."""
    used = set()
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as database:
        with ExitStack() as several:
            for _connection in range(3):
                several.enter_context(database.read()).execute(select(func.count()).select_from(studies)).all()
        for _caller in range(6):
            with database.read() as connection:
                used.add(id(connection.connection.dbapi_connection))
    assert len(used) == 1


def test_a_further_connection_does_not_take_the_locks_from_the_others(tmp_path: Path) -> None:
    """Another process that comes and goes must not take itself for the last one, and remove the log."""
    path = tmp_path / "index.sqlite"
    with opened_database(f"sqlite:///{path}") as database:
        with ExitStack() as several:
            for _connection in range(3):
                several.enter_context(database.read()).execute(select(func.count()).select_from(studies)).all()
        argv = [
            sys.executable,
            "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT 1 FROM studies')",
        ]
        subprocess.run([*argv, str(path)], check=True, timeout=60)
        assert path.with_name("index.sqlite-wal").exists()


def test_a_start_that_cannot_have_its_database_ends_with_one_sentence(silent_url: str, tmp_path: Path) -> None:
    damaged, newer = tmp_path / "damaged.sqlite", tmp_path / "newer.sqlite"
    damaged.write_bytes(b"torn" * 4096)
    with opened_database(f"sqlite:///{newer}") as database, database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    cases = {silent_url: "does not answer", f"sqlite:///{damaged}": "damaged", f"sqlite:///{newer}": "schema 9999"}
    for url, sentence in cases.items():
        one = Node(tmp_path / "node", {"database": {"url": url}})
        argv = [sys.executable, "-m", "dicom_node", "serve", "--role", "index", "--config", str(one.config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert done.returncode == 1
        assert len(told) == 1, done.stderr
        assert told[0].startswith("dicom-node: The database")
        assert sentence in told[0]
