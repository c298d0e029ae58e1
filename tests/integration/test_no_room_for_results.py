"""A disk that takes no result costs no study an attempt: it is analysed when there is room."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dicom_node.core.errors import SpoolUnavailable
from dicom_node.index.tables import jobs
from dicom_node.storage.folder import room_in
from tests.integration.step_by_step_node import site
from tests.support.results import analysis_examples as examples


def test_a_result_that_cannot_be_kept_costs_the_study_no_attempt(tmp_path: Path) -> None:
    with site(tmp_path / "node", [{"kind": "folder", "name": "archive", "path": str(tmp_path / "archive")}]) as node:
        node.receive(examples.ct_volume())
        incoming = node.spool.folder / "incoming"
        incoming.rename(tmp_path / "away")
        for _ in range(3):  # of one attempt that a study has
            with pytest.raises(SpoolUnavailable):
                node.analyse()
        assert [row.state for row in node.rows(jobs)] == ["QUEUED"]
        (tmp_path / "away").rename(incoming)
        node.settle()
        assert [(row.state, row.attempts) for row in node.rows(jobs)] == [("DONE", 1)]


def test_a_full_disk_is_told_from_another_fault() -> None:
    with pytest.raises(SpoolUnavailable, match="no room below"), room_in(Path("/dev")):
        Path("/dev/full").write_bytes(b"a result")
    with pytest.raises(OSError, match="gone") as found, room_in(Path("/dev")):
        raise OSError(errno.EIO, "gone")
    assert not isinstance(found.value, SpoolUnavailable)
