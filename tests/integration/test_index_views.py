"""What the read side of the index tells, on SQLite; `tests/integration/test_index_views_postgres.py` runs it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.core.entities import ArtifactKind, DeliveryState, InstanceRole, JobState, StudyState
from dicom_node.core.errors import NotFound
from dicom_node.index.database import Database
from dicom_node.index.outbox.withdrawals import supersede_results
from dicom_node.index.tables import studies
from dicom_node.index.views import lists as views
from dicom_node.index.views import study as study_views
from dicom_node.index.views.lists import changed_studies, counts, last_change
from dicom_node.index.views.types import DeliveryCounts
from tests.support.results.rows import NOW, Rows, key_of
from tests.support.results.seeded import (
    ALL_STUDIES,
    ANALYSING,
    CHEST_CT,
    CHEST_XR,
    CT_MODEL,
    GAP_CT,
    HOSTILE,
    RECEIVING,
    seed,
)

NEWEST_FIRST = [RECEIVING, ANALYSING, CHEST_XR, CHEST_CT, GAP_CT, HOSTILE]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'node.sqlite'}"


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(database_url)
    database.migrate()
    with database.write() as connection:
        seed(connection, tmp_path)
    yield database
    database.close()


def listed(database: Database, limit: int = 50, **wanted: object) -> views.StudyPage:
    with database.read() as connection:
        return views.list_studies(connection, limit, views.StudyFilter(**wanted))  # type: ignore[arg-type]


def uids(page: views.StudyPage) -> list[str]:
    return [line.study_instance_uid for line in page.studies]


def test_studies_are_listed_newest_first(database: Database) -> None:
    page = listed(database)
    assert uids(page) == NEWEST_FIRST
    assert (page.older, page.newer) == (None, None)


def test_a_study_s_line_sums_up_what_came_and_where_it_went(database: Database) -> None:
    line = next(one for one in listed(database).studies if one.study_instance_uid == CHEST_CT)
    assert (line.series, line.instances) == (3, 50)
    assert (line.description, line.study_date, line.modalities) == ("CT Thorax nativ", "20260314", ["CT"])
    assert [(route.route, route.state) for route in line.routes] == [("chest-ct", JobState.DONE)]
    assert line.deliveries == DeliveryCounts(committed=3, parked=1)


def test_pages_follow_each_other_without_gap_or_overlap_in_both_directions(database: Database) -> None:
    seen, page = [], listed(database, 4)
    assert page.newer is None
    seen += uids(page)
    page = listed(database, 4, older_than=views.Cursor.parse(page.older or ""))
    assert uids(page) == NEWEST_FIRST[4:]
    assert page.older is None
    back = listed(database, 4, newer_than=views.Cursor.parse(page.newer or ""))
    assert uids(back) == NEWEST_FIRST[:4]
    assert back.newer is None


def test_studies_of_one_instant_are_paged_by_uid(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(studies).values(last_received_at=NOW))
    first = listed(database, 3)
    second = listed(database, 3, older_than=views.Cursor.parse(first.older or ""))
    assert uids(first) + uids(second) == sorted(ALL_STUDIES, reverse=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("thorax", [RECEIVING, CHEST_CT]),
        ("dx", [CHEST_XR]),
        (CHEST_XR, [CHEST_XR]),
        (CHEST_CT[:-1], NEWEST_FIRST),
        ("1.2.826.", NEWEST_FIRST),
        ("100%", []),
        ("_", []),
        ("' OR 1=1 --", []),
    ],
)
def test_a_search_looks_at_uid_description_and_modality(database: Database, text: str, found: list[str]) -> None:
    assert uids(listed(database, text=text)) == found


def test_a_list_can_be_limited_to_one_state(database: Database) -> None:
    assert uids(listed(database, state=StudyState.REPORTED)) == [CHEST_XR, CHEST_CT]


@pytest.mark.parametrize("text", ["", "abc", "12_", "12_1..2", "99999999999999999999_1.2", "-5_1.2", "²_1.2"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        views.Cursor.parse(text)


def test_one_study_shows_series_decision_result_and_deliveries(database: Database) -> None:
    with database.read() as connection:
        seen = study_views.study(connection, CHEST_CT)
    assert [(s.role, s.instances, s.superseded) for s in seen.series] == [
        (InstanceRole.SOURCE, 2, 0),
        (InstanceRole.SOURCE, 24, 1),
        (InstanceRole.SOURCE, 24, 0),
        (InstanceRole.OWN_RESULT, 1, 0),
    ]
    assert seen.jobs[0].decision["chosen"] == f"{CHEST_CT}.1"
    [result] = seen.results
    assert [artifact.kind.value for artifact in result.artifacts] == ["SC", "SEG", "SR", "FHIR"]
    assert [artifact.has_preview for artifact in result.artifacts] == [True, False, False, False]
    assert [d.state for d in seen.deliveries] == [DeliveryState.COMMITTED] * 3 + [DeliveryState.PARKED]


def test_the_timeline_merges_events_and_associations_in_order_of_time(database: Database) -> None:
    with database.read() as connection:
        entries = study_views.timeline(connection, CHEST_CT)
    assert [entry.kind for entry in entries[:3]] == ["association", "received", "state"]
    assert entries == sorted(entries, key=lambda entry: entry.at)
    assert entries[0].text == "CT1 at 10.1.2.20 sent 50 objects to AINODE; the association ended: released"


def test_only_the_newest_result_of_a_route_is_current(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        rows = Rows(connection, tmp_path)
        earlier = study_views.result(connection, key_of("chest-ct"))
        supersede_results(connection, [key_of("chest-ct")], NOW)
        rows.result(CHEST_CT, "successor", CT_MODEL, JobState.DONE, route="chest-ct", sequence=2, created_at=NOW)
        found = {one.job_key: one.current for one in study_views.results(connection, CHEST_CT)}
    assert earlier.current
    assert found == {key_of("successor"): True, key_of("chest-ct"): False}


def test_an_object_is_found_with_its_place_in_the_store(database: Database) -> None:
    with database.read() as connection:
        stored = study_views.artifact(connection, "2.25.101")
    assert (stored.kind, stored.object_key) == (ArtifactKind.SECONDARY_CAPTURE, "2.25.101")
    assert stored.preview_key.endswith(".png")


@pytest.mark.parametrize("ask", [study_views.study, study_views.timeline, study_views.results, study_views.artifact])
def test_what_does_not_exist_is_not_found(database: Database, ask) -> None:  # type: ignore[no-untyped-def]
    with database.read() as connection, pytest.raises(NotFound, match=r"1\.2\.3"):
        ask(connection, "1.2.3")


def test_a_study_without_results_has_an_empty_list_of_them(database: Database) -> None:
    with database.read() as connection:
        assert study_views.results(connection, RECEIVING) == []


def test_deliveries_are_listed_by_state_and_destination(database: Database) -> None:
    with database.read() as connection:
        [parked] = views.list_deliveries(connection, state=DeliveryState.PARKED)
        to_pacs = views.list_deliveries(connection, destination="pacs")
        [newest] = views.list_deliveries(connection, limit=1)
    assert (parked.destination, parked.study_instance_uid, parked.artifact_kind) == ("ehr", CHEST_CT, "FHIR")
    assert "two patients match" in parked.note
    assert len(to_pacs) == 6
    assert newest.id == max(one.id for one in to_pacs)


def test_counts_list_every_state_also_empty_ones(database: Database) -> None:
    with database.read() as connection:
        seen = counts(connection)
    assert seen.studies == {
        StudyState.RECEIVING: 1,
        StudyState.COMPLETE: 0,
        StudyState.ANALYSING: 1,
        StudyState.REPORTED: 2,
        StudyState.NOT_ANALYSED: 1,
        StudyState.FAILED: 1,
    }
    assert seen.jobs[JobState.QUEUED] == 0
    assert [(d.destination, d.pending, d.parked, d.committed) for d in seen.destinations] == [
        ("ehr", 0, 1, 0),
        ("pacs", 1, 0, 4),
    ]
    assert seen.oldest_pending_at is not None
    assert (NOW - seen.oldest_pending_at).total_seconds() == 60


def test_an_empty_index_answers_every_question(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    database.migrate()
    with database.read() as connection:
        assert views.list_studies(connection).studies == []
        assert counts(connection).oldest_pending_at is None
        assert changed_studies(connection, last_change(connection)) == []
    database.close()


def test_the_change_token_tells_which_studies_changed(database: Database, tmp_path: Path) -> None:
    with database.read() as connection:
        before = last_change(connection)
        assert last_change(connection) == before
    with database.write() as connection:
        Rows(connection, tmp_path).event(GAP_CT, 0, "state", "Something happened.")
    with database.read() as connection:
        assert last_change(connection) != before
        assert changed_studies(connection, before) == [GAP_CT]
