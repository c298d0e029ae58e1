"""`dicom-node serve` in which one thread dies: ``python -m tests.support.dying_thread NAME serve …``.

The thread runs the node's own code and is ended from outside as soon as it is there, by an exception that no door
catches, raised in the middle of whatever it does.
"""

from __future__ import annotations

import ctypes
import sys
import threading

from dicom_node.__main__ import main


class Death(SystemExit):
    """Not a fault that a worker's door turns into a log line."""


def end_thread(name: str) -> None:
    """Wait for a thread of this name and end it."""
    found = None
    while found is None:
        threading.Event().wait(0.01)
        found = next((one for one in threading.enumerate() if one.name == name), None)
    assert found.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(found.ident), ctypes.py_object(Death))


if __name__ == "__main__":
    threading.Thread(target=end_thread, args=(sys.argv[1],), daemon=True).start()
    sys.exit(main(sys.argv[2:]))
