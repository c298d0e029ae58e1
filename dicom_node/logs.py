"""Logs: one JSON line per state change, identifiers and durations only, never the patient.

What others say, libraries and models, is told by kind and place, never by its text: it may quote what it was given.
A field under a name that identifies a patient (`core.identifying`) is withheld, should a line ever be given one.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, date, datetime
from pathlib import PurePath
from types import TracebackType
from typing import TextIO
from uuid import UUID

from dicom_node.core.calls.requests import requests_in_work
from dicom_node.core.identifying import NODE_FIELDS

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_log = logging.getLogger(__name__)

_OURS = __name__.partition(".")[0]
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}

_WITHHELD = "(withheld)"
_HARMLESS = (PurePath, UUID, date)

#: Libraries whose own messages quote attribute values, or speak at each call.
_TALKATIVE = (
    "pydicom",
    "pynetdicom",
    "highdicom",
    "httpx",
    "httpcore",
    "apscheduler",
    "uvicorn",
    "alembic",
    "PydicomReader",
)


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, event, and the record's extra fields. Control characters are escaped.

    Of what other libraries log only the place is told.
    """

    def format(self, record: logging.LogRecord) -> str:
        is_ours = record.name.partition(".")[0] == _OURS
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "event": record.getMessage() if is_ours else "message of a library",
            "logger": record.name,
        }
        if requests := requests_in_work():
            line["request"] = " ".join(requests)
        if is_ours:
            line |= _tellable({key: value for key, value in record.__dict__.items() if key not in _STANDARD})
        else:
            line["where"] = f"{record.pathname}:{record.lineno}"
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=_as_text)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - the name that logging calls
        """Return where an error and those behind it came from, and what the node's own ones say.

        Any other error may quote the value that it fell over (`ValueError` of Python and pydicom, a database that shows
        the row it refuses): of those the type alone is told.
        """
        return "\n".join(_told(error) for error in _chain(ei[1]))


def _tellable(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields without the values of those that identify a patient, however deep they lie."""
    return {
        key: _WITHHELD if str(key).lower() in NODE_FIELDS else _tellable(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
    }


def _as_text(value: object) -> str:
    """Return a value that JSON does not know: errors as `_says`, paths and the like as such, of others the kind."""
    if isinstance(value, BaseException):
        return f"{type(value).__qualname__}{_says(value)}"
    return str(value) if isinstance(value, _HARMLESS) else f"({type(value).__qualname__})"


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error behind those that led to it, the first of all first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.insert(0, error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def _told(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__ + _says(error)


def _says(error: BaseException) -> str:
    """Return what one of the node's own errors says; any other may quote the patient."""
    return f": {error}" if type(error).__module__.startswith("dicom_node.") else ""


def configure_logs(level: str, stream: TextIO = sys.stderr) -> None:
    """Send this process's log to `stream` as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_third_parties()


def set_log_level(level: str) -> None:
    """Tell lines of this severity and above from now on."""
    logging.getLogger().setLevel(level)


def quiet_third_parties() -> None:
    """Keep libraries from logging attribute values of studies, and from failing on what real studies get wrong.

    A process that is not told what to log (`configure_logs`) tells warnings and errors, in the same form.
    """
    import pydicom.config  # noqa: PLC0415 - the command line must not load pydicom for --help

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    warnings.filterwarnings("ignore", module=r"highdicom(\..*)?")
    # What those filters miss: a library warns in the name of its caller.
    warnings.showwarning = _show_place  # type: ignore[assignment]
    _tell_errors_by_place()


def _show_place(_text: object, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """Tell of a warning where it came from, never its text: it may quote the value it warns of."""
    _log.info("warning", extra={"kind": category.__name__, "where": f"{filename}:{lineno}"})


def _tell_errors_by_place() -> None:
    """Have Python itself tell as one line of ours what nobody caught, unless somebody else has seen to that."""
    last = logging.StreamHandler(sys.__stderr__)
    last.setLevel(logging.WARNING)
    last.setFormatter(JsonLines())
    logging.lastResort = last
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _tell_end
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_passed_over
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _tell_thread_end


def _tell_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("program died", exc_info=(kind, error, trace))


def _tell_passed_over(told: sys.UnraisableHookArgs) -> None:
    _log.error("error passed over", exc_info=(told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback))


def _tell_thread_end(told: threading.ExceptHookArgs) -> None:
    _log.critical("thread died", extra={"who": told.thread.name if told.thread else "?"},
                  exc_info=(told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback))  # fmt: skip


# --- what models print -----------------------------------------------------------------------------------------------


class _Counted(io.RawIOBase):
    """Counts what is written, and keeps nothing of it."""

    count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        self.count += size
        return size


@contextmanager
def unprinted(model: str) -> Iterator[None]:
    """Drop what is printed while the block runs, and say how much that was: a model may print the patient's name.

    Log lines are not touched. For the main thread of a process of its own.
    """
    counted = _Counted()
    printed = io.TextIOWrapper(io.BufferedWriter(counted), encoding="utf-8", errors="replace")
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
    finally:
        printed.flush()
        if counted.count:
            _log.warning("prints of a model dropped", extra={"model": model, "bytes": counted.count})
