"""A running node and a PACS that takes little and is away at first: the job is requeued by itself, each thing once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.core.outputs.artifact_kinds import REPORTS, SECONDARY_CAPTURE
from tests.acceptance.test_model_files import finished, send
from tests.peers.dcmtk import profile_taking, running_storescp
from tests.peers.node import Node
from tests.peers.process import free_port, wait_until

pytestmark = pytest.mark.timeout(600)


def test_a_modest_pacs_gets_its_part_and_the_folder_everything(node: Callable[..., Node], tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "delivered"
    one = node(
        destination=[
            {"name": "pacs", "kind": "dicom", "ae_title": "MODEST", "host": "127.0.0.1", "port": port,
             "preset": "weasis"},
            {"name": "files", "kind": "folder", "path": str(out), "preset": "weasis"},
        ],
        route=[{"name": "live", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "when": {"modality": "CR"}}],
        delivery={"first_retry_s": 1.0, "max_retry_s": 2.0},
    )  # fmt: skip
    study = send(one, tmp_path / "images", "modest")
    finished(one, study)

    profile = profile_taking(tmp_path / "pacs", [SECONDARY_CAPTURE, REPORTS["comprehensive"]])
    with running_storescp(tmp_path / "pacs", "-xf", str(profile), "Default", port=port, aet="MODEST") as pacs:
        wait_until(lambda: any(path.name.startswith("SR") for path in pacs.files()), 240, "the report", 0.5)
        # Its file is there before its answer has come back.
        wait_until(lambda: not _owed(one, study), 60, "the answers", 0.5)
        received = pacs.datasets()
    with one.api() as api:
        view = api.get(f"/api/studies/{study}").raise_for_status().json()
        timeline = [entry["text"] for entry in api.get(f"/api/studies/{study}/timeline").json()]
        modest, files = api.get("/api/destinations").raise_for_status().json()

    assert {str(one.SOPClassUID) for one in received} == {SECONDARY_CAPTURE, REPORTS["comprehensive"]}
    log = (tmp_path / "pacs" / "storescp.log").read_text(encoding="utf-8", errors="replace")
    assert log.count("Received Store Request") == len(received)
    assert [text for text in timeline if "the job is queued again" in text]
    assert any(text.startswith("pacs takes no SR comprehensive3d and gets comprehensive.") for text in timeline)
    assert modest["takes"] == ["SC", "SR comprehensive"] == modest["gets"]
    assert files["left_out"] == []
    (result,) = view["results"]
    kinds = {artifact["uid"]: artifact["kind"] for artifact in result["artifacts"]}
    assert {"SC", "GSPS", "PDF", "SR", "FHIR"} <= set(kinds.values())
    states = {(kinds[one["artifact_uid"]], one["state"]) for one in view["deliveries"] if one["destination"] == "pacs"}
    assert states == {("SC", "SENT"), ("SR", "SENT")}
    assert len(list(out.rglob("SR-*.dcm"))) == 1


def _owed(node: Node, study: str) -> int:
    with node.api() as api:
        return int(api.get(f"/api/studies/{study}").raise_for_status().json()["study"]["deliveries"]["pending"])


def test_what_waits_for_a_destination_that_is_gone_is_told_at_the_start(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    away = {"name": "old", "kind": "dicom", "ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()}
    route = {"name": "live", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "when": {"modality": "CR"}}
    one = node(destination=[away], route=[route])
    study = send(one, tmp_path / "images", "renamed")
    finished(one, study)
    one.stop()
    one.configure({"destination": [away | {"name": "new"}], "route": [route]})
    one.start()
    told = one.wait_for_event(lambda event: event.get("event") == "owed to a destination that is not configured")
    with one.api() as api:
        owed = len(api.get(f"/api/studies/{study}").raise_for_status().json()["deliveries"])
    assert (told["destination"], told["deliveries"]) == ("old", owed)
