"""Targets for the sandbox tests: each really does to its process what its name says."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.valuerep import DA

from dicom_node.core.errors import (
    IndexUnavailable,
    ModelUnavailable,
    NotAnalysable,
    RefusedObject,
    SourceDamaged,
    StoreStatus,
)
from dicom_node.core.progress import tell


def perform(request: object) -> object:
    """Do what the request names."""
    assert isinstance(request, tuple)
    return _ACTIONS[request[0]](*request[1:])


def _add(left: int, right: int) -> tuple[int, int]:
    return left + right, os.getpid()


def _segfault() -> None:
    ctypes.string_at(0)


def _exit(status: int) -> None:
    os._exit(status)


def _loop() -> None:
    while True:
        pass


def _hog(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


def _hog_by_torch(megabytes: int) -> None:
    """Ask torch for more than there is, as a model would; whoever loads it may take that for a broken file."""
    import torch  # noqa: PLC0415 - only this action needs it

    try:
        torch.empty(megabytes * 1024 * 1024, dtype=torch.uint8)
    except RuntimeError as error:
        raise ModelUnavailable("The file cannot be read.") from error


def _fill(megabytes: int, hold_s: float = 0.0) -> int:
    held = [b"x" * (1024 * 1024) for _ in range(megabytes)]
    time.sleep(hold_s)
    return len(held)


def _fill_in_daemons(count: int, megabytes: int, hold_s: float) -> int:
    """Have processes hold memory whose parents have ended: each by itself is small."""
    for _ in range(count):
        if os.fork() == 0:
            if os.fork() == 0:
                _fill(megabytes, hold_s)
            os._exit(0)
        os.wait()
    time.sleep(hold_s)
    return count


def _share_with_children(count: int, megabytes: int, hold_s: float) -> int:
    """Hold memory once, with children that see it, too."""
    held = [b"x" * (1024 * 1024) for _ in range(megabytes)]
    for _ in range(count):
        if os.fork() == 0:
            time.sleep(hold_s)
            os._exit(0)
    for _ in range(count):
        os.wait()
    return len(held)


def _multiply(count: int, hold_s: float) -> None:
    for _ in range(count):
        if os.fork() == 0:
            time.sleep(hold_s)
            os._exit(0)
    time.sleep(hold_s)


def _threads() -> str:
    return os.environ.get("OMP_NUM_THREADS", "")


def _decline() -> None:
    raise NotAnalysable("GAP_IN_SERIES", "Images are missing.")


def _damage() -> None:
    raise SourceDamaged([Path("image.dcm")])


def _refuse() -> None:
    raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "not understood")


def _no_database() -> None:
    raise IndexUnavailable("no database")


def _divide() -> float:
    return 1 / 0


def _quote_patient() -> None:
    DA("DOE^JOHN 1970")


def _quote_in_own_words() -> None:
    raise ValueError("DOE^JOHN has no age")


def _misfit() -> None:
    """Give a network one channel where it takes two."""
    import torch  # noqa: PLC0415 - only this action needs it

    torch.nn.Conv2d(2, 1, 1)(torch.zeros(1, 1, 4, 4))


def _shout() -> str:
    print("a model that prints")
    return "done"


def _sleep(seconds: float, at_work: Path) -> None:
    """Sleep, and say by a file that it has begun."""
    at_work.touch()
    time.sleep(seconds)


def _tell(*steps: str) -> str:
    for step in steps:
        tell(step)
    return "told"


def _tell_without_end() -> None:
    while True:
        tell("loading")


_ACTIONS: dict[str, Callable[..., object]] = {
    "add": _add,
    "segfault": _segfault,
    "exit": _exit,
    "loop": _loop,
    "hog": _hog,
    "hog-by-torch": _hog_by_torch,
    "fill": _fill,
    "fill-in-daemons": _fill_in_daemons,
    "share-with-children": _share_with_children,
    "multiply": _multiply,
    "threads": _threads,
    "decline": _decline,
    "damage": _damage,
    "refuse": _refuse,
    "no-database": _no_database,
    "divide": _divide,
    "quote": _quote_patient,
    "quote-in-own-words": _quote_in_own_words,
    "misfit": _misfit,
    "shout": _shout,
    "sleep": _sleep,
    "tell": _tell,
    "tell-without-end": _tell_without_end,
}
