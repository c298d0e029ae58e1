"""Every metric of the table is written by a node that receives, analyses and delivers; and nobody asks who may not."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from dicom_node.core.calls.limits import Networks
from dicom_node.core.errors import IndexUnavailable
from dicom_node.core.metrics import table
from dicom_node.core.metrics.table import METRICS, Metric, MetricKind
from dicom_node.core.metrics.tally import TALLY, Count
from dicom_node.index.database import Database
from dicom_node.operate.metrics.exposition import Exposition
from dicom_node.operate.metrics.listener import MetricsListener
from tests.integration.measured_site import LIMIT_S, MeasuredSite, measured_site
from tests.peers import dcmtk
from tests.peers.otlp import attributes
from tests.peers.process import wait_until
from tests.support.needs import REPOSITORY, tool

pytestmark = pytest.mark.timeout(600)

#: What may be nothing on a node that is well; a number there would mean that something is wrong.
_MAY_BE_NOTHING = {
    table.DAMAGED, table.DESTINATION_SUSPENDED, table.ASSOCIATIONS_OPEN, table.JOURNAL_WAITING, table.STUDY_OLDEST,
    table.JOBS_OPEN, table.JOB_OLDEST, table.CLOCK_OFFSET, table.ALARMS_OPEN, table.DRIFT_FEATURES, table.ROUTE_STOPPED,
    # this site gets no reports; `test_reports_matched.py` has some that are counted
    table.REPORTS, table.REPORTS_READ, table.REPORT_SEARCHES, table.CONCORDANCE,
}  # fmt: skip
#: What a node that works cannot show; a test of its own does.
_ELSEWHERE = {table.DATABASE_FAILURES}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredSite]:
    with measured_site(tmp_path_factory.mktemp("measured")) as one:
        yield one


@pytest.mark.parametrize("metric", [one for one in METRICS if one not in _ELSEWHERE], ids=lambda one: one.name)
def test_a_metric_of_the_table_is_written_by_a_real_run(site: MeasuredSite, metric: Metric) -> None:
    series = f"{metric.name}_count" if metric.kind is MetricKind.HISTOGRAM else metric.name

    found = site.samples()[series]

    assert all({name for name, _ in labels} == set(metric.labels) for labels in found)
    assert metric in _MAY_BE_NOTHING or sum(found.values()) > 0


def test_a_database_that_is_away_is_counted(tmp_path: Path) -> None:
    before = TALLY.numbers().get((table.DATABASE_FAILURES.name, ()), 0)

    with pytest.raises(IndexUnavailable), Database(f"sqlite:///{tmp_path / 'gone' / 'x.sqlite'}").read():
        pass

    assert TALLY.numbers()[table.DATABASE_FAILURES.name, ()] == before + 1


def test_what_was_done_is_counted_as_it_was(site: MeasuredSite) -> None:
    assert site.value("dicom_node_objects_received_total", peer="CT1", way="dicom") == 8
    assert site.value("dicom_node_objects_received_total", way="files") == 1
    assert site.value("dicom_node_received_bytes_total", peer="CT1") > 8 * 32 * 32 * 2
    assert site.value("dicom_node_associations_total", peer="CT1", outcome="released") >= 4
    assert site.value("dicom_node_associations_refused_total", peer="unknown", reason="unknown-caller") == 1
    assert site.value("dicom_node_runs_total", model="quoting", outcome="not_analysed", reason="TEST_SUBJECT") == 1
    assert site.value("dicom_node_runs_total", model="quoting", outcome="failed", reason="PATIENT_MISMATCH") == 1
    assert site.value("dicom_node_runs_total", model="quoting", outcome="failed", reason="ANALYSIS_FAILED") == 1
    assert site.value("dicom_node_runs_total", model="quoting", outcome="result") >= 1
    assert site.value("dicom_node_process_deaths_total", process="acceptor") == 1
    assert site.value("dicom_node_process_deaths_total", process="jobs.worker_process") >= 1
    assert site.value("dicom_node_hl7_messages_total", message="ORM", outcome="taken") == 1
    assert site.value("dicom_node_hl7_messages_total", message="other", outcome="refused") == 1
    assert site.value("dicom_node_api_requests_total", method="POST", route="/api/v1/studies") == 1
    assert site.value("dicom_node_gpu_used_bytes", gpu="0") == 1 << 30
    assert 0 < site.value("dicom_node_disk_full_timestamp_seconds") - time.time() < 3650 * 86400
    assert site.value("dicom_node_destination_up", destination="pacs") == 1
    assert site.value("dicom_node_destination_up", destination="away") == 0
    assert site.value("dicom_node_deliveries_open", destination="away", state="PENDING") > 0
    assert site.value("dicom_node_delivery_oldest_seconds", destination="away") > 0


def test_what_is_asked_of_no_route_is_one_series(site: MeasuredSite) -> None:
    with site.node.api() as api:
        for path in ("/anna-mueller", "/api/v1/4711"):
            assert api.get(path).status_code == 404
        assert api.request("ANNA", "/healthz").status_code == 405

    assert site.value("dicom_node_api_requests_total", route="other", status="404") >= 2
    assert site.value("dicom_node_api_requests_total", method="other") >= 1
    assert "anna" not in site.text().text.lower()


def expressions() -> list[tuple[str, str]]:
    """The queries of the dashboard, as Grafana fills them in."""
    board = json.loads((REPOSITORY / "deploy" / "grafana" / "dicom-node.json").read_text(encoding="utf-8"))
    texts = [(panel["title"], one["expr"]) for panel in board["panels"] for one in panel.get("targets", ())]
    return [(title, text.replace("$job", "dicom-node").replace("$__rate_interval", "5m")) for title, text in texts]


@pytest.mark.parametrize(("title", "expression"), expressions(), ids=lambda text: text[:60])
def test_a_query_of_the_dashboard_has_an_answer(site: MeasuredSite, title: str, expression: str) -> None:
    wait_until(lambda: bool(site.prometheus.query(expression)), LIMIT_S, f"an answer for {title}")


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(expression for _, expression in expressions())

    assert [one.name for one in METRICS if not re.search(rf"{one.name}(_sum|_count|_bucket)?\b", text)] == []


def test_an_alert_fires_while_a_destination_is_down_and_clears_when_it_is_back(site: MeasuredSite) -> None:
    def down() -> set[str]:
        return {one["destination"] for one in site.prometheus.firing().get("DicomNodeDestinationDown", ())}

    wait_until(lambda: down() == {"away"}, LIMIT_S, "the alert")
    with dcmtk.running_storescp(site.folder / "away", port=site.away_port, aet="AWAY"):
        wait_until(lambda: not down(), LIMIT_S, "the alert to clear")
        wait_until(lambda: site.value("dicom_node_deliveries_open", destination="away") == 0, LIMIT_S, "what was owed")

    assert "DicomNodeDown" not in site.prometheus.firing()


def test_a_study_is_one_trace_from_the_association_to_the_pacs(site: MeasuredSite) -> None:
    uid = site.studies["reads"]

    def spans() -> dict[str, Any]:
        mine = [one for one in list(site.collector.spans) if attributes(one).get("study") == uid]
        return {one.name: one for one in mine if attributes(one).get("destination", "pacs") == "pacs"}

    wanted = {"study", "receive", "settle", "job", "planning", "loading", "running", "building", "saving", "deliver"}
    wait_until(lambda: spans().keys() >= wanted, LIMIT_S, "every span of the study")
    found = spans()

    assert len({one.trace_id for one in found.values()}) == 1
    assert {found[name].parent_span_id for name in ("receive", "settle", "job")} == {found["study"].span_id}
    stages = ("planning", "loading", "running", "building", "saving", "deliver")
    assert {found[name].parent_span_id for name in stages} == {found["job"].span_id}
    ends = [found[name].end_time_unix_nano for name in ("receive", "settle", *stages)]
    assert ends == sorted(ends)
    with site.node.api() as api:
        timeline = api.get(f"/api/v1/studies/{uid}/timeline").raise_for_status().json()
    ids = [one["detail"]["association_id"] for one in timeline if "association_id" in one["detail"]]
    assert all(attributes(one)["requests"] == ids for one in found.values())


def test_what_comes_from_rows_is_the_same_after_a_restart(site: MeasuredSite) -> None:
    names = [one.name for one in METRICS if one.source is table.MetricSource.DATABASE and "seconds" not in one.name]
    before = {name: site.samples()[name] for name in names}

    site.node.restart()

    assert {name: site.samples()[name] for name in names} == before
    assert site.value("dicom_node_objects_received_total") == 0


def test_a_title_that_the_settings_do_not_name_is_no_label(site: MeasuredSite) -> None:
    for number in range(3):
        dcmtk.echoscu(site.node.dicom_port, calling=f"STRANGER{number}")
    wait_until(lambda: site.value("dicom_node_associations_refused_total") >= 3, LIMIT_S, "the acceptor's counts")

    assert "STRANGER" not in site.text().text
    assert {dict(labels)["peer"] for labels in site.samples()["dicom_node_associations_refused_total"]} == {"unknown"}


def test_a_scrape_is_read_in_either_format(site: MeasuredSite) -> None:
    text, modern = site.text(), site.text("application/openmetrics-text; version=1.0.0")

    assert text.headers["content-type"].startswith("text/plain")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    of_table = {one.name.removesuffix("_total") for one in METRICS}
    for families in (plain(text.text), openmetrics(modern.text)):
        assert {one.name for one in families} >= of_table


def test_promtool_finds_nothing_wrong_with_names_and_help(site: MeasuredSite) -> None:
    check = [tool("promtool", "prometheus"), "check", "metrics"]

    done = subprocess.run(check, input=site.text().text, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_tells_the_same_to_a_key_and_nothing_to_others(site: MeasuredSite) -> None:
    with site.node.api() as api:
        told = api.get("/metrics")
    nobody = httpx.get(f"http://127.0.0.1:{site.node.api_port}/metrics", trust_env=False)

    assert nobody.status_code == 401
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/plain")
    assert {one.name for one in plain(told.text)} == {one.name for one in plain(site.text().text)}


# --- the port of its own -------------------------------------------------------------------------------------------


@pytest.fixture
def exposition() -> Exposition:
    return Exposition(lambda: [Count(table.BUILD_INFO.name, ("1", "AINODE"), 1)])


def test_who_is_not_listed_gets_no_answer(exposition: Exposition) -> None:
    listener = MetricsListener("127.0.0.1", 0, Networks(("192.0.2.0/24",)), exposition)
    listener.start()
    try:
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{listener.port}/metrics", trust_env=False)
    finally:
        listener.stop()


def test_who_is_silent_keeps_nobody_else_from_asking(exposition: Exposition) -> None:
    listener = MetricsListener("127.0.0.1", 0, Networks(), exposition)
    listener.start()
    silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(5)]
    try:
        began = time.monotonic()
        answer = httpx.get(f"http://127.0.0.1:{listener.port}/metrics", timeout=60, trust_env=False)
        assert answer.status_code == 200
        assert "dicom_node_build_info" in answer.text
        assert time.monotonic() - began < 60
        assert httpx.get(f"http://127.0.0.1:{listener.port}/", trust_env=False).status_code == 404
    finally:
        for one in silent:
            one.close()
        listener.stop()
