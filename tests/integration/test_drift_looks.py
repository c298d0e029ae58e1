"""A look every day: a reference is gathered, what changes is found, told to people and machines, and ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from dicom_node.__main__ import main
from dicom_node.cli.terminal import console
from dicom_node.config.running import DriftSettings
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.database import Database
from dicom_node.index.drift.streams import DriftView, drift_views, note_look, streams_due
from dicom_node.index.tables import drift_features, drift_streams
from dicom_node.index.views.gauges import gauges
from dicom_node.operate.drift.looks import DriftLooks
from dicom_node.people.audit.trail import LoggedAudit
from tests.integration.test_status_page import browser, serving, shared_browser, sign_in
from tests.peers.browser import Browser
from tests.support.api_client import client_of, parts_over
from tests.support.results.arrivals import opened_database
from tests.support.results.drifted import MODEL, SCANNER, as_usual, fill, review

__all__ = ["browser", "shared_browser"]

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
SETTINGS = DriftSettings(reference_days=28, reference_results=100, keep_days=60)
REFERENCE = 28


def new_kernel(rng: np.random.Generator, day: int) -> dict[str, float | str]:
    return as_usual(rng, day) | {"tag.ConvolutionKernel": "Bl64"}


def looked(database: Database, *days: int, settings: DriftSettings = SETTINGS) -> DriftView:
    """Look on these days, an hour after midnight; return how the stream stands then."""
    for day in days:
        DriftLooks(database, settings, LoggedAudit()).run(BEGAN + timedelta(days=day, hours=1))
    with database.read() as connection:
        (found,) = drift_views(connection)
    return found


def test_a_new_kernel_is_found_within_two_days_and_ends_when_the_old_one_is_back(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE + 28))
        fill(connection, BEGAN, range(REFERENCE + 28, REFERENCE + 35), new_kernel)
        fill(connection, BEGAN, range(REFERENCE + 35, REFERENCE + 77))
    early = looked(index, 10)
    assert (early.compared_from, early.results, early.looked_on) == (None, 336 + 42 + 252, "2026-01-15")
    quiet = looked(index, REFERENCE, REFERENCE + 7, REFERENCE + 28)
    assert (quiet.compared_from, quiet.results) == (BEGAN + timedelta(days=REFERENCE), 6 * REFERENCE)
    assert quiet.drifting == []
    (found,) = looked(index, REFERENCE + 30).drifting
    assert (found.feature, found.window_days, found.test) == ("tag.ConvolutionKernel", 7, "chi2")
    assert (found.reference_n, found.window_n, found.since) == (168, 42, BEGAN + timedelta(days=REFERENCE + 30))
    assert found.shift == pytest.approx(2 / 7, abs=0.1)
    assert found.corrected_p <= SETTINGS.false_alarms
    standing = looked(index, *range(REFERENCE + 31, REFERENCE + 36))
    assert {one.feature for one in standing.drifting} == {"tag.ConvolutionKernel"}
    assert max(one.looks for one in standing.drifting) == 6
    assert looked(index, *range(REFERENCE + 36, REFERENCE + 76)).drifting == []


def test_the_reference_stays_when_the_results_of_it_are_gone_and_old_rows_go(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE + 7))
    looked(index, REFERENCE)
    with index.write() as connection:
        connection.execute(delete(drift_features).where(drift_features.c.at < BEGAN + timedelta(days=REFERENCE)))
        fill(connection, BEGAN, range(REFERENCE + 7, REFERENCE + 14), new_kernel)
    found = looked(index, REFERENCE + 14)
    assert {(one.feature, one.reference_n) for one in found.drifting} == {("tag.ConvolutionKernel", 6 * REFERENCE)}
    looked(index, REFERENCE + 90)
    with index.read() as connection:
        assert connection.execute(select(drift_features)).all() == []


def test_a_scanner_that_says_nothing_more_goes_on_to_drift_and_two_processes_look_once(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE + 7))
        fill(connection, BEGAN, range(REFERENCE + 7, REFERENCE + 14), new_kernel)
    looked(index, REFERENCE)
    drifting = looked(index, REFERENCE + 14).drifting
    assert [one.looks for one in drifting] == [1]
    with index.read() as connection:
        (stream,) = streams_due(connection, (BEGAN + timedelta(days=REFERENCE + 45)).date())
    assert looked(index, REFERENCE + 45).drifting == drifting
    with index.write() as connection:
        assert not note_look(connection, stream, (BEGAN + timedelta(days=REFERENCE + 45)).date())


def test_nobody_looks_where_it_is_switched_off(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE))
    off = DriftSettings(enabled=False)
    assert looked(index, REFERENCE + 1, settings=off).looked_on == ""


def unsure(rng: np.random.Generator, day: int) -> dict[str, float | str]:
    score = float(rng.uniform(0.4, 0.6))
    return as_usual(rng, day) | {"score.finding": score, "presence.finding": "PRESENT" if score > 0.5 else "ABSENT"}


def test_what_calibrated_scores_let_expect_and_how_reviewers_agree_is_told_with_each_look(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE))
        fill(connection, BEGAN, range(REFERENCE, REFERENCE + 28), unsure)
        review(connection, BEGAN, range(REFERENCE), lambda day: day % 10 == 0)
        review(connection, BEGAN, range(REFERENCE, REFERENCE + 21), lambda day: day >= REFERENCE + 14)
    first = looked(index, REFERENCE)
    assert first.estimate["reference"]["finding"]["cases"] == 6 * REFERENCE
    assert first.agreement == {"reviewed": REFERENCE, "disagreed": 3}
    found = looked(index, REFERENCE + 28)
    before, now = found.estimate["reference"]["finding"], found.estimate["window"]["finding"]
    assert before["auroc"] > 0.75
    assert now["auroc"] < 0.6
    assert 0.4 < now["sensitivity"] < 0.65
    weeks = found.agreement["weeks"]
    assert [(one["reviewed"], one["disagreed"], one["is_signal"]) for one in weeks] == [
        (7, 0, False), (7, 0, False), (7, 7, True),
    ]  # fmt: skip


def test_nothing_is_expected_of_scores_that_are_not_calibrated(index: Database) -> None:
    with index.write() as connection:
        fill(connection, BEGAN, range(REFERENCE + 7))
        connection.execute(update(drift_streams).values(calibrated=False))
    assert looked(index, REFERENCE, REFERENCE + 7).estimate == {}


# --- told ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def drifted(tmp_path: Path) -> Iterator[Database]:
    """An index in which a scanner has drifted for a day."""
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        with database.write() as connection:
            fill(connection, BEGAN, range(REFERENCE + 7))
            fill(connection, BEGAN, range(REFERENCE + 7, REFERENCE + 14), new_kernel)
        looked(database, REFERENCE, REFERENCE + 14)
        yield database


def test_what_drifts_is_told_by_command_line_api_and_metrics(
    drifted: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)  # read at its import, which may be long ago
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n', encoding="utf-8")
    assert main(["drift", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "tag.ConvolutionKernel" in said
    assert "1 streams of results; 1 comparisons drift." in said
    assert main(["drift", "--config", str(config), "--all", "--json"]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert {one["feature"] for one in stream["comparisons"]} == set(as_usual(np.random.default_rng(1), 0))
    api = client_of(parts_over(drifted, tmp_path))
    (answer,) = api.get("/api/v1/drift").json()
    assert [one["feature"] for one in answer["comparisons"]] == ["tag.ConvolutionKernel"]
    assert (answer["scanner"], answer["model"], answer["looked_on"]) == (SCANNER, MODEL, "2026-02-16")
    assert len(api.get("/api/v1/drift", params={"every": True}).json()[0]["comparisons"]) == 5
    TALLY.allow("model", [MODEL])
    TALLY.allow("peer", ["CT1"])
    with drifted.read() as connection:
        counts = gauges(connection, BEGAN, (), (MODEL,))
    (told,) = [one for one in counts if one.metric == "dicom_node_drift_features"]
    assert (told.labels, told.amount) == ((MODEL, "CT1"), 1)


def test_the_page_of_the_node_shows_what_drifts(drifted: Database, tmp_path: Path, browser: Browser) -> None:
    with serving(parts_over(drifted, tmp_path)) as address:
        sign_in(browser, address)
        browser.run("location.hash = '#/node'")
        browser.wait_for("document.querySelector('#drift table')?.textContent.includes('tag.ConvolutionKernel')")
        assert SCANNER in browser.run("document.querySelector('#drift').textContent")
