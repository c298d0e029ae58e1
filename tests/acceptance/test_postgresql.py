"""The same node with its memory in PostgreSQL: a study in, results out, and again after kill -9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.acceptance.site import FINISHED
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.results.folders import objects_in
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)


def test_a_study_comes_back_from_a_node_on_postgresql_even_after_a_kill(
    node: Callable[..., Node], postgres_url: str, tmp_path: Path
) -> None:
    started = node(
        database={"url": postgres_url},
        destination=[{"name": "files", "kind": "folder", "path": str(tmp_path / "files")}],
        route=[{"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    )
    source = tmp_path / "study"
    source.mkdir()
    for dataset in small_chest_ct("postgresql")[0]:
        dataset.save_as(source / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = list(send_files([source], Remote("127.0.0.1", started.dicom_port, started.aet, "MOD1", 30.0)))
    assert all(one.stored for one in sent)

    started.kill9()
    started.start()
    wait_until(lambda: _is_finished(started), 120, "the study to be finished", 0.25)

    names = sorted(path.name.partition("-")[0] for path in objects_in(tmp_path / "files"))
    assert {"FHIR", "SC", "SEG", "SR"} == set(names)
    assert (names.count("SR"), names.count("SEG"), names.count("FHIR")) == (1, 1, 1)


def _is_finished(node: Node) -> bool:
    with node.api() as api:
        studies = api.get("/api/studies").raise_for_status().json()["studies"]
    return bool(studies) and all(s["state"] in FINISHED and not s["deliveries"]["pending"] for s in studies)
