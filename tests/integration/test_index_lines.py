"""Results that follow one another are a line, whatever their route is called and whichever model it has."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

import pytest
from sqlalchemy import select, update

from dicom_node.analysis.context import ReportLine
from dicom_node.core.entities import Destination, MediaType
from dicom_node.index import results
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.lineage import LINE, line_for
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.index.tables import results as results_table
from tests.support.results.arrivals import STUDY, after, arrive, claimed, cut_study, instance, outcome
from tests.support.results.rows import SOMEBODY

PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
MODEL = "ct-lung-density"


def round_of(index: Database, number: int, *routes: str) -> dict[str, ReportLine]:
    """Let another image come, and a result follow by each of these routes, which are those of the settings."""
    at_s = number * 100.0
    arrive(index, instance(str(number), at_s=at_s))
    cut_study(index, routes, at_s=at_s + 60)
    taken = [claimed(index, at_s=at_s + 61) for _ in routes]
    return {job.route: save(index, job, number, routes) for job in taken}


def save(index: Database, job: ClaimedJob, number: int, routes: tuple[str, ...]) -> ReportLine:
    with index.write() as connection:
        line = line_for(connection, job, routes)
        made = outcome(f"{job.route}-{number}", at_s=number * 100.0 + 70)
        made = replace(made, summary={**made.summary, LINE: asdict(line)})
        assert results.save_result(connection, job, f"{job.route}-{number}", made, [PACS])
    return line


def standings(index: Database) -> dict[str, str]:
    with index.read() as connection:
        return {row.job_key: row.standing for row in connection.execute(select(results_table))}


def withdraw(index: Database, route: str, now: datetime) -> list[str]:
    with index.write() as connection:
        return actions.withdraw_study(connection, STUDY, ("Wrong.", route), SOMEBODY, now)


def line(route: str, model: str = MODEL) -> ReportLine:
    return ReportLine(model=model, route=route)


def test_a_route_keeps_its_line_beside_another_of_the_same_model(index: Database) -> None:
    assert round_of(index, 0, "thin", "thick") == {"thin": line("thin"), "thick": line("thick")}
    assert round_of(index, 1, "thin", "thick") == {"thin": line("thin"), "thick": line("thick")}
    assert standings(index) == {
        "thin-0": "SUPERSEDED", "thick-0": "SUPERSEDED", "thin-1": "CURRENT", "thick-1": "CURRENT",
    }  # fmt: skip


def test_two_routes_that_are_renamed_at_once_take_a_line_each(index: Database) -> None:
    round_of(index, 0, "a", "b")
    renamed = round_of(index, 1, "y", "x")

    assert renamed == {"x": line("a"), "y": line("b")}
    assert standings(index) == {"a-0": "SUPERSEDED", "b-0": "SUPERSEDED", "x-1": "CURRENT", "y-1": "CURRENT"}
    assert round_of(index, 2, "x", "y") == renamed


def test_a_new_route_takes_no_line_of_one_that_is_still_there(index: Database) -> None:
    round_of(index, 0, "a")

    assert round_of(index, 1, "a", "new") == {"a": line("a"), "new": line("new")}


def test_a_new_route_takes_no_line_of_another_model(index: Database) -> None:
    round_of(index, 0, "a")
    with index.write() as connection:
        connection.execute(update(results_table).values(model="another", summary={}))

    assert round_of(index, 1, "new") == {"new": line("new")}


def test_a_route_that_gets_another_model_goes_on_in_its_line(index: Database) -> None:
    round_of(index, 0, "a")
    with index.write() as connection:
        connection.execute(update(results_table).values(model="former", summary={}))
        connection.execute(update(jobs_table).values(model="former"))

    assert round_of(index, 1, "a") == {"a": line("a", "former")}
    assert standings(index) == {"a-0": "SUPERSEDED", "a-1": "CURRENT"}


@pytest.mark.parametrize("route", ["a", "b"])
def test_a_withdrawal_by_any_of_its_names_takes_the_line_back_and_what_follows_begins_anew(
    index: Database, route: str
) -> None:
    round_of(index, 0, "a", "other")
    assert round_of(index, 1, "b", "other")["b"] == line("a")

    assert withdraw(index, route, after(300)) == ["a-0", "b-1"]
    assert round_of(index, 4, "b", "other")["b"] == line("b")
    assert standings(index)["other-4"] == "CURRENT"
