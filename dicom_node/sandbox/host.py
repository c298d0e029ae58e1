"""The host side of a worker process with limits: a crash in a codec or a model costs one attempt, never the node.

Standard library only: the host never imports numpy, torch or the target. One request at a time; the child stays warm
between requests and dies with its parent.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.core.metrics.table import PROCESS_DEATHS, PROCESS_STARTS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.progress import tell
from dicom_node.sandbox.answers import decoded, rebuilt_error
from dicom_node.sandbox.child import BEGUN, STEP, Answer, Failed, OutOfMemory, Raised, Returned
from dicom_node.sandbox.confinement import Confinement

_log = logging.getLogger(__name__)
_CLOSING_S = 2.0
#: How `multiprocessing.connection` refuses a message before it reads it.
_TOO_LONG = "bad message length"
#: A target tells of no more steps for one request, and by no longer names.
_MOST_STEPS, _LONGEST_STEP = 1000, 40


@dataclass(slots=True)
class Child:
    """A child process that leads a group of its own, and the connection to it."""

    process: subprocess.Popen[bytes]
    connection: Connection

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of one that has ended
            os.killpg(self.process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What a child may use for one request; 0 MB means no limit.

    `memory_mb` limits what is resident, looked at ten times a second where /proc tells it. `address_space_mb` makes
    the allocation itself fail (RLIMIT_AS), which is gentler and surer, but a GPU driver reserves more address space
    than any sensible limit. Either holds for the child and all that it has started together.
    `more_time` and `more_memory` tell whoever reads of an end how to allow more. An answer of more than `answer_mb` is
    not read.
    """

    time_s: float
    memory_mb: int = 0
    address_space_mb: int = 0
    answer_mb: int = 16
    more_time: str = ""
    more_memory: str = ""


class Sandbox:
    """Runs ``package.module:function`` in a child process with limits.

    `environment` is laid over the parent's own, or over what `confinement` leaves of it. `answer` is the type of what
    the target returns; nothing else is taken (`answers.decoded`).
    """

    def __init__(
        self,
        target: str,
        *,
        answer: object = object,
        limits: ProcessLimits,
        environment: Mapping[str, str] | None = None,
        confinement: Confinement | None = None,
    ) -> None:
        self._target = target
        self._answer = Answer[answer]  # type: ignore[misc, valid-type]
        self._limits = limits
        self._environment = environment or {}
        self._confinement = confinement
        self._child: Child | None = None
        self._closed = False
        self._busy = threading.Lock()
        # Linux ends the child when the thread that started it ends, so a thread that lives as long as we do starts it.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-starter")

    def run(self, request: object) -> object:
        """Return what the target returns for `request`, which goes there by pickle and comes back as data.

        Raises the `NodeError` the target raised, `InferenceError` for any other exception and for an answer that is
        none, and `WorkerDied` when the child crashed, ran out of time or of memory; the next call then starts a new
        child. Steps that the target tells are passed on (`core.progress`); the child may tell whatever it likes.
        """
        with self._busy:
            return self._unwrap(self._ask(request, again=True))

    def _ask(self, request: object, *, again: bool) -> object:
        """Send a request and wait for the answer; a child that had died idle is replaced once."""
        if self._closed:
            raise WorkerDied("The worker process was closed; the node is stopping.")
        child = self._child or self._starter.submit(self._start).result()
        self._child = child
        begun = answered = False
        with Watchdog(child, self._limits) as watchdog:
            try:
                child.connection.send(request)
                begun = self._message(child, len(BEGUN)) == BEGUN
                answer = decoded(self._last_message(child), self._answer)
                answered = True
                return answer
            except (EOFError, OSError) as error:
                told = self._obituary(child, watchdog.broke)
                if begun or watchdog.broke or not again:
                    raise WorkerDied(told) from error
            finally:
                if not answered:
                    self._bury()  # what it says next would be taken for the answer to another request
        return self._ask(request, again=False)

    def _last_message(self, child: Child) -> bytes:
        """Pass the steps on that the target tells, and return what comes behind them."""
        for _ in range(_MOST_STEPS):
            message = self._message(child, self._limits.answer_mb * _MEGABYTE)
            if not message.startswith(STEP) or len(message) > len(STEP) + _LONGEST_STEP:
                return message
            tell(message.removeprefix(STEP).decode("ascii", "replace"))
        raise InferenceError(f"The worker process told of more than {_MOST_STEPS} steps; nothing of it was kept.")

    def _message(self, child: Child, most_bytes: int) -> bytes:
        """Read the next message. Raises `EOFError` or `OSError` where the child has ended."""
        try:
            return child.connection.recv_bytes(most_bytes)
        except OSError as error:
            if str(error) != _TOO_LONG:
                raise
            raise InferenceError(f"The worker process gave an answer of more than {most_bytes} bytes.") from error

    def end_process(self) -> None:
        """End the warm child, if there is one; the next run starts a new one."""
        with self._busy:
            self._bury()

    def close(self) -> None:
        """End the child; a request that is running is cut off and raises `WorkerDied`."""
        self._closed = True
        child = self._child
        if child is not None and self._busy.locked():
            child.kill()
        with self._busy:
            self._bury()
        self._starter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process id of the warm child, if there is one."""
        return self._child.process.pid if self._child else None

    def _start(self) -> Child:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "dicom_node.sandbox.child"]
        command += [str(theirs.fileno()), str(os.getpid()), str(self._limits.address_space_mb), self._target]
        environment: Mapping[str, str] = os.environ
        if self._confinement is not None:
            self._confinement.make_folders()
            environment = self._confinement.environment()
            command.append(self._confinement.as_text())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # What a model prints must not end up in the output of a command line.
            stdout=2,
            pass_fds=[theirs.fileno()],
            # A group of its own: with it ends whatever it has started.
            start_new_session=True,
            env={
                **environment,
                **self._environment,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                # A model's folder stays as it was accepted: no compiled Python is written into it.
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        theirs.close()
        with _LIVING_LOCK:
            _LIVING[process.pid] = self._name
        TALLY.count(PROCESS_STARTS, process=self._name)
        _log.info("worker process started", extra={"pid": process.pid, "target": self._target})
        return Child(process, ours)

    @property
    def _name(self) -> str:
        return self._target.partition(":")[0].removeprefix("dicom_node.")

    def _died(self, why: str) -> None:
        TALLY.count(PROCESS_DEATHS, process=self._name, why=why)

    def _unwrap(self, answer: object) -> object:
        if isinstance(answer, OutOfMemory):
            self._died("memory")
            self._bury()
            told = f"The worker process needed more than {self._memory_limit()} of memory. {self._limits.more_memory}"
            raise WorkerDied(told.rstrip())
        return unwrapped(answer)

    def _memory_limit(self) -> str:
        megabytes = self._limits.address_space_mb or self._limits.memory_mb
        return f"{megabytes} MB" if megabytes else "the device has"

    def _obituary(self, child: Child, broke: str) -> str:
        """Bury a dead child and say how it ended."""
        if not self._closed:
            self._died(broke or "died")
        if broke == "time":
            self._bury()
            told = f"The worker process ran longer than {self._limits.time_s:g} s and was ended."
            return f"{told} {self._limits.more_time}".rstrip()
        if broke == "memory":
            self._bury()
            told = f"The worker process held more than {self._memory_limit()} and was ended."
            return f"{told} {self._limits.more_memory}".rstrip()
        if broke == "processes":
            self._bury()
            return f"The worker process started more than {MOST_PROCESSES} others and was ended."
        try:
            status = child.process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            status = None
        self._bury()
        return f"The worker process {_ending(status)} during the run. The next run starts a new one."

    def _bury(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.process.wait()
            child.connection.close()
            with _LIVING_LOCK:
                _LIVING.pop(child.process.pid, None)
            _log.info("worker process ended", extra={"pid": child.process.pid, "status": child.process.returncode})


#: The children that live, and what each runs.
_LIVING: dict[int, str] = {}
_LIVING_LOCK = threading.Lock()


def living_processes() -> Mapping[int, str]:
    """Return the children of this process that live, by process id, and what each runs."""
    with _LIVING_LOCK:
        return dict(_LIVING)


def family_bytes(process_id: int) -> int:
    """Return the resident memory of a process and of all that it has started and that still run."""
    return sum(map(resident_bytes, _family(process_id)))


def unwrapped(answer: object) -> object:
    """Return what the target returned; raise what it raised: a `NodeError` as it was, others as `InferenceError`."""
    match answer:
        case Returned(value):
            return value
        case Raised():
            raise rebuilt_error(answer.class_name, answer.message, answer.attributes)
        case Failed(kind, where, text):
            raise InferenceError(f"The model run failed with {kind} in {where}{': ' if text else ''}{text}.")
    raise InferenceError("The worker process gave an answer that is none.")


def _ending(status: int | None) -> str:
    if status is None:
        return "stopped answering"
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    return f"was killed by {name}" + (" (the system may have run out of memory)" if status == -signal.SIGKILL else "")


# --- the watchdog --------------------------------------------------------------------------------------------------

_POLL_S = 0.1
#: A process for each core loads data; so many are no computation.
MOST_PROCESSES = max(256, 4 * (os.cpu_count() or 1))
_MEGABYTE = 1 << 20
_PAGES_RESIDENT = 1  # field of /proc/PID/statm, proc(5)


class Watchdog:
    """Watches a child, and what it has started, while the block runs. `broke` is ``""`` or what it had too much of:
    ``time``, ``memory`` or ``processes``."""

    def __init__(self, child: Child, limits: ProcessLimits) -> None:
        self._child = child
        self._deadline = time.monotonic() + limits.time_s
        self._limit_bytes = (limits.memory_mb or limits.address_space_mb) * _MEGABYTE
        self._is_alone_limited = limits.memory_mb > 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{child.process.pid}", daemon=True)
        self.broke = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(min(max(0.0, self._deadline - time.monotonic()), _POLL_S)):
            self.broke = self._had_too_much_of()
            if self.broke:
                self._child.kill()
                return

    def _had_too_much_of(self) -> str:
        if time.monotonic() >= self._deadline:
            return "time"
        family = _family(self._child.process.pid)
        if len(family) > MOST_PROCESSES:
            return "processes"
        is_limited = self._limit_bytes and (self._is_alone_limited or len(family) > 1)
        return "memory" if is_limited and _is_more_held(family, self._limit_bytes) else ""


def _family(process_id: int) -> list[int]:
    """Return a process and all it has started that still run; the child adopts those whose parents have ended."""
    family = [process_id]
    for one in family:  # it grows meanwhile
        family += _started_by(one)
        if len(family) > MOST_PROCESSES:
            break
    return family


def _started_by(process_id: int) -> list[int]:
    """Return the children of a process, by whichever of its threads (proc(5)); none where it has ended."""
    found: list[int] = []
    with suppress(OSError):  # processes and threads end while one looks
        for thread in list(Path(f"/proc/{process_id}/task").iterdir()):
            with suppress(OSError):
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def _is_more_held(family: Sequence[int], limit_bytes: int) -> bool:
    """Tell whether processes hold more together. Pages that they share count once; what is resident counts them for
    each, but is quickly asked for."""
    if sum(map(resident_bytes, family)) <= limit_bytes:
        return False
    return len(family) == 1 or sum(map(_proportional_bytes, family)) > limit_bytes


def _proportional_bytes(process_id: int) -> int:
    """Return the memory of a process with its share of what it shares (Pss, proc(5))."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return resident_bytes(process_id)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def resident_bytes(process_id: int | str = "self") -> int:
    """Return the resident memory of a process; 0 where the system does not tell (no /proc)."""
    try:
        fields = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[_PAGES_RESIDENT]) * resource.getpagesize()
