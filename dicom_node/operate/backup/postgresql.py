"""A PostgreSQL database, copied as it is at one moment through the driver, and put back.

Each table by COPY, all in one transaction that sees one state of the database (REPEATABLE READ). No client program is
needed, whose version would have to fit the server; and what is written is tables, which any later server reads.
"""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table, inspect, make_url

from dicom_node.core.errors import BackupFault
from dicom_node.index.database import Database
from dicom_node.index.tables import metadata
from dicom_node.operate.backup.folder import sha256_of
from dicom_node.operate.backup.manifest import KeptDatabase, KeptFile, KeptTable
from dicom_node.operate.backup.sqlite import NAMED_KEYS

_NO_LIMITS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"


def copy_postgresql(url: str, part: Path, keys: Path) -> tuple[KeptDatabase, dict[str, int]]:
    """Copy every table into a snapshot, and into `keys` which objects they name; return what was copied and how many
    rows each table has."""
    (part / "database").mkdir(mode=0o700)
    with _cursor(url, read_only=True) as cursor:
        cursor.execute("SELECT version_num FROM alembic_version")
        schema = str(cursor.fetchone()[0])
        tables = tuple(_copied(cursor, one, part) for one in metadata.sorted_tables)
        with keys.open("xb") as lines:
            cursor.copy_expert(f"COPY ({NAMED_KEYS}) TO STDOUT", lines)
    return KeptDatabase(kind="postgresql", schema=schema, tables=tables), {one.name: one.rows for one in tables}


def restore_postgresql(snapshot: Path, kept: KeptDatabase, url: str) -> None:
    """Fill an empty database, under the schema that it had. Raises `BackupFault` where it is not empty."""
    with closing(Database(url)) as database:
        if inspect(database.engine).get_table_names():
            raise BackupFault(
                f"The database {make_url(url).database} is not empty. Make a new one (createdb), and name that."
            )
        database.migrate(kept.schema)
    with _cursor(url, read_only=False) as cursor:
        for one in reversed(kept.tables):
            cursor.execute(f'DELETE FROM "{one.name}"')  # what migrations have entered  # noqa: S608
        for one in kept.tables:
            with gzip.open(snapshot / one.file.path) as lines:
                cursor.copy_expert(f'COPY "{one.name}" ({_listed(one.columns)}) FROM STDIN', lines)
            if cursor.rowcount != one.rows:
                raise BackupFault(f"{one.file.path} holds {cursor.rowcount} rows and not {one.rows}.")
            _count_on(cursor, one)


def _copied(cursor: Any, table: Table, part: Path) -> KeptTable:
    columns = tuple(column.name for column in table.columns)
    name = f"database/{table.name}.copy.gz"
    path = part / name
    path.touch(mode=0o600)
    with gzip.open(path, "wb", compresslevel=1) as lines:
        cursor.copy_expert(f'COPY "{table.name}" ({_listed(columns)}) TO STDOUT', lines)
    file = KeptFile(path=name, target=table.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    return KeptTable(name=table.name, columns=columns, rows=cursor.rowcount, file=file)


def _count_on(cursor: Any, table: KeptTable) -> None:
    """Let keys that the server counts go on behind the last one."""
    for column in table.columns:
        cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", (f'"{table.name}"', column))
        sequence = cursor.fetchone()[0]
        if sequence:
            cursor.execute(
                f'SELECT setval(%s, (SELECT coalesce(max("{column}"), 0) + 1 FROM "{table.name}"), false)',  # noqa: S608
                (sequence,),
            )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f'"{one}"' for one in columns)


@contextmanager
def _cursor(url: str, *, read_only: bool) -> Iterator[Any]:
    """Open one transaction that sees one state of the database; it is committed at the end. Raises `BackupFault`."""
    driver = importlib.import_module("psycopg2")
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with closing(driver.connect(plain, connect_timeout=10)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=read_only)
            with connection, connection.cursor() as cursor:
                cursor.execute(_NO_LIMITS)
                yield cursor
    except driver.Error as error:
        # The text of an error may hold a row.
        told = f"{type(error).__name__}, SQLSTATE {error.pgcode}" if error.pgcode else type(error).__name__
        raise BackupFault(f"The database did not go along ({told}). Look at its server and its log.") from error
