"""When a study is complete, and for which routes: the sweep over the index, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, Table, select

from dicom_node.core.entities import Instance, InstanceRole, JobState, Route, StudyState
from dicom_node.core.uids import derived_uid
from dicom_node.index.database import Database
from dicom_node.index.decided.actions import rerun_study
from dicom_node.index.received.arrivals import add_instance
from dicom_node.index.received.associations import open_association
from dicom_node.index.tables import jobs, studies
from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.receive.associations import AssociationSweep
from tests.support.results.arrivals import STUDY, instance
from tests.support.results.rows import SOMEBODY


@dataclass(frozen=True)
class AnyCt:
    """A model card that takes every CT."""

    accepts: Sequence[Mapping[str, object]] = ({"modality": "CT"},)
    rank: Sequence[str] = ()


CHEST = Route(name="chest-ct", model="m", destinations=(), when=({"body_part_examined": "CHEST"},), quiet_period_s=30)


def sweep(index: Database, *routes: Route) -> int:
    """Sweep once; return how often the job runner was woken."""
    woken: list[None] = []
    CompletenessSweep(index, routes or (CHEST,), {"m": AnyCt()}, lambda: woken.append(None)).run()
    return len(woken)


def aged(age_s: float, name: str = "1", **more: Any) -> Instance:
    """Return an image that arrived `age_s` ago."""
    return replace(instance(name, **more), received_at=datetime.now(UTC) - timedelta(seconds=age_s))


def bring(index: Database, *images: Instance, association: str = "") -> None:
    for image in images:
        with index.write() as connection:
            add_instance(connection, image)
            if association:
                open_association(connection, association, "receiver", [image])


def rows(index: Database, table: Table) -> list[Row[Any]]:
    with index.read() as connection:
        return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def test_a_study_that_still_arrives_is_left_alone(index: Database) -> None:
    bring(index, aged(100, "1"), aged(10, "2"))
    assert sweep(index) == 0
    assert rows(index, jobs) == []


def test_a_quiet_study_goes_to_its_route(index: Database) -> None:
    bring(index, aged(40, "1"), aged(31, "2"))
    assert sweep(index) == 1
    (job,) = rows(index, jobs)
    assert (job.route, job.state, job.study_partial) == ("chest-ct", JobState.QUEUED, False)
    assert job.series_instance_uid == instance().series_instance_uid
    assert rows(index, studies)[0].state == StudyState.COMPLETE
    assert sweep(index) == 0


def test_a_study_from_before_the_clock_was_set_back_by_a_day_waits_for_its_quiet_period_alone(index: Database) -> None:
    quick = replace(CHEST, quiet_period_s=0.001)
    bring(index, aged(-86400, "1"), aged(-86390, "2"))
    assert sweep(index, quick) == 0
    counted = rows(index, studies)[0]
    assert counted.first_received_at == counted.last_received_at <= datetime.now(UTC)
    assert sweep(index, quick) == 1
    assert rows(index, jobs)[0].study_partial is False


def test_an_open_association_holds_the_study(index: Database) -> None:
    bring(index, aged(40), association="a")
    assert sweep(index) == 0
    AssociationSweep(index, "receiver").forget_own()
    assert sweep(index) == 1


def test_a_study_that_images_leave_waits_for_the_association_that_takes_them(index: Database) -> None:
    """A PACS splits a study; between two of its images the one that loses them would be judged with half of them."""
    other = derived_uid("split-off")
    bring(index, aged(100, "1"), aged(100, "2"), aged(100, "3"))
    bring(index, aged(50, "1", study=other, content="moved"), association="a")
    assert sweep(index, replace(CHEST, name="held", quiet_period_s=20)) == 0
    AssociationSweep(index, "receiver").forget_own()
    assert sweep(index) == 2


def test_a_study_that_images_leave_waits_for_what_is_still_in_the_journal(index: Database) -> None:
    other = derived_uid("split-off")
    bring(index, aged(100, "1"), aged(100, "2"), aged(100, "1", study=other, content="moved"))
    one = CompletenessSweep(index, (CHEST,), {"m": AnyCt()}, lambda: None, lambda: frozenset({other}))
    one.run()
    assert rows(index, jobs) == []


def test_an_association_that_fell_silent_holds_nothing_for_long(index: Database) -> None:
    bring(index, aged(100), association="a")
    AssociationSweep(index, "another").run()
    assert sweep(index) == 1


def test_an_association_that_is_renewed_goes_on_holding(index: Database) -> None:
    bring(index, aged(100), association="a")
    AssociationSweep(index, "receiver").run()
    assert sweep(index) == 0


def test_a_study_that_never_ends_is_cut_at_the_cap_and_called_partial(index: Database) -> None:
    bring(index, aged(7201, "1"), aged(1, "2"), association="a")
    assert sweep(index) == 1
    (job,) = rows(index, jobs)
    assert job.study_partial
    assert rows(index, studies)[0].state == StudyState.COMPLETE


def test_each_route_waits_its_own_time(index: Database) -> None:
    hasty = replace(CHEST, name="hasty", quiet_period_s=5)
    bring(index, aged(10))
    assert sweep(index, CHEST, hasty) == 1
    assert [row.route for row in rows(index, jobs)] == ["hasty"]
    assert rows(index, studies)[0].state == StudyState.RECEIVING
    assert sweep(index, replace(CHEST, quiet_period_s=9), hasty) == 1
    assert [row.route for row in rows(index, jobs)] == ["hasty", "chest-ct"]
    assert rows(index, studies)[0].state == StudyState.COMPLETE


def test_a_study_nobody_wants_is_not_analysed_and_says_why(index: Database) -> None:
    bring(index, aged(40, attributes={"modality": "MR", "body_part_examined": "BRAIN"}))
    assert sweep(index) == 0
    (study,) = rows(index, studies)
    assert study.state == StudyState.NOT_ANALYSED
    assert study.reason.startswith("No route wants this study.")


def test_on_a_study_that_nobody_wanted_the_present_routes_decide_when_it_is_run_again(index: Database) -> None:
    bring(index, aged(40, attributes={"modality": "CT", "body_part_examined": "KNEE"}))
    sweep(index)
    with index.write() as connection:
        assert rerun_study(connection, STUDY, None, SOMEBODY, datetime.now(UTC)) == []
    assert sweep(index, replace(CHEST, name="knee", when=({"body_part_examined": "KNEE"},))) == 1
    assert [row.route for row in rows(index, jobs)] == ["knee"]
    assert rows(index, studies)[0].state == StudyState.COMPLETE


def test_a_study_without_images_says_so_once_however_many_routes_there_are(index: Database) -> None:
    """An ECG, a document: nothing for any route, not even for one that takes everything."""
    ecg = {"role": InstanceRole.EVIDENCE, "attributes": {"modality": "ECG"}}
    bring(index, aged(40, **ecg))
    assert sweep(index, CHEST, replace(CHEST, name="everything", when=())) == 0
    (study,) = rows(index, studies)
    assert (study.state, study.reason) == (
        StudyState.NOT_ANALYSED,
        "The study has no image to analyse, only other objects (ECG).",
    )
    assert rows(index, jobs) == []


def test_a_study_a_route_wants_but_its_model_cannot_take_gets_a_job_that_says_so(index: Database) -> None:
    bring(index, aged(40, attributes={"modality": "MR", "body_part_examined": "CHEST"}))
    assert sweep(index) == 1
    (job,) = rows(index, jobs)
    assert (job.series_instance_uid, job.decision["chosen"]) == ("", None)


def test_a_study_of_reports_alone_is_not_analysed(index: Database) -> None:
    bring(index, aged(40, role=InstanceRole.EVIDENCE))
    sweep(index)
    assert rows(index, studies)[0].state == StudyState.NOT_ANALYSED


def test_a_late_image_is_analysed_once_more_after_its_own_quiet_time(index: Database) -> None:
    bring(index, aged(40))
    sweep(index)
    bring(index, aged(1, "2"))
    assert sweep(index) == 0
    bring(index, aged(0, "3"))
    assert rows(index, studies)[0].revision == 2
    assert sweep(index, replace(CHEST, quiet_period_s=0.001)) == 1
    assert [(row.revision, row.state) for row in rows(index, jobs)] == [
        (1, JobState.SUPERSEDED),
        (2, JobState.QUEUED),
    ]


HOSTILE = {
    "rows": "abc", "columns": "-1", "slice_thickness": "1e999", "patient_age": "XXXX", "instance_number": "\\\\",
    "modality": "CT\\MR", "body_part_examined": "CHEST\\", "study_date": "99999999", "series_description": "(((",
}  # fmt: skip


def test_a_study_with_hostile_attributes_does_not_stop_the_sweep(index: Database) -> None:
    hostile = derived_uid("hostile")
    bring(index, aged(50, "h", study=hostile, attributes=HOSTILE), aged(40))
    demanding = replace(
        CHEST,
        name="demanding",
        rank=("slice_thickness asc", "rows desc"),
        when=({"slice_thickness": {"max": 5}}, {"rows": {"min": 10}, "patient_age": {"min": 18}}),
    )
    sweep(index, CHEST, demanding)
    states = {row.study_instance_uid: row.state for row in rows(index, studies)}
    assert states[STUDY] == StudyState.COMPLETE
    assert states[hostile] in {StudyState.COMPLETE, StudyState.NOT_ANALYSED}


class FailsOnce:
    """A model card that cannot be read the first time it is asked."""

    rank: Sequence[str] = ()

    def __init__(self) -> None:
        self.asked = 0

    @property
    def accepts(self) -> Sequence[Mapping[str, object]]:
        self.asked += 1
        if self.asked == 1:
            raise ValueError
        return ({"modality": "CT"},)


def test_a_study_whose_decision_fails_does_not_hold_up_the_others(
    index: Database, caplog: pytest.LogCaptureFixture
) -> None:
    older = derived_uid("older")
    bring(index, aged(50, "h", study=older), aged(40))
    CompletenessSweep(index, (CHEST,), {"m": FailsOnce()}, lambda: None).run()
    states = {row.study_instance_uid: row.state for row in rows(index, studies)}
    assert states == {older: StudyState.RECEIVING, STUDY: StudyState.COMPLETE}
    assert "no decision on a study" in caplog.text
