"""Every measurement runs and tells what it measured; never how fast it was, which a busy machine decides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.campaign import amount

#: A busy machine takes its time to start and to fill; how long is not what is tested.
pytestmark = pytest.mark.timeout(600)

#: What takes hours and is not part of `make bench`.
LASTING = {"soak"}


def programs() -> list[str]:
    """The modules that are run as `python -m benchmarks.NAME` by a person: they have a command line."""
    folder = needs.REPOSITORY / "benchmarks"
    return sorted(path.stem for path in folder.glob("*.py") if "parser_of(__doc__" in path.read_text(encoding="utf-8"))


def run(module: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=needs.REPOSITORY, capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def numbers(figures: Any) -> Iterator[float]:
    """Yield every number of a JSON value."""
    if isinstance(figures, list | dict):
        for one in figures.values() if isinstance(figures, dict) else figures:
            yield from numbers(one)
    elif isinstance(figures, int | float):
        yield figures


# --- what each has to tell ---


def _after_outage(figures: Any, table: str) -> None:
    assert [one["receiver"] for one in figures] == ["pacs", "ehr", "ris", "hook", "files"]
    assert [one["objects"] for one in figures] == [16, 8, 8, 8, 16]
    assert {(one["results"], one["came_twice"], one["out_of_order"]) for one in figures} == {(8, 0, 0)}
    assert all(one["last_s"] >= one["first_s"] > 0 for one in figures)
    assert "away for 5 minutes" in table


def _audit(figures: Any, table: str) -> None:
    assert min(figures.values()) > 0
    nodes = {"acknowledged a second", "filed a second", "filed a processor second"}
    nodes |= {"delivered a second", "delivered a processor second", "from result to PACS, s"}
    writers = {"studies a second", "studies a processor second"}
    ratios = {f"{one}, on / off" for one in nodes | writers} | {f"{one}, on / rows" for one in writers}
    assert ratios | {f"{one}, lower quartile" for one in ratios} | {"an act takes ms"} <= set(figures)
    assert "acts by people" in table


def _drift(figures: Any, table: str) -> None:
    assert {one["scanner_years"] for one in figures["quiet"].values()} == {1}
    assert all(one["a_quarter"] <= 1 for one in figures["quiet"].values())
    assert figures["shifts"]["a new kernel in every study"]["20"]["median_days"] <= 2
    assert "injected shift: days to alarm" in table
    assert "false alarms a quarter and scanner" in table


def _retention(figures: Any, table: str) -> None:
    assert {"acknowledged, deleting / not", "filed, deleting / not"} <= set(figures)
    assert figures["deleted with nothing else to do, a second"] > 0
    assert "deleted beside, a round" in table


def _index_scale(figures: Any, table: str) -> None:
    assert figures["ratio, batches of 128"] > 0
    assert figures["1200 instances, s to ready"] > 0
    assert "ratio, batches of 128" in table


def _inference(figures: Any, _: str) -> None:
    rates = figures["images_per_s"]
    assert set(rates) == {"bare", "bare with Grad-CAM", "node, to the answer", "node, whole study"}
    assert min(rates.values()) > 0
    assert figures["ratio, node to the answer / bare"] > 0
    assert min(figures["cold_s"].values()) > 0
    assert min(figures["peak_mb"].values()) > 50


def _intake(figures: Any, table: str) -> None:
    assert {one["receiver"] for one in figures} == {"node", "orthanc", "storescp", "pynetdicom"}
    assert {one["objects"] for one in figures} == {8, 16}  # four objects on two associations; on four for responses
    assert all(one["acknowledged_s"] > 0 and one["filed_s"] > 0 and one["peak_rss_bytes"] > 0 for one in figures)
    assert any(one["p99_ms"] > 0 for one in figures)
    assert "node/this" in table


def _intake_limit(figures: Any, table: str) -> None:
    assert set(figures["objects_per_s"]) == {"1", "4", "16"}
    assert len(figures["ms_for_512_kib"]) == 6
    assert "slot overwritten + fdatasync" in table
    assert "storescu into nothing" in table


def _overhead(figures: Any, table: str) -> None:
    (only_round,) = figures
    assert only_round["delivered to the PACS"] > 0
    assert only_round["model (gate, volume, segmentation)"] > 0
    assert "node's own share (total without model)" in table


def _scroll(figures: Any, table: str) -> None:
    assert set(figures) == {"metadata of the series", "metadata again", "frame as stored", "picture, JPEG"}
    assert all(one["longest"] >= one["p50"] > 0 for one in figures.values())
    assert "8 slices of 512 x 512" in table


def _report_reader(figures: Any, table: str) -> None:
    (overall,) = [one for one in figures["sentences"] if (one["finding"], one["answer"]) == ("all", "PRESENT")]
    assert overall["precision"] > 0
    assert "as a person reads them" in table


def _results(figures: Any, table: str) -> None:
    assert figures["full result (SR, 8 SC, SEG)"]["objects"] == 10
    assert {name: figures[name]["objects"] for name in ("SR", "SC", "SEG")} == {"SR": 1, "SC": 8, "SEG": 1}
    assert {"GSPS", "KOS", "PDF", "all of these"} <= figures.keys()
    assert all(one["processor_s"] > 0 and one["objects"] > 0 and one["bytes"] > 0 for one in figures.values())
    assert "12 slices of 64 x 64" in table


def _scrape(figures: Any, table: str) -> None:
    assert figures["scrape, ms"] > 0
    assert figures["scrape, bytes"] > 5000
    assert figures["a count, us"] > 0
    assert "an observation, us" in table


def _sent_again(figures: Any, table: str) -> None:
    assert [(run["what"], run["images"]) for run in figures["runs"]] == [("new", 4), ("again", 4)]
    assert all(run["filed_s"] >= run["acknowledged_s"] > 0 for run in figures["runs"])
    assert set(figures["ratios"]) == {"mr, acknowledged, again / new", "mr, filed, again / new"}
    assert "mr, filed, again / new" in table


def _soak(figures: Any, table: str) -> None:
    assert {sample["process"] for sample in figures} >= {"node", "acceptor", "headers"}
    assert all(sample["rss_mb"] > 0 and sample["threads"] > 0 for sample in figures)
    assert "2000 objects" in table


def _startup(figures: Any, table: str) -> None:
    who = {f"{who} {what}" for who in ("node", "orthanc") for what in ("listens", "answers C-ECHO")}
    assert figures.keys() == who | {f"{one}, first start" for one in who}
    assert all(min(times) > 0 for times in figures.values())
    assert "node / orthanc, answers C-ECHO" in table


def _worklist(figures: Any, table: str) -> None:
    assert figures["first page, ms"] > 0
    assert figures["by accession, ms"] > 0
    assert "what waits" in table
    if shutil.which("chromium"):
        assert 0 < figures["in Chromium, keystrokes to accepted"] <= 12
        answers = (
            "page opened",
            "search by accession, from its last letter",
            "study",
            "question",
            "its image",
            "accepted",
        )
        assert all(figures[f"in Chromium: {one}, ms"] > 0 for one in answers)


TOLD: Mapping[str, Callable[[Any, str], None]] = {
    "after_outage": _after_outage,
    "audit": _audit,
    "drift": _drift,
    "retention": _retention,
    "index_scale": _index_scale,
    "inference": _inference,
    "intake": _intake,
    "intake_limit": _intake_limit,
    "overhead": _overhead,
    "report_reader": _report_reader,
    "results": _results,
    "scrape": _scrape,
    "scroll": _scroll,
    "sent_again": _sent_again,
    "soak": _soak,
    "startup": _startup,
    "worklist": _worklist,
}


#: Every program in the campaign; in CI those that share most of what the others are made of.
_TRIED = amount(
    ["after_outage", "drift", "index_scale", "intake", "results", "startup", "worklist"], campaign=programs()
)


@pytest.mark.campaign
@pytest.mark.parametrize("program", _TRIED)
def test_a_measurement_runs_and_tells_its_figures(program: str, tmp_path: Path) -> None:
    needs.tool("storescu", "dcmtk")
    needs.tool("Orthanc", "orthanc")
    file = tmp_path / "figures.json"
    table = run(program, "--quick", "--json", str(file))
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert all(abs(number) < 1e12 for number in numbers(figures)), "infinite, or none"
    TOLD[program](figures, table)


def test_a_size_named_after_quick_counts() -> None:
    from benchmarks import intake  # noqa: PLC0415 - its parser alone

    assert intake.parsed(["--quick"]).rounds == 1
    assert intake.parsed(["--quick", "--rounds", "3"]).rounds == 3
    assert intake.parsed([]).rounds == 5


def test_make_bench_runs_every_measurement_that_ends_within_the_hour() -> None:
    makefile = (needs.REPOSITORY / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)
    assert listed is not None
    assert set(listed[1].split()) == set(programs()) - LASTING
    assert set(TOLD) == set(programs())
