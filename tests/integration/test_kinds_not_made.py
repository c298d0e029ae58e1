"""A kind of object that cannot be made, seen from outside: delivery, timeline, result and log of the node."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dicom_node.index.tables import jobs, results
from dicom_node.sr_writer.overlays import segmentation
from tests.integration.step_by_step_node import site
from tests.support.studies.data_factories import small_chest_ct


def test_the_rest_is_delivered_and_the_loss_is_told_on_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("Mueller^Joerg")

    monkeypatch.setattr(segmentation, "Segmentation", broken)
    with site(tmp_path / "node", [{"name": "folder", "kind": "folder", "path": tmp_path / "out"}]) as node:
        with caplog.at_level(logging.ERROR, "dicom_node"):
            node.run(small_chest_ct()[0])

        arrived = node.kinds_of("folder")
        assert {"SC", "SR", "FHIR"} == set(arrived)
        (job,), (result,) = node.rows(jobs), node.rows(results)
        told = node.told("notes")
    assert job.state == "DONE"
    note = "NOT COMPLETE: segmentation (SEG), none made because of an error of the node (ValueError)."
    assert note in told[0]
    assert note in result.summary["notes"]
    assert result.message == "Not every wanted kind of object could be made; see the notes."
    (line,) = (record for record in caplog.records if record.message == "kind of object not made")
    assert (line.levelname, line.kind, line.error, line.study) == (  # type: ignore[attr-defined]
        "ERROR", "SEG", "ValueError", job.study_instance_uid,
    )  # fmt: skip
    assert "Mueller" not in caplog.text + str(result) + str(told)
