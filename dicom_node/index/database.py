"""One database, SQLite or PostgreSQL: connections, transactions, and the schema brought up to date.

Reads and writes are told apart because SQLite needs it: a transaction that will write takes the write lock at its
start (``BEGIN IMMEDIATE``), so that two writers queue instead of failing half-way.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from dicom_node.core.errors import IndexUnavailable, SettingsError

#: Newest migration in `index/migrations/versions`; a test holds it against the folder. Known here so that a start on an
#: up-to-date database need not load Alembic (half a second).
SCHEMA_HEAD = "0007"

_BUSY_TIMEOUT_S = 30
#: Names the lock that a migration holds on PostgreSQL; any number that no other program takes.
_MIGRATION_LOCK = 0xD1C0
_log = logging.getLogger(__name__)


class Database:
    """Opens connections to one database; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write: all of it is committed, or none. Raises `IndexUnavailable`."""
        with _answering(), self.engine.connect().execution_options(will_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view for reading. Raises `IndexUnavailable`."""
        with _answering(), self.engine.connect() as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Bring the schema up to `SCHEMA_HEAD`; data is kept. Of roles that start at once, one does it for all.

        Raises `IndexUnavailable`, and `SettingsError` for the database of a newer version.
        """
        version = self.schema_version()
        if version == SCHEMA_HEAD:
            return
        if version is not None and version > SCHEMA_HEAD:
            raise _newer(version)
        from alembic import command  # noqa: PLC0415 - half a second, and only the first start needs it
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", "dicom_node.index:migrations")
        with self.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite lets one writer in at a time
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        _log.info("database schema brought up to date", extra={"schema": SCHEMA_HEAD})

    def schema_version(self) -> str | None:
        """Return the migration the database stands at, `None` when it is empty."""
        with self.read() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def check_schema(self) -> None:
        """Return when the schema is this version's. Raises `SettingsError` where no node, or another, has run on it."""
        version = self.schema_version()
        if version is None:
            raise SettingsError("The database is empty: no node has run on it. Check database.url, or start the node.")
        if version > SCHEMA_HEAD:
            raise _newer(version)
        if version < SCHEMA_HEAD:
            raise SettingsError(
                f"The database has schema {version}, older than this program's {SCHEMA_HEAD}. Start the node, which "
                "brings it up to date; then try again."
            )

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def _newer(version: str) -> SettingsError:
    return SettingsError(
        f"The database has schema {version}, newer than this program's {SCHEMA_HEAD}. Install the version of the node "
        "that wrote it, or a newer one."
    )


def insert_of(connection: Connection) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT; only the dialect in use is loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        return _sqlite_engine(url)
    return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30)


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("will_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _answering() -> Iterator[None]:
    """Turn a database that does not answer into `IndexUnavailable`; programming errors pass through."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise IndexUnavailable(
            f"The database does not answer ({type(error.orig).__name__}). Nothing new is acknowledged until it does; "
            "check database.url and that the server runs."
        ) from error
    except NoConnectionFree as error:
        raise IndexUnavailable("All connections to the database are busy. It is tried again by itself.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise IndexUnavailable("The connection to the database broke. It is tried again by itself.") from error
        raise
