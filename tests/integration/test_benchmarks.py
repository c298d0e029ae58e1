"""The benchmarks run and tell what they measured; never how fast it was, which a busy machine decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import needs

#: A busy machine takes its time to start and to fill; how long is not what is tested.
pytestmark = pytest.mark.timeout(600)

COLUMNS = {"receiver", "load", "associations", "objects", "acknowledged_s", "filed_s", "peak_rss_bytes", "p99_ms"}


def run(module: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=needs.REPOSITORY, capture_output=True, text=True, timeout=540, check=False, env={**os.environ},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def test_intake_compares_the_node_with_a_peer(tmp_path: Path) -> None:
    needs.tool("storescu", "dcmtk")
    found = tmp_path / "found.json"
    table = run(
        "intake", "--rounds", "1", "--count", "4", "--loads", "mr", "--associations", "2", "--receivers", "node",
        "storescp", "--json", str(found),
    )  # fmt: skip
    runs = json.loads(found.read_text())
    assert {one["receiver"] for one in runs} == {"node", "storescp"}
    assert {one["objects"] for one in runs} == {8, 16}  # four objects on two associations; on four for response times
    assert all(one.keys() >= COLUMNS and one["acknowledged_s"] > 0 for one in runs)
    assert "node/this" in table


def test_the_index_is_measured_at_two_sizes(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    run("index_scale", "--small", "600", "--large", "1200", "--json", str(found))
    figures = json.loads(found.read_text())
    assert figures["ratio, batches of 128"] > 0
    assert figures["1200 instances, s to ready"] > 0


def test_the_limits_of_disk_and_sender_are_measured(tmp_path: Path) -> None:
    needs.tool("storescu", "dcmtk")
    told = run("intake_limit", "--count", "5", "--folder", str(tmp_path))
    assert "slot overwritten + fdatasync" in told
    assert "storescu into nothing" in told


def test_a_node_is_sampled_while_it_ages(tmp_path: Path) -> None:
    needs.tool("storescu", "dcmtk")
    found = tmp_path / "found.json"
    run("soak", "--objects", "2000", "--associations", "2", "--json", str(found))
    assert {sample["process"] for sample in json.loads(found.read_text())} >= {"node", "acceptor"}


def test_writing_results_tells_the_share_of_every_kind(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    table = run("results", "--slices", "12", "--rows", "64", "--rounds", "1", "--json", str(found))
    figures = json.loads(found.read_text())
    assert figures["full result (SR, 8 SC, SEG)"]["objects"] == 10
    assert {name: figures[name]["objects"] for name in ("SR", "SC", "SEG")} == {"SR": 1, "SC": 8, "SEG": 1}
    assert {"GSPS", "KOS", "PDF", "all of these"} <= figures.keys()
    assert all(one["processor_s"] > 0 and one["objects"] > 0 and one["bytes"] > 0 for one in figures.values())
    assert "12 slices of 64 x 64" in table


def test_inference_is_held_against_a_bare_loop(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    run("inference", "--studies", "2", "--rows", "256", "--rounds", "2", "--json", str(found))
    figures = json.loads(found.read_text())
    rates = figures["images_per_s"]
    assert set(rates) == {"bare", "bare with Grad-CAM", "node, to the answer", "node, whole study"}
    assert min(rates.values()) > 0
    assert figures["ratio, node to the answer / bare"] > 0
    assert min(figures["cold_s"].values()) > 0
    assert min(figures["peak_mb"].values()) > 50
