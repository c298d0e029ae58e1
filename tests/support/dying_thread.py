"""`dicom-node serve` in which one thread dies: ``python -m tests.support.dying_thread NAME serve …``.

The thread runs the node's own code and is ended from outside as soon as it is there, by an exception that no door
catches, raised in the middle of whatever it does. Where that is a finalizer, or a server's start which takes every
exception for its application's (uvicorn's lifespan), nobody is ended by it: it is raised again while the thread lives.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import traceback

from dicom_node.__main__ import main

#: Long enough for the thread's last words.
_AGAIN_AFTER_S = 10.0


class Death(SystemExit):
    """Not a fault that a worker's door turns into a log line."""


def end_thread(name: str) -> None:
    """Wait for a thread of this name and end it."""
    while (ident := _running(name)) is None:
        threading.Event().wait(0.01)
    while ident in sys._current_frames():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Death))
        threading.Event().wait(_AGAIN_AFTER_S)


def _running(name: str) -> int | None:
    """Return the identity of the thread of this name, once its own work has begun (and not only its start)."""
    idents = {one.ident for one in threading.enumerate() if one.name == name}
    for ident, frame in sys._current_frames().items():
        names = {inner.f_code.co_name for inner, _ in traceback.walk_stack(frame)}
        if ident in idents and "run" in names:
            return ident
    return None


if __name__ == "__main__":
    threading.Thread(target=end_thread, args=(sys.argv[1],), daemon=True).start()
    sys.exit(main(sys.argv[2:]))
