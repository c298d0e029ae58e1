"""The daily self-test goes the whole way of a study, to no destination whatever routes say, and leaves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.index.alarms.self_tests import begin_self_test, remove_self_test, self_test_progress
from dicom_node.index.tables import deliveries, instances, notifications, results, self_tests, studies
from dicom_node.roles.settings import load_settings
from tests.integration.step_by_step_node import site
from tests.peers.dcmtk import Receiver
from tests.peers.node import Node
from tests.peers.process import free_port, wait_until
from tests.peers.webhook_receiver import SECRET
from tests.support.results.rows import NOW
from tests.support.studies.data_factories import small_chest_ct


def test_nothing_is_owed_of_a_self_test_study_whatever_routes_say_and_all_of_it_is_taken_out(tmp_path: Path) -> None:
    """The same images without the row that says so are owed to both: the row is what keeps them."""
    images = small_chest_ct()[0]
    uid = str(images[0].StudyInstanceUID)
    there = [
        {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()},
        {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": SECRET},
    ]
    for is_self_test in (True, False):
        with site(tmp_path / f"node-{is_self_test}", there) as one:
            if is_self_test:
                with one.database.write() as connection:
                    assert begin_self_test(connection, "2026-03-14", uid, NOW)
                    assert not begin_self_test(connection, "2026-03-14", "1.2.3", NOW)
            one.run(images)
            assert len(one.rows(results)) == 1
            owed = (len(one.rows(deliveries)), len(one.rows(notifications)))
            assert (owed == (0, 0)) is is_self_test
            if not is_self_test:
                assert all(owed)
                continue
            with one.database.write() as connection:
                progress = self_test_progress(connection, uid)
                keys = remove_self_test(connection, uid)
            assert (progress.images, progress.study_state, progress.job_states) == (len(images), "REPORTED", ["DONE"])
            assert set(progress.object_keys) < set(keys)
            assert [one.rows(table) for table in (studies, instances, results)] == [[], [], []]
            assert len(one.rows(self_tests)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[selftest]\nat = "24:00"', "selftest.at"),
        ('[selftest]\nat = "03:00"\n[[user]]\nname = "a"', "needs dicom.plain = true"),
    ],
)
def test_a_self_test_that_cannot_be_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=told):
        load_settings(tmp_path / "node.toml")


def test_a_node_tests_itself_through_its_own_port_once_a_day_and_names_the_stage_that_fails(
    node: Callable[..., Node], storescp: Receiver
) -> None:
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": storescp.aet, "host": "127.0.0.1", "port": storescp.port}
    route = {"name": "chest", "model": "ct-lung-density", "quiet_period_s": 0.2, "when": {"modality": "CT"}}
    settings: dict[str, Any] = {
        "selftest": {"at": "00:00", "limit_minutes": 2}, "alarms": {"every_s": 1}, "route": [route],
        "destination": [pacs],
        # Somebody else may send; that the node may call itself follows from the settings.
        "peer": [{"ae_title": "CT1", "host": "10.1.2.3"}],
    }  # fmt: skip
    one = node(start=False, **settings)
    one.start(None, *(word for role in ("receive", "index", "infer", "deliver") for word in ("--role", role)))
    ended = "SELECT fault FROM self_tests WHERE ended_at IS NOT NULL"
    wait_until(lambda: _asked(one, ended), 120, "the end of the self-test")
    assert _asked(one, ended) == [""]
    wait_until(lambda: not _asked(one, "SELECT state FROM studies"), 30, "the study to be removed")
    assert storescp.files() == []
    assert one.stop() == 0

    with closing(sqlite3.connect(one.data_dir / "node.sqlite")) as database, database:
        database.execute("DELETE FROM self_tests")
    # A radiograph, which no route wants.
    one.configure(settings | {"selftest": {"at": "00:00", "phantom": "chest-radiograph"}})
    one.start(None, "--role", "receive", "--role", "index")
    wait_until(lambda: _asked(one, "SELECT text FROM alarms WHERE rule = 'self_test_failed'"), 120, "the alarm")
    (text,) = _asked(one, "SELECT text FROM alarms WHERE rule = 'self_test_failed'")
    assert text.startswith("Stage route: no route wanted it.")


def _asked(one: Node, query: str) -> list[str]:
    with closing(sqlite3.connect(one.data_dir / "node.sqlite", timeout=60)) as database:
        return [row[0] for row in database.execute(query)]
