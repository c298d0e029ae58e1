"""The doctor on this machine: no sockets beyond loopback binds, no peers."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from dicom_node.config.settings import Settings
from dicom_node.doctor import run_checks
from dicom_node.doctor.configured import check_destinations, check_models
from dicom_node.doctor.machine import check_clock, check_data_dir, check_database, check_ports
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.roles.settings import SiteSettings, load_settings


def settings(folder: Path, **sections: Any) -> Settings:
    node = {"data_dir": folder, "min_free_mb": 0, **sections.pop("node", {})}
    return SiteSettings.model_validate({"node": node, "dicom": {"port": 0}, "api": {"port": 0}, **sections})


def test_a_clock_before_the_installation_is_wrong() -> None:
    assert not check_clock(datetime(2001, 1, 1, tzinfo=UTC)).ok
    assert check_clock().ok


def test_a_data_folder_that_does_not_exist_yet_is_well(tmp_path: Path) -> None:
    check = check_data_dir(settings(tmp_path / "new" / "data"))

    assert check.ok
    assert "made at first start" in check.text
    assert not (tmp_path / "new").exists()


def test_less_room_than_the_reserve_is_reported(tmp_path: Path) -> None:
    check = check_data_dir(settings(tmp_path, node={"min_free_mb": 1 << 40}))

    assert not check.ok
    assert "refused" in check.advice


def test_a_database_to_come_is_not_made_by_looking(tmp_path: Path) -> None:
    check = check_database(settings(tmp_path))

    assert check.ok
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_database_tells_its_schema(tmp_path: Path) -> None:
    one = settings(tmp_path)
    database = Database(one.database_url)
    database.migrate()
    database.close()

    check = check_database(one)

    assert check.ok
    assert f"schema {SCHEMA_HEAD}, up to date" in check.text


def test_a_database_of_a_newer_node_is_refused(tmp_path: Path) -> None:
    one = settings(tmp_path)
    database = Database(one.database_url)
    database.migrate()
    with database.write() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    check = check_database(one)

    assert not check.ok
    assert "newer" in check.text


def test_a_password_in_the_database_url_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://node:hunter2@127.0.0.1:1/x"

    check = check_database(settings(tmp_path, database={"url": url}))

    assert not check.ok
    assert "hunter2" not in check.text + check.advice


def test_port_zero_means_any(tmp_path: Path) -> None:
    assert all(check.ok for check in check_ports(settings(tmp_path)))


def test_a_route_to_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    (check,) = check_models(settings(tmp_path, route=[{"name": "a", "model": "nobody"}]))

    assert not check.ok
    assert "there is no model nobody; there are: ct-lung-density" in check.text


@pytest.mark.parametrize("configured", [(), [{"name": "out", "kind": "folder", "path": "/proc/nowhere"}]])
def test_results_that_could_go_nowhere_are_reported(tmp_path: Path, configured: Any) -> None:
    (check,) = check_destinations(settings(tmp_path, destination=configured))

    assert not check.ok
    assert check.advice


def test_a_model_that_nobody_accepted_is_told_with_what_to_do_and_makes_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "brought" / "ct-copy"
    shutil.copytree(SHIPPED_MODELS / "ct-lung-density", folder)
    card = folder / "model_card.toml"
    card.write_text(card.read_text(encoding="utf-8").replace('name = "ct-lung-density"', 'name = "ct-copy"'))
    one = settings(
        tmp_path / "data", inference={"models_dirs": [tmp_path / "brought"]}, route=[{"name": "a", "model": "ct-copy"}]
    )

    (check,) = check_models(one)

    assert not check.ok
    assert "MODEL_NOT_ACCEPTED" in check.text
    assert "dicom-node models accept ct-copy" in check.text
    assert not (tmp_path / "data").exists()


def test_a_model_folder_that_cannot_be_read_is_told_and_the_routes_of_others_are_well(tmp_path: Path) -> None:
    (tmp_path / "brought" / "broken").mkdir(parents=True)
    (tmp_path / "brought" / "broken" / "model_card.toml").write_text("name = ")
    route = {"name": "chest-ct", "model": "ct-lung-density"}

    broken, well = check_models(settings(tmp_path, inference={"models_dirs": [tmp_path / "brought"]}, route=[route]))

    assert not broken.ok
    assert "not valid TOML" in broken.text
    assert well.ok


def test_what_can_be_used_and_should_be_changed_is_told_first(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        f'node.data_dir = "{tmp_path}"\ndicom.port = 0\napi.port = 0\n'
        '[[destination]]\nname = "files"\nkind = "folder"\npath = "out"\nport = 104\n'
    )

    first, second, *_ = run_checks(load_settings(file, {}))

    assert (first.name, first.ok) == ("settings", True)
    assert "'files': port is of no use for kind folder" in first.text
    assert second.name == "clock"
