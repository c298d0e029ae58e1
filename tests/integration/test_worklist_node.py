"""A node as it runs: an image comes, and a moment later its study is found by its numbers, under its patient's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.peers.dcmtk import storescu
from tests.peers.node import Node
from tests.peers.process import wait_until


def test_a_study_is_found_by_accession_and_patient_a_moment_after_it_came(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    image = chest_radiograph_phantom()
    image.PatientName, image.PatientID, image.AccessionNumber = "Sommer^Anna", "PAT-4711", "ACC-1001"
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    running = node()
    assert storescu(running.dicom_port, tmp_path / "image.dcm").returncode == 0
    with running.api() as api:

        def found(**asked: str) -> list[str]:
            studies = api.get("/api/v1/worklist", params=asked).raise_for_status().json()["studies"]
            return [one["patient"]["name"] for one in studies]

        wait_until(lambda: found(accession_number="ACC-1001") == ["Sommer^Anna"], 120, "the study is found")
        assert found(query="PAT-4711") == found(patient_id="PAT-4711") == ["Sommer^Anna"]
    key = running.data_dir / "search-key"
    assert key.stat().st_mode & 0o077 == 0
    assert not [line for line in running.log_lines() if "Sommer" in line or "4711" in line or "ACC-1001" in line]
