"""The counts of a process, the table of metrics, and the alerts and the dashboard that are made of it."""

from __future__ import annotations

import re
import subprocess

import pytest

from dicom_node.core.metrics import table
from dicom_node.core.metrics.table import METRICS, MetricKind
from dicom_node.core.metrics.tally import ASSOCIATION_REASONS, Tally
from dicom_node.core.reasons import REASONS
from dicom_node.dimse.vocabulary import REJECTIONS
from dicom_node.operate.metrics.exposition import Exposition
from tests.support.needs import REPOSITORY, tool

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
NAMED = re.findall(r"- alert: (\w+)", ALERTS)


@pytest.fixture
def tally() -> Tally:
    return Tally()


def test_a_value_that_the_settings_do_not_name_has_one_word_for_all(tally: Tally) -> None:
    tally.allow("peer", ["CT1"])
    for peer in ("CT1", "STRANGER", "MÜLLER^ANNA"):
        tally.count(table.OBJECTS_RECEIVED, peer=peer, way="dicom")

    assert {labels: value for (_, labels), value in tally.numbers().items()} == {
        ("CT1", "dicom"): 1, ("unknown", "dicom"): 2,
    }  # fmt: skip


def test_before_the_settings_are_known_nobody_is(tally: Tally) -> None:
    tally.count(table.DELIVERIES, destination="pacs", outcome="sent")

    assert list(tally.numbers()) == [(table.DELIVERIES.name, ("other", "sent"))]


def test_a_reason_that_a_model_makes_up_is_no_label(tally: Tally) -> None:
    tally.allow("model", ["m"])
    for reason in ("Anna Müller is too young", "NO_IMAGES"):
        tally.count(table.RUNS, model="m", outcome="not_analysed", reason=reason)

    assert {labels[2] for _, labels in tally.numbers()} == {"other", "NO_IMAGES"}


def test_every_reason_and_every_rejection_may_be_told(tally: Tally) -> None:
    codes = {one.code for one in REASONS} | {one.code for one in REJECTIONS}

    assert {tally.told("reason", code) for code in codes} == codes
    assert {one.code for one in REJECTIONS} <= ASSOCIATION_REASONS


def test_what_one_process_counts_another_can_take_once(tally: Tally) -> None:
    parent = Tally()
    for one in (tally, parent):
        one.allow("peer", ["CT1"])
    tally.count(table.ASSOCIATIONS, peer="CT1", outcome="released")
    tally.set(table.ASSOCIATIONS_OPEN, 3)

    parent.take(tally.drain())
    tally.count(table.ASSOCIATIONS, peer="CT1", outcome="released")
    tally.set(table.ASSOCIATIONS_OPEN, 0)
    parent.take(tally.drain())
    parent.take(tally.drain())

    assert parent.numbers() == {
        (table.ASSOCIATIONS.name, ("CT1", "released")): 2, (table.ASSOCIATIONS_OPEN.name, ()): 0,
    }  # fmt: skip


def test_a_distribution_counts_up_to_each_bound_and_above_all(tally: Tally) -> None:
    for seconds in (-5.0, 0.1, 0.2, 99_999.0):
        tally.observe(table.STUDY_SECONDS, seconds, stage="quiet")

    text = Exposition(tally=tally).text("")[0].decode()

    assert 'dicom_node_study_seconds_bucket{le="0.1",stage="quiet"} 2.0' in text
    assert 'dicom_node_study_seconds_bucket{le="0.25",stage="quiet"} 3.0' in text
    assert 'dicom_node_study_seconds_bucket{le="+Inf",stage="quiet"} 4.0' in text
    assert 'dicom_node_study_seconds_sum{stage="quiet"} 99999.3' in text


def test_names_say_what_they_are() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert one.name.endswith("_total") == (one.kind is MetricKind.COUNTER), one.name
        assert bool(one.buckets) == (one.kind is MetricKind.HISTOGRAM), one.name
        assert one.help.endswith("."), one.name


# --- alerts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"),
                                       ("test", "rules", "alerts_test.yml")], ids=" ".join)  # fmt: skip
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [tool("promtool", "prometheus"), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried_from_its_beginning_to_its_end() -> None:
    tried = (PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8").split("  - interval: ")
    for name in NAMED:
        (case,) = [one for one in tried if "value: 1" in one and f'alertname="{name}"' in one]
        assert "exp_samples: []" in case, name


def test_an_alert_asks_for_metrics_that_there_are_and_says_what_to_do() -> None:
    known = {one.name for one in METRICS} | {f"{one.name}_bucket" for one in METRICS}

    assert set(re.findall(r"dicom_node_\w+", ALERTS)) <= known
    assert len(re.findall(r"^          action: ", ALERTS, re.MULTILINE)) == len(NAMED) > 15
    assert len(re.findall(r"severity: (?:critical|warning)\}", ALERTS)) == len(NAMED)


def test_an_alert_leads_to_pages_that_there_are() -> None:
    for page in re.findall(r"(docs/[\w./-]+\.md)", ALERTS):
        assert (REPOSITORY / page).exists(), page
