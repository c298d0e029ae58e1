"""Jobs that wait for a route or a model that the settings do not have any more: told, decided anew, never lost."""

from __future__ import annotations

from pathlib import Path

from dicom_node.index.tables import events, jobs, studies
from tests.integration.step_by_step_node import Site, site
from tests.support.results import analysis_examples as examples

FOLDER = {"kind": "folder", "name": "archive"}


def queued(node: Site) -> None:
    """Receive a study, so that its job waits; nothing runs yet."""
    node.receive(examples.ct_volume())
    assert [row.state for row in node.rows(jobs)] == ["QUEUED"]


def destination(folder: Path) -> list[dict[str, str]]:
    (folder / "archive").mkdir(parents=True, exist_ok=True)
    return [{**FOLDER, "path": str(folder / "archive")}]


def test_a_route_renamed_while_a_job_waits_is_told_and_the_present_routes_decide_anew(tmp_path: Path) -> None:
    with site(tmp_path / "node", destination(tmp_path)) as node:
        queued(node)
        node.configure(destination(tmp_path), route_name="thorax")
        node.analyse()
        node.sweep()
        node.settle()

        old, new = node.rows(jobs)
        assert (old.route, old.state, old.reason) == ("chest", "NOT_ANALYSABLE", "ROUTE_GONE")
        assert "The route chest" in old.message
        assert (new.route, new.state) == ("thorax", "DONE")
        assert [row.state for row in node.rows(studies)] == ["REPORTED"]
        assert node.told("decided-anew")
        assert node.kinds_of("archive")


def test_a_model_that_is_gone_while_a_job_waits_leaves_the_study_not_analysed_and_says_so(tmp_path: Path) -> None:
    with site(tmp_path / "node", destination(tmp_path)) as node:
        queued(node)
        card = node.cards.pop("ct-lung-density")
        node.analyse()
        assert [(row.state, row.reason, row.attempts) for row in node.rows(jobs)] == [
            ("NOT_ANALYSABLE", "ROUTE_GONE", 1)
        ]
        node.cards["ct-lung-density"] = card
        node.sweep()

        (study,) = node.rows(studies)
        assert study.state == "NOT_ANALYSED"
        assert "The model ct-lung-density" in study.reason
        assert not any("could not be written" in row.text for row in node.rows(events))
