"""Why an analysis is wanted, and what for: kept by whom it is stated for, and said in every report."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_node.core.entities import StatedRequest
from dicom_node.fhir.builders.resources.report import REASON_CODE
from dicom_node.index.database import Database
from dicom_node.index.decided.actions import rerun_with
from dicom_node.index.received.stated_requests import request_for, state_request
from dicom_node.index.tables import results
from tests.integration.step_by_step_node import site
from tests.support.results.arrivals import after
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

UID = "1.2.3"
COUGH = StatedRequest("Cough for 3 weeks", "primary")


def state(index: Database, route: str | None, *said: str | None) -> None:
    with index.write() as connection:
        state_request(connection, UID, route, StatedRequest(*said), after(0))


def kept(index: Database, route: str) -> tuple[str | None, str | None]:
    with index.read() as connection:
        one = request_for(connection, UID, route)
    return one.indication, one.purpose


def test_what_is_stated_for_one_route_stands_before_what_is_stated_for_all(index: Database) -> None:
    assert kept(index, "ct") == (None, None)
    state(index, None, "Cough", "primary")
    state(index, "ct", "Nodule", None)
    assert (kept(index, "ct"), kept(index, "xr")) == (("Nodule", "primary"), ("Cough", "primary"))
    state(index, None, None, "follow-up")
    assert kept(index, "ct") == kept(index, "xr") == ("Cough", "follow-up")
    state(index, None)
    assert kept(index, "xr") == ("Cough", "follow-up")


def test_an_indication_that_is_taken_back_is_none(index: Database) -> None:
    state(index, None, "Cough", "primary")
    state(index, None, "", None)
    assert kept(index, "ct") == ("", "primary")


def texts_of(item: Dataset, code: str) -> list[str]:
    return [one.TextValue for one in item.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == code]


def test_a_rerun_for_another_reason_is_a_new_result_that_says_so_everywhere(tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    uid = str(images[0].StudyInstanceUID)
    outputs = {"secondary_capture": False, "segmentation": "off", "encapsulated_pdf": True}
    files = {"name": "files", "kind": "folder", "path": str(tmp_path / "out"), "outputs": outputs}
    with site(tmp_path / "node", [files]) as one:
        one.run(images)
        before = set((tmp_path / "out").rglob("*"))
        for _ in range(2):  # asked twice for the same reason it is the same result
            with one.database.write() as connection:
                rerun_with(connection, uid, (None, COUGH), SOMEBODY, datetime.now(UTC))
            one.settle()
        assert [row.standing for row in sorted(one.rows(results), key=lambda row: row.sequence)] == [
            "SUPERSEDED", "CURRENT",
        ]  # fmt: skip
        [said] = {" ".join(one.told("operator"))}
        assert "Cough" not in said
    fresh = [path for path in sorted(set((tmp_path / "out").rglob("*")) - before) if path.is_file()]
    [report] = [found for path in fresh if path.suffix == ".dcm" and (found := pydicom.dcmread(path)).Modality == "SR"]
    assert texts_of(report, "121109") == ["Cough for 3 weeks"]
    assert texts_of(report, "PURPOSE") == ["primary"]
    [bundle] = [json.loads(path.read_text()) for path in fresh if '"DiagnosticReport"' in _text(path)]
    [told] = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport"]
    assert told["extension"] == [{"url": REASON_CODE, "valueCodeableConcept": {"text": "Cough for 3 weeks"}}]
    assert "Cough for 3 weeks" in told["text"]["div"]
    assert "primary" in told["text"]["div"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
