"""An API over a seeded index, and a client that calls it without sockets."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection

from dicom_node.api.parts import ApiParts
from dicom_node.api.routes import events as changes
from dicom_node.api.server import create_app
from dicom_node.api.shown_patients import ShownPatients
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import ModelIdentity, Route
from dicom_node.core.principal import NODE, UserRole
from dicom_node.core.search_key import SearchKeys
from dicom_node.governance.admission import ModelStanding, Standing
from dicom_node.governance.standing import seen
from dicom_node.headers.demographics import read_demographics
from dicom_node.index.database import Database
from dicom_node.index.views.lists import last_change
from dicom_node.index.views.types import ChangeToken
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.jobs.worklist import WorklistSweep
from dicom_node.operate.routes_in_force import RoutesInForce, RoutesNow
from dicom_node.people.audit.trail import LoggedAudit
from dicom_node.people.sessions import digest_of
from dicom_node.receive.refusals import RefusedContexts
from tests.support.results.rows import NOW
from tests.support.results.seeded import CT_MODEL, XR_MODEL, seed

TOKEN = "a-token-long-enough-for-tests"
SEARCH_KEYS = SearchKeys(b"a-secret-of-tests")
ROUTES = (
    Route(name="chest-ct", model="ct-lung-density", destinations=("pacs", "ehr"), when=({"modality": "CT"},)),
    Route(name="chest-radiograph", model="cxr-pneumonia", destinations=("pacs",), when=({"modality": ["CR", "DX"]},)),
)


def seeded_database(folder: Path, now: datetime = NOW) -> Database:
    """Make a SQLite index with rows; objects lie beside it."""
    for name, content in _seeded_files(now).items():
        (folder / name).write_bytes(content)
    return Database(f"sqlite:///{folder / 'node.sqlite'}")


def work_out(database: Database, folder: Path) -> None:
    """Work studies out for the worklist and the search, as the role `index` does."""
    WorklistSweep(database, SEARCH_KEYS, "", lambda key: folder / key, read_demographics).run()


@cache
def _seeded_files(now: datetime) -> Mapping[str, bytes]:
    """Index and objects, made once: migrating and seeding for each test would take most of its time."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'node.sqlite'}")
        database.migrate()
        with database.write() as connection:
            seed(connection, folder, now)
        database.close()
        return {file.name: file.read_bytes() for file in folder.iterdir()}


#: What a peer could not send.
NOT_TAKEN = RefusedContexts(
    calling_ae_title="SPECT1", host="10.1.2.3", sop_class_uid="1.3.12.2.1107.5.9.1",
    sop_class_name="1.3.12.2.1107.5.9.1", transfer_syntaxes=["Explicit VR Little Endian"],
    why="the node takes no objects of this SOP class", count=3, last_at=datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
)  # fmt: skip


def _standing(identity: ModelIdentity, standing: Standing, why: str = "") -> ModelStanding:
    return ModelStanding(name=identity.name, version=identity.version, standing=standing, text=why)


class StandingRoutes(RoutesInForce):
    """The routes of the seeded studies, whose destinations the settings of these tests do not have."""

    def now(self) -> RoutesNow:
        return replace(super().now(), routes=ROUTES)


@cache
def _cards() -> Mapping[str, ModelCard]:
    return survey_models(()).cards


def parts_over(database: Database, folder: Path, wake: Callable[[], None] = lambda: None) -> ApiParts:
    """Give the API what a working node gives it."""
    settings = Settings(node=NodeSettings(data_dir=folder, min_free_mb=0))
    return known_as_node(
        ApiParts(
            database=database,
            settings=settings,
            open_object=lambda key: folder / key,
            models=lambda: {
                "ct-lung-density": seen(CT_MODEL, _standing(CT_MODEL, Standing.LIVE)),
                "cxr-pneumonia": seen(XR_MODEL, _standing(XR_MODEL, Standing.NOT_ACCEPTED, "nobody has accepted it.")),
            },
            routes=StandingRoutes(settings, _cards(), database),
            cards=_cards(),
            wake=wake,
            token_digest=digest_of(TOKEN),
            audit=LoggedAudit(),
            receiver_ready=lambda: True,
            refused_contexts=lambda: [NOT_TAKEN],
            version="0.1.0",
            search_keys=SEARCH_KEYS,
            patients=ShownPatients(lambda key: folder / key, read_demographics),
        )
    )


def known_as_node(parts: ApiParts) -> ApiParts:
    """Let the API go by the host name that tests call it by, too."""
    api = parts.settings.api
    hosts = {"hosts": tuple({*api.hosts, "node"})}
    return replace(parts, settings=parts.settings.model_copy(update={"api": api.model_copy(update=hosts)}))


def first_look(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set when the feed of changes has looked at the index once: what is written then is a change."""
    has_looked = threading.Event()

    def look(connection: Connection) -> ChangeToken:
        found = last_change(connection)
        has_looked.set()
        return found

    monkeypatch.setattr(changes, "last_change", look)
    return has_looked


@dataclass(frozen=True)
class Client:
    """Calls an application in this process; `headers` go with every call."""

    app: FastAPI
    headers: dict[str, str]
    address: str = "127.0.0.1"

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers, cookies = self.headers | more.pop("headers", {}), more.pop("cookies", None)

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(self.address, 50000))
            async with httpx.AsyncClient(transport=transport, base_url="http://node", cookies=cookies) as client:
                return await client.request(method, path, headers=headers, **more)

        return anyio.run(call)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def with_role(self, role: UserRole) -> Client:
        """The same application, seen by a program whose key has this role."""
        keys = self.app.state.access.people.keys
        secret, _ = keys.add(f"{role}-{secrets.token_hex(4)}", [role], 1, NODE)
        return replace(self, headers={"Authorization": f"Bearer {secret}"})

    def stranger(self, address: str = "10.9.9.9") -> Client:
        """The same application, seen by somebody without a token."""
        return replace(self, headers={}, address=address)


def client_of(parts: ApiParts) -> Client:
    """Return a client that shows the token."""
    return Client(create_app(known_as_node(parts)), {"Authorization": f"Bearer {TOKEN}"})
