"""docs/how-to/extend.md, followed: what its listings add is there, described, and behind the token."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.needs import REPOSITORY

_PAGE = (REPOSITORY / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
_LISTING = re.compile(r"^```(?:python|py) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def listed(path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a listing as the module that its path says."""
    name, source = path.removesuffix(".py").replace("/", "."), folder / Path(path).name
    source.write_text(dict(_LISTING.findall(_PAGE))[path], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The API over a seeded index, with the resource of the page beside its own."""
    database = seeded_database(tmp_path)
    client = client_of(parts_over(database, tmp_path))
    client.app.include_router(listed("dicom_node/api/routes/backlog.py", tmp_path, monkeypatch).router)
    yield client
    database.close()


def test_the_resource_answers(client: Client) -> None:
    answer = client.get("/api/v1/backlog")

    assert answer.status_code == 200
    assert answer.json()["waiting"] > 0
    assert answer.json()["oldest_s"] > 0


def test_the_resource_is_behind_the_token(client: Client) -> None:
    assert client.stranger().get("/api/v1/backlog").status_code == 401


def test_the_resource_is_described(client: Client) -> None:
    operation = client.app.openapi()["paths"]["/api/v1/backlog"]["get"]

    assert operation["summary"]
    assert {"200", "401", "429", "503"} <= set(operation["responses"])


def test_every_listing_lies_in_a_folder_that_exists() -> None:
    paths = [path for path, _ in _LISTING.findall(_PAGE)]

    assert paths
    assert [path for path in paths if not (REPOSITORY / path).parent.is_dir()] == []
