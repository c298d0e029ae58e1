"""One database, SQLite or PostgreSQL: connections, transactions, the schema brought up to date; whose
database it is, and whether it takes changes at this moment.

Reads and writes are told apart because SQLite needs it: a transaction that will write takes the write lock at its
start (``BEGIN IMMEDIATE``), so that two writers queue instead of failing half-way.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from dicom_node.core.errors import IndexUnavailable, SettingsError
from dicom_node.core.metrics.table import DATABASE_FAILURES, DATABASE_SECONDS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.tables import node_identity

#: Newest migration in `index/migrations/versions`; a test holds it against the folder. Known here so that a start on an
#: up-to-date database need not load Alembic (half a second).
SCHEMA_HEAD = "0026"

_BUSY_TIMEOUT_S = 30
#: How long a caller waits for one of the connections to become free.
_POOL_TIMEOUT_S = 10
#: A PostgreSQL server that does not answer, or a network that swallows everything, must not hold a thread for ever:
#: libpq's own limits for connecting and for bytes that nobody acknowledges (ms), the server's for one statement.
_POSTGRESQL_LIMITS = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "options": "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
}
#: Held by whoever migrates a PostgreSQL database, so that roles which start at once do it one after another.
_MIGRATION_LOCK = 0x64696E6F6465
_READ_ONLY = "25006"  # SQLSTATE read_only_sql_transaction
_FAILED_TRANSACTION = "25P02"  # in_failed_sql_transaction: a mistake of ours, not of the server
_log = logging.getLogger(__name__)


class Database:
    """Opens connections to one database; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write: all of it is committed, or none. Raises `IndexUnavailable`."""
        with (
            self._answering("write"),
            self.engine.connect().execution_options(will_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view for reading. Raises `IndexUnavailable`."""
        with self._answering("read"), self.engine.connect() as connection, connection.begin():
            yield connection

    def migrate(self, to: str = SCHEMA_HEAD) -> None:
        """Bring the schema up to `SCHEMA_HEAD`, or only to an earlier one, as that of a backup; data is kept.

        Raises `IndexUnavailable`, and `SettingsError` for a schema that only a newer version of the program knows.
        """
        version = self.schema_version()
        if version == to:
            return
        if version is not None and version > SCHEMA_HEAD:
            raise _newer(version)
        from alembic import command  # noqa: PLC0415 - half a second, and only the first start needs it
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", "dicom_node.index:migrations")
        with self.write() as connection:
            _wait_for_turn(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, to)
        _log.info("database schema brought up to date", extra={"schema": to})

    def require_writes(self) -> None:
        """Return when the database takes a change (one of no row). Raises `IndexUnavailable`."""
        with self.write() as connection:
            connection.execute(text("DELETE FROM alembic_version WHERE 1 = 0"))

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

    @contextmanager
    def _answering(self, access: str) -> Iterator[None]:
        """Turn a database that cannot serve now into `IndexUnavailable`; programming errors pass through."""
        began = time.perf_counter()
        try:
            yield
            TALLY.observe(DATABASE_SECONDS, time.perf_counter() - began, access=access)
        except NoConnectionFree as error:
            TALLY.count(DATABASE_FAILURES)
            raise IndexUnavailable("All connections to the database are busy. It is tried again by itself.") from error
        except DBAPIError as error:
            why = _why_unavailable(error)
            if not why:
                raise
            TALLY.count(DATABASE_FAILURES)
            # What is well again is another server, or another file, than open connections lead to.
            self.engine.dispose()
            raise IndexUnavailable(f"{why} Nothing new is acknowledged until it is well.") from error


def _newer(version: str) -> SettingsError:
    return SettingsError(
        f"The database has schema {version}, newer than this program's {SCHEMA_HEAD}. Install the version of the node "
        "that wrote it, or a newer one."
    )


def insert_of(connection: Connection) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT; only the dialect in use is loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


def is_among(column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Return that the column has one of these values, in a statement that is the same for about as many.

    Each number of values would be a statement of its own, which SQLite's driver keeps ready: 128 on each connection, of
    up to 1,600 values as batches of every size come in. The last is repeated up to the next power of two.
    """
    return column.in_(padded(values))


def padded(values: Collection[Any]) -> list[Any]:
    """Return the values with the last one repeated up to the next power of two, as `is_among` says why."""
    given = list(values)
    room = 1 << (len(given) - 1).bit_length() if given else 0
    return given + given[-1:] * (room - len(given))


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    try:
        return _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql_engine(parsed)
    except (ImportError, ArgumentError) as error:
        raise SettingsError(
            f"database.url names the driver {parsed.drivername}, which is not installed here. Write "
            "postgresql+psycopg2://, or install it."
        ) from error


def _postgresql_engine(parsed: URL) -> Engine:
    _require_known_options(parsed)
    limits = {name: value for name, value in _POSTGRESQL_LIMITS.items() if name not in parsed.query}
    return create_engine(
        parsed, pool_pre_ping=True, pool_size=10, max_overflow=30, pool_timeout=_POOL_TIMEOUT_S, connect_args=limits,
        hide_parameters=True,
    )  # fmt: skip


def _require_known_options(url: URL) -> None:
    """Raise `SettingsError` for what PostgreSQL's client library would refuse at every connection."""
    if url.get_driver_name() != "psycopg2":
        return
    library, extensions = (importlib.import_module(name) for name in ("psycopg2", "psycopg2.extensions"))
    for name in url.query:
        try:
            extensions.make_dsn(**{name: ""})
        except library.ProgrammingError as error:
            raise SettingsError(
                f"database.url has the option {name}, which PostgreSQL's client library does not know. Correct or "
                "remove it."
            ) from error


def _sqlite_engine(url: URL) -> Engine:
    connect_args = {"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}
    is_file = bool(url.database) and url.database != ":memory:"
    # The connection that was given back last is taken first: it has pages and statements in its caches, and those that
    # are needed now and then fill none. SQLAlchemy's pool for a database in memory has no such order.
    pool = {"pool_use_lifo": True} if is_file else {}
    engine = create_engine(url, connect_args=connect_args, hide_parameters=True, **pool)

    @event.listens_for(engine, "do_connect")
    def _keep_private(*_arguments: object) -> None:
        if is_file:
            _make_private(Path(str(url.database)))

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


def _make_private(path: Path) -> None:
    """Let only its owner read the file, which SQLite would make readable for all; its companions copy its rights.

    One that is there is never opened: closing it would take the locks from every connection of this process (fcntl(2)),
    and another process that closes the file then removes the log which these still write to.
    """
    with suppress(OSError):  # what is wrong with the place, SQLite says better
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _wait_for_turn(connection: Connection) -> None:
    """Return when no other process migrates."""
    take_turn(connection, _MIGRATION_LOCK)


def take_turn(connection: Connection, key: int) -> None:
    """Return when no other transaction has this turn, until the end of this one; on SQLite the write lock has seen to
    that."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _why_unavailable(error: DBAPIError) -> str:
    """Return a sentence for an error that is the database's, "" for one that is the program's.

    Bare `DatabaseError` is what SQLite says of a damaged file, and libpq of an answer that makes no sense.
    `InternalError` is how psycopg2 says that a server turned read-only or that its files are damaged.
    """
    code = getattr(error.orig, "pgcode", None)
    kind = type(error.orig).__name__
    if code == _READ_ONLY:
        return "The database is read-only; after a failover let database.url lead to the server that takes changes."
    if code == _FAILED_TRANSACTION:
        return ""
    if isinstance(error, OperationalError | InterfaceError):
        return f"The database does not answer ({kind}); check database.url and that the server runs."
    if isinstance(error, InternalError) or type(error) is DatabaseError:
        return f"The database is damaged, or its answer makes no sense ({kind}); repair it or put a backup back."
    return "The connection to the database broke; it is tried again by itself." if error.connection_invalidated else ""


_ONLY = 1


def store_id(connection: Connection) -> str | None:
    """Return the name of the store that this database belongs to; `None` when it belongs to none yet."""
    query = select(node_identity.c.store_id).where(node_identity.c.id == _ONLY)
    return connection.execute(query).scalar_one_or_none()


def claim_store_id(connection: Connection, proposed: str) -> str:
    """Let the database belong to this store, unless it belongs to another already; return whose it is."""
    row = insert_of(connection)(node_identity).values(id=_ONLY, store_id=proposed)
    connection.execute(row.on_conflict_do_nothing(index_elements=[node_identity.c.id]))
    query = select(node_identity.c.store_id).where(node_identity.c.id == _ONLY)
    return str(connection.execute(query).scalar_one())


_PATIENCE_S = 5.0


class DatabaseProbe:
    """Asks one database, in a thread of its own and never twice at once. Safe to share between threads."""

    def __init__(self, database: Database, patience_s: float = _PATIENCE_S) -> None:
        self._database = database
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._reason = ""

    def unavailable_reason(self) -> str:
        """Return what is wrong with the database, "" when it takes changes."""
        with self._lock:
            if self._answered.is_set():
                self._answered.clear()
                threading.Thread(target=self._ask, name="database-probe", daemon=True).start()
        if not self._answered.wait(self._patience_s):
            return f"The database has not answered for {self._patience_s:g} s; check that its server runs."
        return self._reason

    def _ask(self) -> None:
        reason = "The database could not be asked; the log says why."
        try:
            self._database.require_writes()
            reason = ""
        except IndexUnavailable as error:
            reason = str(error)
        finally:
            self._reason = reason
            self._answered.set()
