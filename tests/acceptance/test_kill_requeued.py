"""kill -9 while a result is made in several output sets, and requeued after a refusal: each thing once, none lost."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.core.outputs.artifact_kinds import REPORTS, SEGMENTATION
from tests.acceptance.test_model_files import send
from tests.peers.node import Node
from tests.peers.process import free_port, wait_until
from tests.support.campaign import amount

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=3600))]

ROUNDS = amount(2, campaign=6)
SEED = 20261121
#: From the first image to the last delivery, requeueing included, it takes about this long.
ROUND_S = 7.0
REFUSED = {SEGMENTATION, REPORTS["comprehensive3d"], "1.2.840.10008.5.1.4.1.1.11.1"}


@contextmanager
def picky_pacs(stored: list[Dataset]) -> Iterator[int]:
    """Agrees to every class, and answers 0x0122 for some when they come."""

    def store(event: Any) -> int:
        if event.request.AffectedSOPClassUID in REFUSED:
            return 0x0122
        stored.append(event.dataset)
        return 0x0000

    entity = AE("PICKY")
    entity.supported_contexts = AllStoragePresentationContexts
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def test_killing_the_node_while_results_are_told_again_loses_and_doubles_nothing(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    stored: list[Dataset] = []
    files = tmp_path / "files"
    with picky_pacs(stored) as port:
        one = node(
            dicom={"port": free_port()}, inference={"max_attempts": 10},
            destination=[
                {"name": "pacs", "kind": "dicom", "ae_title": "PICKY", "host": "127.0.0.1", "port": port,
                 "preset": "weasis"},
                {"name": "files", "kind": "folder", "path": str(files), "preset": "weasis"},
            ],
            route=[{"name": "live", "model": "cxr-pneumonia", "quiet_period_s": 0.5, "when": {"modality": "CR"}}],
        )  # fmt: skip
        chance = random.Random(SEED)
        studies = []
        for number in range(ROUNDS):
            studies.append(send(one, tmp_path / "images", f"kill-{number}"))
            one.wait_until_settled()
            time.sleep(chance.uniform(0.0, ROUND_S))
            one.kill9()
            # What was learned of the peer is forgotten in no round, so that only the first refusals requeue.
            one.start()
        wait_until(lambda: all(_is_settled(one, study) for study in studies), 400, "all to be delivered", 0.5)
        timelines = {study: _timeline(one, study) for study in studies}

    for study in studies:
        there = {ds.SOPInstanceUID: ds for ds in stored if ds.StudyInstanceUID == study}
        made = Counter(str(ds.SOPClassUID) for ds in there.values())
        assert made[REPORTS["comprehensive"]] == 1, (made, timelines[study])
        assert not made.keys() & REFUSED
        (report,) = (ds for ds in there.values() if ds.Modality == "SR")
        named = {
            item.ReferencedSOPInstanceUID
            for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
            if item.ReferencedSOPClassUID != "1.2.840.10008.5.1.4.1.1.1"
        }
        assert named <= there.keys(), timelines[study]
    kept = [dcmread(path) for path in files.rglob("*.dcm")]
    reports = Counter(ds.StudyInstanceUID for ds in kept if ds.Modality == "SR")
    assert reports == dict.fromkeys(studies, 1)
    requeued = [text for timeline in timelines.values() for text in timeline if "queued again" in text]
    assert 1 <= len(requeued) <= len(REFUSED) + ROUNDS, requeued


def _is_settled(node: Node, study: str) -> bool:
    with node.api() as api:
        view = api.get(f"/api/studies/{study}").json()
    return bool(view["study"]["state"] == "REPORTED" and not view["study"]["deliveries"]["pending"])


def _timeline(node: Node, study: str) -> list[str]:
    with node.api() as api:
        return [entry["text"] for entry in api.get(f"/api/studies/{study}/timeline").json()]
