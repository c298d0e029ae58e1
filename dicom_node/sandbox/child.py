"""The child side of `sandbox`: limits first, then the target, then one request after the other.

Run as ``python -m dicom_node.sandbox.child FD PARENT_PID MEMORY_MB TARGET [CONFINEMENT]``. Standard library only
until the target is imported, which is after the process is confined.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from dicom_node.core.errors import NodeError
from dicom_node.core.progress import told_to
from dicom_node.sandbox.answers import encoded, told_error
from dicom_node.sandbox.confinement import enter

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: Errors raised in these packages speak of shapes and layers: they are given numbers alone. Any other may quote the
#: value it fell over, and so the patient; whoever wrote a model meant well when he put it into the message.
_GIVEN_NUMBERS = ("torch.nn", "monai.networks", "monai.inferers")

#: How torch, C++ and ONNX Runtime say so, in plain RuntimeErrors and their kin.
_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "Failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "CUDA out of memory",
    "MPS backend out of memory",
)


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Returned(Generic[Value]):
    value: Value


@dataclass(frozen=True, slots=True)
class Raised:
    """A `NodeError`, taken apart."""

    class_name: str
    message: str
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Failed:
    """Any other exception: its type, ``module:line`` of its origin, its text where that cannot quote the patient."""

    kind: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    pass


#: Sent when a request has arrived: what happens from here on is that request's doing.
BEGUN = b"begun"
#: Before the name of a step that the target has begun (`core.progress`); no answer begins like this.
STEP = b"step "

Answer = Returned[Value] | Raised | Failed | OutOfMemory


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes the connection."""
    descriptor, parent_pid, memory_limit_mb = (int(text) for text in arguments[:3])
    _die_with_parent(parent_pid)
    if memory_limit_mb:
        limit = memory_limit_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # A core dump of a worker holds patient data.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C goes to the whole group; the parent decides when a worker ends.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with Connection(descriptor) as connection:
        _serve(connection, *arguments[3:])


def _serve(connection: Connection, target: str, confinement: str = "") -> None:
    perform, problem = _load(target, confinement)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send_bytes(BEGUN)
        with told_to(lambda step: connection.send_bytes(STEP + step.encode("ascii"))):
            answer = problem if perform is None else answer_to(perform, request)
        connection.send_bytes(_encoded(answer))
        if isinstance(answer, OutOfMemory):
            # The heap is in an unknown state and full; a fresh process is cheaper than a wrong answer.
            os._exit(1)


def _encoded(answer: Answer[object] | None) -> bytes:
    try:
        return encoded(answer)
    except (TypeError, RecursionError) as error:
        return encoded(_failed(error))


def _load(target: str, confinement: str) -> tuple[Callable[[object], object] | None, Answer[object] | None]:
    module_name, _, name = target.partition(":")
    try:
        if confinement:
            enter(confinement)
        return getattr(importlib.import_module(module_name), name), None
    except Exception as error:  # noqa: BLE001 - the worker's door: told to the parent, which decides
        return None, _failed(error)


def answer_to(perform: Callable[[Any], Value], request: object) -> Answer[Value]:
    """Call the target and wrap whatever comes of it."""
    try:
        return Returned(perform(request))
    except NodeError as error:
        # Whoever loads a model may take a failed allocation for a file that cannot be read.
        if _ran_out_of_memory(error):
            return OutOfMemory()
        class_name, attributes = told_error(error)
        return Raised(class_name, str(error), attributes)
    except Exception as error:  # noqa: BLE001 - the worker's door: told to the parent, which decides
        return OutOfMemory() if _ran_out_of_memory(error) else _failed(error)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what it was raised from, is an allocation that failed."""
    while error is not None:
        told = any(words in str(error) for words in _OUT_OF_MEMORY)
        if isinstance(error, MemoryError) or (told and not isinstance(error, NodeError)):
            return True
        error = error.__cause__
    return False


def _failed(error: Exception) -> Failed:
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "unknown place"  # noqa: PTH119
    return Failed(type(error).__name__, where, " ".join(_text_of(error).split())[:300])


def _text_of(error: Exception) -> str:
    """Return what may be told of an error's text: what an import lacks, and what is said by those who know no text."""
    if isinstance(error, ImportError):
        return f"there is no {error.name}" if error.name else ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    knows_no_text = any(raised_in == one or raised_in.startswith(f"{one}.") for one in _GIVEN_NUMBERS)
    return str(error) if knows_no_text else ""


def _die_with_parent(parent_pid: int) -> None:
    """Ask Linux to kill this process when the parent ends, and see that it has not ended already; and to leave it what
    its children have started, so that the parent finds all of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


if __name__ == "__main__":
    # Run by -m this file is `__main__`; the parent must get answers of the importable classes.
    from dicom_node.sandbox import child  # noqa: PLW0406

    child.main(sys.argv[1:])
