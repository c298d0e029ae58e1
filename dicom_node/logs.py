"""Logs: one JSON line per state change, identifiers and durations only, never the patient."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_log = logging.getLogger(__name__)

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}

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
    """One JSON object per line: time, level, event, and the record's extra fields. Control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - the name that logging calls
        """Return where an error and those behind it came from, and what the node's own ones say.

        Any other error may quote the value that it fell over (`ValueError` of Python and pydicom, a database that shows
        the row it refuses): of those the type alone is told.
        """
        return "\n".join(_told(error) for error in _chain(ei[1]))


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error behind those that led to it, the first of all first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.insert(0, error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def _told(error: BaseException) -> str:
    is_ours = type(error).__module__.startswith("dicom_node.")
    says = f": {error}" if is_ours else ""
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__ + says


def configure_logs(level: str, stream: TextIO = sys.stderr) -> None:
    """Send this process's log to `stream` as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_third_parties()


def quiet_third_parties() -> None:
    """Keep libraries from logging attribute values of studies, and from failing on what real studies get wrong."""
    import pydicom.config  # noqa: PLC0415 - the command line must not load pydicom for --help

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    warnings.filterwarnings("ignore", module=r"highdicom(\..*)?")
    # What those filters miss: a library warns in the name of its caller.
    warnings.showwarning = _show_place  # type: ignore[assignment]


def _show_place(_text: object, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """Tell of a warning where it came from, never its text: it may quote the value it warns of."""
    _log.info("warning", extra={"kind": category.__name__, "where": f"{filename}:{lineno}"})
