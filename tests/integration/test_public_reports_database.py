"""What others have reported of databases under a DICOM node, tried against the index; each test links the report."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from sqlalchemy import text

from dicom_node.core.errors import IndexUnavailable
from dicom_node.index.database import Database
from tests.support.results.arrivals import opened_database


def test_of_two_writers_that_block_each_other_one_hears_that_it_must_try_again(postgres_url: str) -> None:
    """Deadlocks whose images were lost although acknowledged: github.com/nextgenhealthcare/connect/issues/4349."""
    with opened_database(postgres_url) as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE rows (name text PRIMARY KEY)"))
            connection.execute(text("INSERT INTO rows VALUES ('a'), ('b')"))
        both_have_one, outcomes = threading.Barrier(2, timeout=60), list[str]()
        writers = [
            threading.Thread(target=_take_both, args=(database, both_have_one, order, outcomes))
            for order in ("ab", "ba")
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert sorted(outcomes) == ["done", "later"]
        with database.write() as connection:
            assert connection.execute(text("DELETE FROM rows")).rowcount == 2


def _take_both(database: Database, both_have_one: threading.Barrier, order: str, outcomes: list[str]) -> None:
    lock = text("SELECT name FROM rows WHERE name = :name FOR UPDATE")
    try:
        with database.write() as connection:
            connection.execute(lock, {"name": order[0]})
            both_have_one.wait()
            connection.execute(lock, {"name": order[1]})
    except IndexUnavailable:
        outcomes.append("later")
    else:
        outcomes.append("done")


def test_a_backup_reads_the_whole_database_while_the_node_writes(tmp_path: Path) -> None:
    """A backup that locks the database against its program: github.com/apache/steve/issues/70."""
    path = tmp_path / "node.sqlite"
    with opened_database(f"sqlite:///{path}") as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE rows (number integer PRIMARY KEY, filling text)"))
            connection.execute(
                text("INSERT INTO rows VALUES (:number, :filling)"),
                [{"number": number, "filling": "x" * 500} for number in range(2000)],
            )
        written: list[int] = []

        def write_one(*_: object) -> None:
            with database.write() as connection:
                connection.execute(text("INSERT INTO rows VALUES (:number, 'late')"), {"number": 9000 + len(written)})
            written.append(1)

        with sqlite3.connect(path) as source, sqlite3.connect(tmp_path / "backup.sqlite") as backup:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM rows").fetchone()
            source.backup(backup, pages=50, progress=write_one)
            source.rollback()
        with sqlite3.connect(tmp_path / "backup.sqlite") as backup:
            assert backup.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert backup.execute("SELECT count(*) FROM rows WHERE number < 9000").fetchone() == (2000,)
        assert len(written) > 5
