"""Retention in a real node: killed at every step, and beside a PACS that is owed results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.__main__ import main
from dicom_node.index.database import Database
from dicom_node.index.tables import deletions, deliveries, instances, studies
from dicom_node.storage.spool import Spool
from tests.integration.dying_deletion import STEPS
from tests.integration.step_by_step_node import Site
from tests.integration.test_retention import IMAGES, arrive, files, study
from tests.peers.dcmtk import dcmsend
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.results.aged import grow_old
from tests.support.results.arrivals import opened_database

QUIET = {"api": {"enabled": False}, "route": [], "destination": []}


def test_a_node_that_is_killed_at_any_step_of_a_deletion_loses_nothing_and_ends_it(
    node: Callable[..., Node], index_url: str
) -> None:
    one = node(start=False, **QUIET, database={"url": index_url}, retention={"images_days": 90})
    one.data_dir.mkdir()
    with opened_database(index_url) as database:
        site = Site(one.data_dir, database, [])
        try:
            arrive(site)
            # Where the file system is the same, PostgreSQL need not see all of them.
            for step in STEPS if index_url.startswith("sqlite") else ("some files gone", "before the rows shrink"):
                one.launcher = (sys.executable, "-m", "tests.integration.dying_deletion", step)
                one.launch(None, "--role", "index")
                assert one.process is not None
                wait_until(partial(has_ended, one), 60, f"the end: {step}")
                assert_whole_or_begun(site, step)
            one.launcher = ()
            one.launch(None, "--role", "index")
            wait_until(
                lambda: [row.state for row in site.rows(deletions)] == ["DELETED"], 60, "the end of the deletion"
            )
            one.stop()
            assert (site.rows(instances), files(site)) == ([], set())
            assert len(site.told("deleted")) == 1
        finally:
            site.intake.close()


def has_ended(node: Node) -> bool:
    return node.process is not None and node.process.exit_status is not None


def assert_whole_or_begun(site: Site, step: str) -> None:
    """No file is missing of which no row says that it goes, and none is left that no row knows."""
    begun = [row.state for row in site.rows(deletions)]
    rows = {row.object_key for row in site.rows(instances)}
    assert begun in (["MARKED"], ["DELETED"]), step
    assert files(site) <= rows, step
    assert study(site).deleting == ("IMAGES" if begun == ["MARKED"] else ""), step
    assert (begun == ["DELETED"]) == (rows == set()), step
    assert step != "intent noted" or len(files(site)) == len(IMAGES)
    assert step != "some files gone" or 0 < len(files(site)) < len(IMAGES)


def said(node: Node, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--config", str(node.config)]) == 0
    return capsys.readouterr().out


def test_what_a_pacs_is_owed_stays_until_it_has_it(
    node: Callable[..., Node], orthanc: Orthanc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    route = {"name": "chest", "model": "ct-lung-density", "when": {"modality": "CT"}, "quiet_period_s": 0.5}
    one = node(destination=[pacs], route=[route], retention={"images_days": 90})
    said(one, capsys, "destinations", "suspend", "pacs", "--reason", "maintenance")
    for number, image in enumerate(IMAGES):
        image.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    assert dcmsend(one.dicom_port, *(tmp_path / f"{number}.dcm" for number in range(len(IMAGES)))).returncode == 0
    with opened_database(f"sqlite:///{one.data_dir / 'node.sqlite'}") as database:
        spool = Spool(one.data_dir / "spool")
        wait_until(lambda: is_answered(database), 180, "an answer")
        grow_old(database, spool, 91)
        (stays,) = json.loads(said(one, capsys, "purge", "--dry-run", "--json"))["studies"]
        assert stays["stays"] == "OWED"
        assert "0 deleted" in said(one, capsys, "purge")
        assert orthanc.instances() == []
        said(one, capsys, "destinations", "resume", "pacs")
        wait_until(lambda: not owed(database), 120, "delivery")
        there = len(orthanc.instances())
        grow_old(database, spool, 91)
        assert "1 deleted" in said(one, capsys, "purge")
        with database.read() as connection:
            assert connection.execute(select(instances)).all() == []
        assert len(orthanc.instances()) == there > 0


def is_answered(database: Database) -> bool:
    with database.read() as connection:
        states = set(connection.execute(select(studies.c.state)).scalars())
    return bool(states) and states <= {"REPORTED", "NOT_ANALYSED"}


def owed(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.execute(select(deliveries.c.id).where(deliveries.c.state == "PENDING")).all())
