"""The end of the node: a thread it cannot do without ends it with a reason, one that serves a peer does not."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.peers.node import REPOSITORY, Node
from tests.peers.process import free_port, wait_until
from tests.support.studies.data_factories import small_chest_ct

_A_THREAD_DIES = """
import sys, threading
from dicom_node.end import End, VitalThread
end = End()
kind = {"vital": VitalThread, "of a peer": threading.Thread}[sys.argv[1]]
dying = kind(name=sys.argv[1], target=lambda: 1 / 0)
dying.start()
dying.join()  # what its death means is decided before anybody else asks for the end
threading.Timer(1, end.ask).start()
end.wait()
sys.exit(3 if end.is_failure else 0)
"""


@pytest.mark.parametrize(("kind", "status"), [("vital", 3), ("of a peer", 0)])
def test_only_the_death_of_a_vital_thread_ends_the_program(kind: str, status: int) -> None:
    argv = [sys.executable, "-c", _A_THREAD_DIES, kind]
    assert subprocess.run(argv, cwd=REPOSITORY, timeout=120, check=False).returncode == status


_A_HANGUP_COMES = """
import os, signal, sys
from dicom_node.end import End, Hangup
hangup = Hangup()
os.kill(os.getpid(), signal.SIGHUP)  # while it starts
end = End(hangup)
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGTERM)
end.wait()
sys.exit(10 + hangup.count())
"""


def test_a_hangup_is_counted_from_the_start_on_and_ends_nothing_where_no_terminal_is_gone() -> None:
    argv = [sys.executable, "-c", _A_HANGUP_COMES]
    assert subprocess.run(argv, cwd=REPOSITORY, timeout=120, check=False, start_new_session=True).returncode == 12


#: A session's first process that opens a terminal has it.
_ON_A_TERMINAL = """
import os, sys
os.open(os.ttyname(0), os.O_RDWR)
from dicom_node.end import End, Hangup
end = End(Hangup())
print("up", flush=True)
end.wait()
sys.exit(7)
"""


def test_a_program_ends_with_the_terminal_that_it_was_started_on() -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", _ON_A_TERMINAL]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"up\n"
        os.close(theirs)
        os.close(ours)
        assert one.wait(60) == 7


#: Threads the node has for itself, and the role that has them.
_VITAL = [
    ("receive", "commitment"), ("receive", "watch"), ("receive", "consumer"), ("api", "api"),
    ("deliver", "outbox-files"), ("infer", "job-runner-0"),
]  # fmt: skip


@pytest.mark.parametrize(("role", "thread"), _VITAL)
def test_the_node_ends_with_a_reason_when_a_thread_of_its_own_dies(tmp_path: Path, role: str, thread: str) -> None:
    image, port = small_chest_ct()[0][0], free_port()
    (tmp_path / "watched").mkdir()
    settings = {
        "route": [],
        "watch": [{"path": str(tmp_path / "watched")}],
        "destination": [{"name": "files", "kind": "folder", "path": str(tmp_path / "filed")}],
        "dicom": {"port": port},
    }
    one = Node(tmp_path / "node", settings)
    argv = [sys.executable, "-m", "tests.support.dying_thread", thread, "serve", "--role", role]
    with (
        one.log.open("wb") as log,
        subprocess.Popen(
            [*argv, "--config", str(one.config)], stderr=log, stdout=subprocess.DEVNULL, cwd=REPOSITORY
        ) as process,
    ):
        if thread == "consumer":  # may wait for ever where nothing comes, and dies when something does
            wait_until(lambda: "node ready" in one.log.read_text(), 120, "the node")
            image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
            list(send_files([tmp_path / "image.dcm"], Remote("127.0.0.1", port, "AINODE", "CT1", 60.0)))
        assert process.wait(120) == 1
    lines = [json.loads(line) for line in one.log.read_text().splitlines() if line.startswith("{")]
    death = next(line for line in lines if line["event"] == "thread died")
    assert (death["who"], death["ends_the_program"]) == (thread, True)
    assert "Death" in death["traceback"]
    assert lines[-1]["event"] == "node stopped"


_A_RETRIEVAL_DIES = """
import sys
from pathlib import Path
from dicom_node.config.settings import Settings
from dicom_node.end import End
from dicom_node.retrieve.retrieval import FINISHED
from dicom_node.retrieve.retrievals import Retrievals
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.roles.node import Node

class Broken:
    name, ae_title, host = "pacs", "PACS", "localhost"
    def find_studies(self, query, limit):
        return ()
    def fetch(self, wanted, arrivals):
        raise {"vital": SystemExit, "of a peer": RuntimeError}[sys.argv[1]]

end = End()
node = Node(Settings.model_validate({"node": {"data_dir": sys.argv[2], "min_free_mb": 0}}))
retrievals = Retrievals({"pacs": Broken()}, node.sink_parts("one"), "AINODE")
asked = retrievals.ask(WantedStudy("1.2.3"))
while not end.is_failure and retrievals.get(asked.id).state not in FINISHED:
    pass
sys.exit(3 if end.is_failure else 0)
"""


@pytest.mark.parametrize(("kind", "status"), [("vital", 3), ("of a peer", 0)])
def test_what_a_source_causes_fails_its_retrieval_and_ends_no_node(tmp_path: Path, kind: str, status: int) -> None:
    """Only the death of the thread itself does, after which a place for retrievals would be missing for ever."""
    argv = [sys.executable, "-c", _A_RETRIEVAL_DIES, kind, str(tmp_path / "data")]
    assert subprocess.run(argv, cwd=REPOSITORY, timeout=120, check=False).returncode == status


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_demonstration_that_is_ended_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """SIGHUP is what a terminal says whose window is closed."""
    began = [sys.executable, "-m", "dicom_node", "demo", "--folder", str(tmp_path / "demo")]
    with subprocess.Popen(began, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if "The node listens" in line)
        started = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        demo.communicate(timeout=60)
    assert len(started) >= 2
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
