"""The sandbox against processes that really crash, hang and overeat."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.core.errors import (
    InferenceError,
    NotAnalysable,
    RefusedObject,
    SourceDamaged,
    StoreStatus,
    WorkerDied,
)
from dicom_node.core.progress import told_to
from dicom_node.sandbox.host import MOST_PROCESSES, ProcessLimits, Sandbox
from tests.peers.process import is_running, wait_until
from tests.support.needs import REPOSITORY

TARGET = "tests.integration.crashing_targets:perform"
#: Longer than anything here may take, on a busy machine, too.
LONG_S = 200


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S, address_space_mb=1024)) as made:
        yield made


def test_the_answer_comes_from_another_process_that_stays_warm(sandbox: Sandbox) -> None:
    first, second = sandbox.run(("add", 1, 2)), sandbox.run(("add", 3, 4))

    assert isinstance(first, list)
    assert isinstance(second, list)
    assert (first[0], second[0]) == (3, 7)
    assert first[1] == second[1] != os.getpid()


def test_steps_are_heard_by_whoever_asked_and_by_nobody_else(sandbox: Sandbox) -> None:
    heard: list[str] = []
    with told_to(heard.append):
        assert sandbox.run(("tell", "loading", "running")) == "told"
    assert sandbox.run(("tell", "building")) == "told"
    assert heard == ["loading", "running"]


def test_who_tells_without_end_or_too_much_at_once_is_ended(sandbox: Sandbox) -> None:
    heard: list[str] = []
    with told_to(heard.append):
        with pytest.raises(InferenceError, match="more than 1000 steps"):
            sandbox.run(("tell-without-end",))
        with pytest.raises(InferenceError, match="gave an answer that is none"):
            sandbox.run(("tell", "x" * 41))
    assert heard == ["loading"] * 1000
    assert sandbox.run(("tell", "loading")) == "told"


def test_a_listener_that_fails_leaves_nobody_an_answer_to_another_request(sandbox: Sandbox) -> None:
    def fails(_: str) -> None:
        raise ZeroDivisionError

    with told_to(fails), pytest.raises(ZeroDivisionError):
        sandbox.run(("tell", "loading"))
    answer = sandbox.run(("add", 1, 2))
    assert isinstance(answer, list)
    assert answer[0] == 3


@pytest.mark.parametrize(
    ("action", "told"),
    [(("segfault",), "SIGSEGV"), (("exit", 3), "status 3"), (("exit", 0), "status 0")],
)
def test_a_crash_is_told_and_the_next_run_has_a_new_process(
    sandbox: Sandbox, action: tuple[object, ...], told: str
) -> None:
    with pytest.raises(WorkerDied, match=told):
        sandbox.run(action)

    assert sandbox.run(("add", 1, 1)) is not None


def test_an_endless_loop_ends_at_the_time_limit() -> None:
    with Sandbox(TARGET, limits=ProcessLimits(time_s=1.5, address_space_mb=1024)) as sandbox:
        started = time.monotonic()
        with pytest.raises(WorkerDied, match=r"longer than 1\.5 s"):
            sandbox.run(("loop",))

        assert time.monotonic() - started < 60


def test_memory_beyond_the_limit_ends_the_worker(sandbox: Sandbox) -> None:
    with pytest.raises(WorkerDied, match="more than 1024 MB"):
        sandbox.run(("hog", 2000))

    assert sandbox.run(("hog", 10)) == 10 * 1024 * 1024


def test_a_failed_allocation_of_torch_is_told_as_memory_also_where_it_was_taken_for_a_broken_file() -> None:
    with (
        Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S, address_space_mb=8192)) as sandbox,
        pytest.raises(WorkerDied, match="more than 8192 MB"),
    ):
        sandbox.run(("hog-by-torch", 20000))


def test_memory_really_held_beyond_the_limit_ends_the_worker_without_an_address_space_limit() -> None:
    with Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S, memory_mb=400, more_memory="Buy some.")) as sandbox:
        with pytest.raises(WorkerDied, match=r"held more than 400 MB and was ended. Buy some."):
            sandbox.run(("fill", 3000, LONG_S))

        assert sandbox.run(("fill", 50)) == 50


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has started")
@pytest.mark.parametrize(
    "limits", [ProcessLimits(time_s=LONG_S, memory_mb=400), ProcessLimits(time_s=LONG_S, address_space_mb=400)]
)
def test_what_a_worker_has_started_counts_with_it(limits: ProcessLimits) -> None:
    with (
        Sandbox(TARGET, limits=limits) as sandbox,
        pytest.raises(WorkerDied, match="held more than 400 MB"),
    ):
        sandbox.run(("fill-in-daemons", 4, 150, LONG_S))


def test_memory_that_processes_share_counts_once() -> None:
    with Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S, memory_mb=400)) as sandbox:
        assert sandbox.run(("share-with-children", 3, 150, 1.0)) == 150


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has started")
def test_a_worker_that_multiplies_is_ended_long_before_its_time_is_over() -> None:
    with (
        Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S)) as sandbox,
        pytest.raises(WorkerDied, match=f"started more than {MOST_PROCESSES} others"),
    ):
        sandbox.run(("multiply", MOST_PROCESSES + 8, LONG_S))


def test_a_child_gets_what_its_environment_adds() -> None:
    with Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S), environment={"OMP_NUM_THREADS": "7"}) as sandbox:
        assert sandbox.run(("threads",)) == "7"


def once_at_work(act: Callable[[], object], at_work: Path) -> None:
    """Act from another thread when the worker is at the work that says so by this file."""

    def wait_and_act() -> None:
        wait_until(at_work.exists, LONG_S, "the worker to be at work")
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()


def test_a_kill_from_outside_is_told_as_such(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run(("add", 1, 1))
    worker = sandbox.process_id
    assert worker is not None
    once_at_work(lambda: os.kill(worker, signal.SIGKILL), tmp_path / "at-work")

    with pytest.raises(WorkerDied, match="SIGKILL"):
        sandbox.run(("sleep", LONG_S, tmp_path / "at-work"))


def test_a_worker_that_died_idle_costs_the_next_request_nothing(sandbox: Sandbox) -> None:
    sandbox.run(("add", 1, 1))
    worker = sandbox.process_id
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_running(worker), 60, "the worker's end")

    answer = sandbox.run(("add", 2, 2))

    assert isinstance(answer, list)
    assert answer[0] == 4


def test_closing_cuts_a_running_request_off(sandbox: Sandbox, tmp_path: Path) -> None:
    once_at_work(sandbox.close, tmp_path / "at-work")
    started = time.monotonic()

    with pytest.raises(WorkerDied):
        sandbox.run(("sleep", LONG_S, tmp_path / "at-work"))

    assert time.monotonic() - started < LONG_S / 2


def test_errors_of_the_node_keep_class_and_attributes(sandbox: Sandbox) -> None:
    with pytest.raises(NotAnalysable, match="Images are missing") as declined:
        sandbox.run(("decline",))
    with pytest.raises(SourceDamaged) as damaged:
        sandbox.run(("damage",))
    with pytest.raises(RefusedObject) as refused:
        sandbox.run(("refuse",))

    assert declined.value.reason == "GAP_IN_SERIES"
    assert damaged.value.paths == (Path("image.dcm"),)
    assert refused.value.status is StoreStatus.CANNOT_UNDERSTAND


def test_an_error_that_no_child_can_know_of_stops_nobody_who_would_wait_for_it(sandbox: Sandbox) -> None:
    """A job runner waits for its database when one is raised; a child has no database."""
    with pytest.raises(InferenceError, match="no database"):
        sandbox.run(("no-database",))


def test_other_exceptions_become_inference_errors_with_type_and_place(sandbox: Sandbox) -> None:
    with pytest.raises(InferenceError, match=r"ZeroDivisionError in crashing_targets.py:\d+\.$"):
        sandbox.run(("divide",))


@pytest.mark.parametrize("way", ["quote", "quote-in-own-words"])
def test_a_message_that_may_quote_the_patient_is_not_passed_on(sandbox: Sandbox, way: str) -> None:
    with pytest.raises(InferenceError, match="ValueError in ") as failed:
        sandbox.run((way,))

    assert "DOE" not in str(failed.value)


def test_what_a_network_says_of_shapes_is_passed_on() -> None:
    with (
        Sandbox(TARGET, limits=ProcessLimits(time_s=LONG_S)) as sandbox,
        pytest.raises(InferenceError, match=r"RuntimeError in conv.py:\d+: Given groups=1, weight of size \[1, 2"),
    ):
        sandbox.run(("misfit",))


def test_what_a_model_prints_stays_out_of_standard_output(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert sandbox.run(("shout",)) == "done"

    assert capfd.readouterr().out == ""


def test_a_target_that_cannot_be_imported_is_told() -> None:
    with (
        Sandbox("dicom_node.no_such_module:perform", limits=ProcessLimits(time_s=LONG_S)) as sandbox,
        pytest.raises(InferenceError, match="ModuleNotFoundError"),
    ):
        sandbox.run(("add", 1, 1))


def test_the_worker_survives_the_thread_that_asked_first(sandbox: Sandbox) -> None:
    thread = threading.Thread(target=sandbox.run, args=(("add", 1, 1),))
    thread.start()
    thread.join()
    pid = sandbox.process_id
    time.sleep(0.2)

    sandbox.run(("add", 1, 1))

    assert sandbox.process_id == pid


def test_the_worker_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\n"
        "from dicom_node.sandbox.host import MOST_PROCESSES, ProcessLimits, Sandbox\n"
        f"s = Sandbox({TARGET!r}, limits=ProcessLimits(time_s=60, address_space_mb=1024))\n"
        "s.run(('add', 1, 1))\n"
        "print(s.process_id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    worker = int(done.stdout)
    wait_until(lambda: not is_running(worker), 60, "the worker's end")
