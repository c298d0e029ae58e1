"""A whole node hears a report over MLLP, reads it, and says that it knows no such study."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from dicom_node.index.tables import reports
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.hl7.messages import report
from tests.support.hl7.peers import code, send
from tests.support.results.arrivals import opened_database


def test_a_node_hears_reads_and_tells_of_a_report(tmp_path: Path) -> None:
    node = Node(tmp_path, {"hl7": {"port": 0, "patient_authority": "HOSP"}, "reports": {"hl7": True}})
    node.start()
    try:
        assert code(send(node.ports["hl7"], report("A1", "Secretword. No pneumonia."))) == "AA"

        def told() -> list[dict[str, str]]:
            with node.api() as api:
                found: list[dict[str, str]] = api.get("/api/v1/concordance/unmatched").json()["reports"]
            return found

        wait_until(lambda: bool(told()), 60, "the report is looked at")
        assert told()[0]["reason"] == "No study of the patient is here."
        with node.api() as api:
            assert 'dicom_node_reports{match="unmatched"} 1' in api.get("/metrics").text
    finally:
        node.stop()
    assert "Secretword" not in node.log.read_text(encoding="utf-8")
    with (
        opened_database(f"sqlite:///{next(node.data_dir.glob('*.sqlite'))}") as database,
        database.read() as connection,
    ):
        assert connection.execute(select(reports.c.text)).scalar_one() == ""
