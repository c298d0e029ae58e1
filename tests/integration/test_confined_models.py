"""Models whose code tries what it must not: nothing of it succeeds, and what the model is for still works."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.jobs.workers import Workers, WorkerSettings
from dicom_node.sandbox import kernel_rules
from dicom_node.sandbox.confinement import Confinement, lacking, told
from dicom_node.sandbox.host import ProcessLimits, Sandbox
from tests.peers.process import is_running, wait_until
from tests.support.models.model_folders import CLASSES, weights_table, write_card
from tests.support.models.tiny_networks import IMAGE_24, save_script
from tests.support.studies.data_factories import request_for, toy_bundle

pytestmark = pytest.mark.skipif(bool(lacking()), reason=f"this system cannot confine processes: {lacking()}")
SECRET = "a token that no model may see"
LONG_S = 240


# --- one process, asked by Python of strangers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's data folder: what a model must not see."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("node.sqlite", "node.toml", "api-token", "spool/ab/other-study.dcm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("worker")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("DATABASE_URL", "DICOM_NODE_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, SECRET)
        with Sandbox(
            "tests.integration.confined_work:perform", answer=str, limits=ProcessLimits(time_s=LONG_S),
            confinement=Confinement(folder),
        ) as sandbox:  # fmt: skip
            sandbox.run("1")
            yield sandbox


OS, SYS, C = "__import__('os')", "__import__('sys')", "__import__('ctypes').CDLL(None, use_errno=True)"
TMP = f"{OS}.environ['TMPDIR']"


@pytest.mark.parametrize(
    "tried",
    [
        "open('OUTSIDE/node.sqlite').read()",
        "open('OUTSIDE/node.toml').read()",
        "open('OUTSIDE/api-token').read()",
        "open('OUTSIDE/spool/ab/other-study.dcm').read()",
        f"{OS}.listdir('OUTSIDE')",
        f"{OS}.link('OUTSIDE/api-token', {TMP} + '/mine')",
        f"{OS}.rename('OUTSIDE/api-token', {TMP} + '/mine')",
        f"{OS}.remove('OUTSIDE/api-token')",
        f"{OS}.truncate('OUTSIDE/api-token', 0)",
        f"{OS}.open('OUTSIDE/api-token', {OS}.O_RDONLY | {OS}.O_TRUNC)",
        f"{OS}.symlink('OUTSIDE/api-token', {TMP} + '/s') or open({TMP} + '/s').read()",
        "open('OUTSIDE/written', 'w').write('x')",
        "open('/tmp/written-by-a-model', 'w')",
        "open('/etc/passwd').read()",
        "open('/etc/shadow').read()",
        "open('/proc/PPID/environ').read()",
        "open('/proc/PPID/mem', 'rb')",
        "open('/proc/PPID/maps').read()",
        "open('/proc/self/root/OUTSIDE/api-token').read()",
        f"{OS}.chroot('/')",
        f"{OS}.kill(PPID, 0)",
        f"{OS}.kill(-1, 0)",
        f"{OS}.setpriority({OS}.PRIO_PROCESS, PPID, 5)",
        f"{OS}.mkfifo({TMP} + '/pipe')",
        "__import__('socket').create_connection(('127.0.0.1', PORT))",
        "__import__('socket').socket(__import__('socket').AF_INET, __import__('socket').SOCK_DGRAM)",
        "__import__('socket').socket(__import__('socket').AF_INET6)",
        "__import__('socket').socket(__import__('socket').AF_UNIX)",
        "__import__('socket').socket(__import__('socket').AF_NETLINK, __import__('socket').SOCK_RAW)",
        "__import__('socket').create_server(('127.0.0.1', 0))",
        "__import__('resource').prlimit(PPID, __import__('resource').RLIMIT_NOFILE, (3, 3))",
    ],
)  # fmt: skip
def test_what_is_none_of_a_model_s_business_is_refused(confined: Sandbox, outside: Path, tried: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = tried.replace("OUTSIDE", str(outside)).replace("PORT", str(server.getsockname()[1]))
        with pytest.raises(InferenceError, match=r"failed with (PermissionError|OSError) in "):
            confined.run(asked.replace("PPID", str(os.getpid())))

    assert (outside / "api-token").read_text() == SECRET
    assert sorted(one.name for one in outside.iterdir()) == ["api-token", "node.sqlite", "node.toml", "spool"]


@pytest.mark.parametrize(
    "call",
    ["ptrace", "process_vm_readv", "process_vm_writev", "bpf", "keyctl", "userfaultfd", "mount", "unshare", "setns",
     "io_uring_setup", "perf_event_open", "setsid", "kexec_load", "init_module", "connect", "pidfd_getfd"],
)  # fmt: skip
def test_system_calls_that_no_model_needs_are_not_permitted(confined: Sandbox, call: str) -> None:
    column = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
    number = kernel_rules.REFUSED[call][column]
    asked = f"(lambda c: (c.syscall({number}, 0, 0, 0, 0, 0), __import__('ctypes').get_errno()))({C})"
    assert confined.run(asked) == "(-1, 1)"


def test_no_secret_is_in_its_environment_and_its_home_is_its_own(confined: Sandbox) -> None:
    told_by_child = cast(str, confined.run(f"dict({OS}.environ)"))
    home = cast(str, confined.run(f"{OS}.path.expanduser('~')"))

    assert SECRET not in told_by_child
    assert "DATABASE_URL" not in told_by_child
    assert home.endswith("/tmp")
    assert confined.run("__import__('getpass').getuser()") == "worker"


def test_modes_owners_and_times_stay_as_they_are_and_honest_copies_work(confined: Sandbox, outside: Path) -> None:
    before = (outside / "api-token").stat()
    confined.run(f"{OS}.chmod('{outside}/api-token', 0o777)")
    confined.run(f"{OS}.utime('{outside}/api-token', (0, 0))")

    assert (outside / "api-token").stat() == before
    copied = "__import__('shutil').copy2(__file__, __import__('tempfile').mkdtemp())".replace(
        "__file__", f"{OS}.__file__"
    )
    assert cast(str, confined.run(copied)).endswith("os.py")


def test_it_starts_threads_and_programs_and_has_locks_between_processes(confined: Sandbox) -> None:
    assert confined.run("__import__('multiprocessing.pool').pool.ThreadPool(2).map(abs, [-1, -2])") == "[1, 2]"
    ran = f"__import__('subprocess').run([{SYS}.executable, '-c', 'print(7)'], capture_output=True).stdout"
    assert confined.run(ran) == repr(b"7\n")


CONNECTION = (
    "[one for one in __import__('gc').get_objects()"
    " if isinstance(one, __import__('multiprocessing.connection').connection.Connection)][0]"
)


@pytest.mark.parametrize(
    "said",
    [
        f"__import__('pickle').dumps({OS}.getpid)",
        "b'x' * (17 << 20)",
        "b'[' * 100000",
        'b\'["Returned", ["Performed"]]\'',
        "b'\\xff'",
    ],
)
def test_what_it_says_in_place_of_an_answer_is_told_and_the_next_request_has_a_new_process(
    tmp_path: Path, said: str
) -> None:
    """A pickle of `os.getpid` was once called by whoever read it."""
    target, limits = "tests.integration.confined_work:perform", ProcessLimits(time_s=LONG_S)
    with Sandbox(target, answer=str, limits=limits, confinement=Confinement(tmp_path)) as made:
        first = made.run(f"{OS}.getpid()")
        with pytest.raises(InferenceError, match=r"answer that is none|more than \d+ bytes"):
            made.run(f"{CONNECTION}.send_bytes({said})")

        assert made.run(f"{OS}.getpid()") != first


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    limits = ProcessLimits(time_s=LONG_S)
    with Sandbox("tests.integration.confined_work:perform", limits=limits, confinement=Confinement(tmp_path)) as made:
        started = f"__import__('subprocess').Popen([{SYS}.executable, '-c', 'import time; time.sleep(600)']).pid"
        left = int(cast(str, made.run(started)))
        with pytest.raises(WorkerDied):
            made.run(f"{OS}._exit(0)")

    wait_until(lambda: not is_running(left), 60, "the end of what it started")


def test_a_system_that_cannot_confine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("auto").startswith("confined")
    monkeypatch.setattr(kernel_rules, "landlock_version", lambda: 0)
    assert "Landlock" in told("auto")
    monkeypatch.setattr(kernel_rules, "landlock_version", lambda: 2)
    assert "version 2" in told("require")
    monkeypatch.setattr(kernel_rules, "filters_calls", lambda: False)
    assert "seccomp" in told("auto")
    assert "all rights" in told("off")


# --- models ----------------------------------------------------------------------------------------------------------

SPY = """
import json, os, socket, tempfile
from pathlib import Path

def dimensions(outside, port):
    def read(name):
        return lambda: Path(outside, name).read_bytes()
    tried = {name: read(name) for name in ("node.sqlite", "node.toml", "api-token", "spool/ab/other-study.dcm")}
    tried["write"] = lambda: Path(outside, "written").write_text("x")
    tried["connect"] = lambda: socket.create_connection(("127.0.0.1", port))
    tried["environment"] = lambda: os.environ["DATABASE_URL"]
    found = {}
    for name, attempt in tried.items():
        try:
            found[name] = str(attempt())
        except Exception as error:
            found[name] = type(error).__name__
    Path(tempfile.gettempdir(), "found.json").write_text(json.dumps(found))
    return 2
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def workers(models: Path) -> Iterator[Workers]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DATABASE_URL", SECRET)
        made = Workers(WorkerSettings(device="cpu", count=1, time_limit_s=LONG_S, models_dirs=(models,)))
        yield made
        made.close()


def task(folder: Path, study: Path) -> Task:
    request = request_for([chest_radiograph_phantom(rows=64, age="030Y")], folder, study)
    return Task(request=request, fhir=FhirOptions(patient_system="urn:oid:2.25.1"))


def test_code_of_a_bundle_gets_at_nothing_and_its_answer_is_the_same_as_ever(
    workers: Workers, models: Path, outside: Path, tmp_path: Path
) -> None:
    folder = toy_bundle(models / "toy")
    expected = cast(Any, run_model(task(folder, tmp_path / "here").request, ComputePlace(device="cpu")))
    config = folder / "configs" / "inference.json"
    content = json.loads(config.read_text())
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").touch()
    (folder / "scripts" / "spy.py").write_text(SPY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = f"$__import__('scripts.spy').spy.dimensions({str(outside)!r}, {server.getsockname()[1]})"
        content["network_def"]["spatial_dims"] = call
        config.write_text(json.dumps(content))
        performed = cast(Performed, workers.run(task(folder, tmp_path / "there")))

    (note,) = workers._folder.glob("worker-0/tmp/found.json")
    found = json.loads(note.read_text())
    assert found == dict.fromkeys(found, "PermissionError") | {"environment": "KeyError"}
    assert len(found) == 7
    findings = cast("list[Any]", performed.summary["findings"])
    assert [one["probability"] for one in findings] == pytest.approx([one.probability for one in expected.findings])
    assert {one.name for one in (tmp_path / "there" / "out").iterdir()} >= {file.name for file in performed.files}


class Reads(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        content = torch.from_file(self.path, shared=False, size=8, dtype=torch.uint8)
        return torch.stack([content[:2].float() for _ in range(x.size(0))])


class Writes(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        content = torch.from_file(self.path, shared=True, size=8, dtype=torch.uint8)
        content.fill_(65)
        return torch.stack([content[:2].float() for _ in range(x.size(0))])


@pytest.mark.parametrize("tried", [(Reads, "api-token"), (Writes, "api-token"), (Writes, "made")])
def test_a_torchscript_program_neither_reads_nor_writes_files_of_the_system(
    workers: Workers, models: Path, outside: Path, tmp_path: Path, tried: tuple[type[torch.nn.Module], str]
) -> None:
    network, name = tried
    folder = models / f"{network.__name__}-{name}".lower()
    folder.mkdir()
    path = save_script(network(str(outside / name)), folder / "model.ts")
    write_card(folder, "torchscript", more=weights_table(path) + IMAGE_24 + CLASSES)

    with pytest.raises(InferenceError, match="Permission denied"):
        workers.run(task(folder, tmp_path / "study"))

    assert (outside / "api-token").read_text() == SECRET
    assert not (outside / "made").exists()


def test_a_worker_sees_its_own_study_only_while_it_works_on_it(workers: Workers) -> None:
    """Whatever is left in the worker's folder after a job could be read in the next."""
    inputs = list(workers._folder.glob("worker-0/inputs/*"))
    outputs = list(workers._folder.glob("worker-0/out/*"))

    assert inputs == outputs == []


def test_a_node_that_is_started_anywhere_reads_its_own_code(tmp_path: Path) -> None:
    """Installed to be edited in place, the package lies in no folder of `sys.path` but that of the repository."""
    program = Path(sys.executable).with_name("dicom-node")
    environment = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    tried = subprocess.run(
        [str(program), "models", "try", str(SHIPPED_MODELS / "cxr-pneumonia")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tried.returncode == 0, tried.stdout[-600:] + tried.stderr[-600:]
    assert "does not run" not in tried.stdout
