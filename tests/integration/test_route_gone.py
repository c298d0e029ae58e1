"""Jobs that wait for a route or a model that the settings do not have any more: told, decided anew, never lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dicom_node.index.decided.actions import rerun_study
from dicom_node.index.tables import events, jobs, studies
from tests.integration.step_by_step_node import Site, site
from tests.support.results import analysis_examples as examples
from tests.support.results.rows import SOMEBODY
from tests.support.studies import volumes

VALUES = volumes.asymmetric(slices=9)
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


def rerun(node: Site) -> None:
    """Ask as `dicom-node rerun STUDY` does, and let the node work it off."""
    (study,) = node.rows(studies)
    with node.database.write() as connection:
        rerun_study(connection, study.study_instance_uid, None, SOMEBODY, datetime.now(UTC))
    node.sweep()
    node.settle()


def test_another_series_is_analysed_where_the_route_was_changed_and_the_study_run_again(tmp_path: Path) -> None:
    head = volumes.classic(VALUES, volumes.affine(), name="head", BodyPartExamined="HEAD", SeriesDescription="Head")
    chest = volumes.classic(VALUES, volumes.affine(), name="chest", BodyPartExamined="CHEST")
    with site(tmp_path / "node", destination(tmp_path)) as node:
        node.configure(destination(tmp_path), when={"series_description": "Head"})
        node.run([*head, *chest])
        (job,) = node.rows(jobs)
        assert (job.state, job.reason, job.series_instance_uid) == ("NOT_ANALYSABLE", "NO_SUITABLE_SERIES", "")

        rerun(node)
        assert [row.reason for row in node.rows(jobs)] == ["NO_SUITABLE_SERIES"]
        assert [row.state for row in node.rows(studies)] == ["NOT_ANALYSED"]

        node.configure(destination(tmp_path))
        rerun(node)
        (job,) = node.rows(jobs)
        assert (job.state, job.series_instance_uid) == ("DONE", chest[0].SeriesInstanceUID)
        assert job.decision["chosen"] == chest[0].SeriesInstanceUID
        assert [row.state for row in node.rows(studies)] == ["REPORTED"]


def test_a_study_of_which_nothing_was_analysed_is_run_again_for_routes_that_were_added(tmp_path: Path) -> None:
    head = volumes.classic(VALUES, volumes.affine(), name="head", BodyPartExamined="HEAD", SeriesDescription="Head")
    chest = volumes.classic(VALUES, volumes.affine(), name="chest", BodyPartExamined="CHEST")
    with site(tmp_path / "node", destination(tmp_path)) as node:
        node.configure(destination(tmp_path), "heads", when={"series_description": "Head"})
        node.run([*head, *chest])
        node.configure(destination(tmp_path), "thorax")
        rerun(node)
        node.sweep()
        node.settle()
        assert [(row.route, row.state) for row in node.rows(jobs)] == [("heads", "NOT_ANALYSABLE"), ("thorax", "DONE")]
        assert [row.state for row in node.rows(studies)] == ["REPORTED"]
