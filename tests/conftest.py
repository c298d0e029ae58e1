"""Fixtures: real peers and the node as a process. Each starts only for tests that ask for it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, settings

from dicom_node.index.database import Database
from dicom_node.people import passwords
from tests.peers.dcmtk import Receiver, running_dcmqrscp, running_storescp
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.postgres import Postgres, running_postgres
from tests.support.campaign import IS_CAMPAIGN
from tests.support.machine_stalls import watched_machine
from tests.support.results.arrivals import migrated_sqlite, opened_database

#: Fixtures `fhir_server` (empty, shared process) and `start_fhir_server`.
pytest_plugins = ["tests.peers.fhir_server"]

# Files run beside each other, one to a processor. Threads of one PyTorch that wait for each other, spinning, while
# another file has the processor make a computation of a third of a second one of forty. Nodes of tests inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing of what is collected is garbage: looking for it takes a third of the time that collecting takes, and, of
# thousands of tests that stay, some of every test's.
gc.disable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has no sample, but in the campaign: a skipped test would say that something is missing here."""
    if IS_CAMPAIGN:
        return
    whole = [one for one in items if (mark := one.get_closest_marker("campaign")) and mark.kwargs.get("only")]
    config.hook.pytest_deselected(items=whole)
    items[:] = [one for one in items if one not in whole]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage from here on, and not among what was collected."""
    gc.freeze()
    gc.enable()


# How long an example takes says how busy the machine is. Tests that name checks of their own name this one, too.
settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty PACS with the routing script, which sends nothing until the test says `orthanc.know(aet, port)`."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    with running_orthanc(folder) as pacs:
        yield pacs


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Receiver]:
    """A plain storage SCP of another make (DCMTK)."""
    with running_storescp(tmp_path / "storescp") as receiver:
        yield receiver


@pytest.fixture
def dcmqrscp(tmp_path: Path) -> Iterator[Receiver]:
    """A second PACS of another make (DCMTK)."""
    with running_dcmqrscp(tmp_path / "dcmqrscp") as receiver:
        yield receiver


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests of the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres: Postgres) -> str:
    """The URL of a migrated database that nobody uses: tests get copies of it, for every migration takes its time."""
    url = postgres.create_database()
    with opened_database(url):
        return url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """The URL of a database of the test's own, ``postgresql+psycopg2://…``: empty, or migrated for `index`."""
    is_index = "index" in request.fixturenames
    url = postgres.create_database(like=request.getfixturevalue("migrated_postgres_url") if is_index else "")
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def index_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; every test that takes it, or `index`, runs on SQLite and on PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    file = tmp_path / "index.sqlite"
    if "index" in request.fixturenames:
        file.write_bytes(migrated_sqlite())
    return f"sqlite:///{file}"


@pytest.fixture
def index(index_url: str) -> Iterator[Database]:
    """An empty index, migrated."""
    with opened_database(index_url) as database:
        yield database


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed with parameters that cost next to nothing."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def machine_stall_s(tmp_path: Path) -> Iterator[Callable[[], float]]:
    """A function that tells how long this machine, its disk included, kept a program waiting at most in this test."""
    with watched_machine(tmp_path) as longest_s:
        yield longest_s


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start nodes: ``node(route=[…], destination=[…])`` returns one that listens; all end with the test.

    Sections are keyword arguments; `name` (default ``node``) is its folder below `tmp_path`, `start=False` leaves
    the start to the test.
    """
    nodes: list[Node] = []

    def started(name: str = "node", *, start: bool = True, **settings: Any) -> Node:
        one = Node(tmp_path / name, settings)
        nodes.append(one)
        if start:
            one.start()
        return one

    yield started
    for one in nodes:
        one.kill9()
