"""A node whose audit trail is gone: people are refused; studies are taken, delivered, and told of afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli.parser import make_parser
from tests.peers.dcmtk import dcmsend, echoscu
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)


def test_care_goes_on_without_a_trail_and_is_told_when_it_is_back(
    node: Callable[..., Node], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = node(
        peer=[{"ae_title": "MOD1", "host": "any"}],
        route=[{"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
        destination=[{"name": "out", "kind": "folder", "path": str(tmp_path / "out")}],
        audit={"anchor_file": str(tmp_path / "elsewhere" / "anchor")},
    )
    with one.api() as api:
        assert api.get("/api/studies").status_code == 200
    change(one, "ALTER TABLE audit_records RENAME TO gone")

    assert echoscu(one.dicom_port, calling="STRANGER").returncode != 0
    images = small_chest_ct("audit")[0]
    study = str(images[0].StudyInstanceUID)
    (tmp_path / "images").mkdir()
    for image in images:
        image.save_as(tmp_path / "images" / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    assert dcmsend(one.dicom_port, tmp_path / "images").returncode == 0
    wait_until(lambda: any((tmp_path / "out").rglob("*.dcm")), 120, "a result to be delivered")
    with one.api() as api:
        for refused in (api.get(f"/api/studies/{study}"), api.post(f"/api/studies/{study}/rerun")):
            assert (refused.status_code, "audit trail" in refused.json()["detail"]) == (503, True)
        assert api.get("/readyz").status_code == 200
        assert "acts of care wait" in api.get("/api/status").json()["audit_fault"]
    said = [event for event in one.events() if event.get("event") == "audit trail cannot be written"]
    assert [event["level"] for event in said] == ["ERROR"]
    wait_until(lambda: "study-sent" in waiting(one), 60, "what was sent to be kept")

    one.kill9()
    one.start()
    change(one, "ALTER TABLE gone RENAME TO audit_records")
    wait_until(lambda: {"study-received", "study-sent", "association-refused"} <= set(acts(one)), 60, "the trail")
    assert acts(one).count("study-received") == 1
    assert whom(one, "study-received") == ("MOD1", study, str(images[0].PatientID))
    assert whom(one, "association-refused")[0] == "STRANGER"
    one.stop()

    assert verified(one) == 0
    last = len(acts(one))
    change(one, f"DELETE FROM audit_records WHERE number = {last}")
    assert verified(one) == 1
    assert f"record {last}: it is missing" in capsys.readouterr().out


def change(one: Node, statement: str) -> None:
    with closing(sqlite3.connect(one.data_dir / "node.sqlite", timeout=60)) as connection:
        connection.execute(statement)
        connection.commit()


def rows(one: Node, query: str) -> list[Any]:
    with closing(sqlite3.connect(one.data_dir / "node.sqlite", timeout=60)) as connection:
        return connection.execute(query).fetchall()


def acts(one: Node) -> list[str]:
    return [act for (act,) in rows(one, "SELECT act FROM audit_records ORDER BY number")]


def whom(one: Node, act: str) -> tuple[str, str, str]:
    query = f"SELECT actor, study_instance_uid, patient_id FROM audit_records WHERE act = '{act}'"
    found: tuple[str, str, str] = rows(one, query)[0]
    return found


def waiting(one: Node) -> str:
    return "".join(path.read_text() for path in (one.data_dir / "audit" / "waiting").glob("*.jsonl"))


def verified(one: Node) -> int:
    """The exit status of `dicom-node audit verify`."""
    options = make_parser().parse_args(["audit", "verify", "--config", str(one.config)])
    return int(options.run(options))
