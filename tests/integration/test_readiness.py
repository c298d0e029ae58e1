"""A node whose roles run apart is ready when every one of them is at work, and says which is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dicom_node.roles import ROLES
from dicom_node.roles.readiness import roles_not_at_work
from dicom_node.storage.owners import SILENT_S, Owners
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.api_client import client_of, parts_over, seeded_database


def test_a_role_that_nobody_has_is_named(tmp_path: Path) -> None:
    api, rest = Owners(tmp_path), Owners(tmp_path)
    api.note(roles=["api"])
    assert set(roles_not_at_work(api)) == set(ROLES) - {"api"}
    rest.note(roles=[role for role in ROLES if role != "api"])
    assert roles_not_at_work(api) == {}
    rest.leave()
    assert set(roles_not_at_work(api)) == set(ROLES) - {"api"}
    assert all("--role" in why for why in roles_not_at_work(api).values())


def test_a_role_whose_process_is_silent_is_named_and_another_with_it_will_do(tmp_path: Path) -> None:
    api, infer = Owners(tmp_path), Owners(tmp_path)
    api.note(roles=[role for role in ROLES if role != "infer"])
    infer.note(roles=["infer"])
    lock = tmp_path / f"{infer.me.token}.lock"
    long_ago = lock.stat().st_mtime - SILENT_S - 1
    os.utime(lock, (long_ago, long_ago))
    assert "no sign of life" in roles_not_at_work(api)["infer"]
    second = Owners(tmp_path)
    second.note(roles=["infer"])
    assert roles_not_at_work(api) == {}
    second.leave()
    infer.beat()
    assert roles_not_at_work(api) == {}


def test_what_is_not_at_work_is_told_to_load_balancers_and_operators(tmp_path: Path) -> None:
    database = seeded_database(tmp_path)
    parts = parts_over(database, tmp_path)
    client = client_of(replace(parts, roles_not_at_work=lambda: {"infer": "no process has it"}))
    answer = client.stranger().get("/readyz")
    assert answer.status_code == 503
    assert "The role infer is not at work: no process has it." in answer.json()["detail"]
    assert client.get("/api/status").json()["roles_not_at_work"] == {"infer": "no process has it"}
    database.close()


def test_the_api_alone_is_not_ready_until_the_rest_is_there_and_when_it_was_killed(
    node: Callable[..., Node],
) -> None:
    one = node(start=False, route=[])
    rest = node("rest", start=False, route=[])
    rest.config.write_text(one.config.read_text())
    one.start(None, "--role", "api")
    with one.api() as api:
        assert "The role receive" in api.get("/readyz").json()["detail"]
        rest.launch(None, *(word for role in ROLES if role != "api" for word in ("--role", role)))
        wait_until(lambda: api.get("/readyz").status_code == 200, 60, "the whole node")
        rest.kill9()
        wait_until(lambda: api.get("/readyz").status_code == 503, 60, "the word that the rest is gone")
