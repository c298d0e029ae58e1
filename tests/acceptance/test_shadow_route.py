"""A shadow route on a running node: the same study, another threshold, compared and never delivered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.test_model_files import finished, send
from tests.peers.node import Node
from tests.peers.process import wait_until

pytestmark = pytest.mark.timeout(600)


def test_a_shadow_is_run_kept_and_compared_and_only_the_live_route_is_delivered(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    out = tmp_path / "delivered"
    one = node(
        destination=[{"name": "files", "kind": "folder", "path": str(out)}],
        route=[
            {"name": "live", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "when": {"modality": "CR"},
             "parameters": {"threshold": 0.0}},
            {"name": "next", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "shadow": True, "shadow_of": "live",
             "parameters": {"threshold": 1.0}},
        ],
    )  # fmt: skip

    study = send(one, tmp_path / "images", "shadowed")
    finished(one, study)

    def compared() -> bool:
        with one.api() as api:
            return bool(api.get("/api/shadows").raise_for_status().json())

    wait_until(compared, 240, "the shadow to be compared", 0.5)
    with one.api() as api:
        (report,) = api.get("/api/shadows").json()
        view = api.get(f"/api/studies/{study}").json()
        timeline = [entry["text"] for entry in api.get(f"/api/studies/{study}/timeline").json()]
        routes = {route["name"]: route for route in api.get("/api/routes").json()}

    assert (report["route"], report["shadow_of"], report["compared"], report["agreed"]) == ("next", "live", 1, 0)
    assert "PRESENT" in report["disagreements"][0]["lines"][0]
    assert any(text.startswith("Shadow route next differs from live.") for text in timeline)
    assert routes["next"]["destinations"] == []
    assert {result["route"]: result["shadow_of"] for result in view["results"]} == {"live": "", "next": "live"}
    shadow, live = sorted(view["results"], key=lambda result: result["route"] == "live")
    assert {delivery["job_key"] for delivery in view["deliveries"]} == {live["job_key"]}
    assert shadow["artifacts"], "a shadow's objects are kept to be looked at"

    delivered = {artifact["uid"] for artifact in live["artifacts"] if artifact["kind"] != "FHIR"}
    wait_until(lambda: len(list(out.rglob("*.dcm"))) >= len(delivered), 60, "the live route's objects", 0.25)
    assert {str(pydicom.dcmread(path).SOPInstanceUID) for path in out.rglob("*.dcm")} == delivered
