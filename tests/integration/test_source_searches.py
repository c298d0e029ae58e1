"""Searches in a PACS that says nothing: they hold few of the threads that answer everybody."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.api.routes.health import healthz
from dicom_node.api.routes.intake.retrieve import SearchPlaces
from dicom_node.retrieve.source import FoundStudy, StudyQuery
from tests.peers.process import wait_until
from tests.support.api_client import Client, client_of, parts_over, seeded_database


@dataclass
class SilentPacs:
    """Answers nothing until it may."""

    name: str
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: list[StudyQuery] = field(default_factory=list)

    def find_studies(self, query: StudyQuery, limit: int) -> Sequence[FoundStudy]:
        del limit
        self.asked.append(query)
        assert self.may_answer.wait(60)
        return []


@pytest.fixture
def pacs() -> dict[str, SilentPacs]:
    return {name: SilentPacs(name) for name in ("one", "two", "three")}


@pytest.fixture
def api(tmp_path: Path, pacs: dict[str, SilentPacs]) -> Iterator[Client]:
    database = seeded_database(tmp_path)
    retrievals = SimpleNamespace(source=pacs.__getitem__)
    yield client_of(replace(parts_over(database, tmp_path), retrievals=retrievals))  # type: ignore[arg-type]
    database.close()


def test_a_silent_pacs_holds_few_threads_and_none_of_another_s(api: Client, pacs: dict[str, SilentPacs]) -> None:
    def search(source: str) -> int:
        return api.get(f"/api/sources/{source}/studies", params={"patient_id": "1"}).status_code

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(search, name) for name in ("one", "two") for _ in range(SearchPlaces.OF_ONE_SOURCE)]
        wait_until(lambda: sum(len(one.asked) for one in pacs.values()) == SearchPlaces.IN_ALL, 60, "the searches")
        refused = api.get("/api/sources/one/studies", params={"patient_id": "1"})
        assert (refused.status_code, refused.json()["type"]) == (503, "/api/v1/problems/busy")
        assert refused.headers["retry-after"]
        assert search("three") == 503, "of all, too"
        for one in pacs.values():
            one.may_answer.set()
        assert [one.result() for one in waiting] == [200] * SearchPlaces.IN_ALL
    assert search("one") == 200


def test_health_needs_none_of_these_threads() -> None:
    assert inspect.iscoroutinefunction(healthz)
