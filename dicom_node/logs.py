"""Logs: one JSON line per state change, identifiers and durations only, never the patient."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from typing import TextIO

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
