"""Log lines: one JSON object each, whatever the texts hold; libraries that quote patients stay silent."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
from sqlalchemy.exc import IntegrityError

from dicom_node.core.errors import NodeError
from dicom_node.logs import JsonLines
from tests.support.needs import REPOSITORY

#: A patient nobody else has.
MARK = "XQZMARKER^PATIENT"


def line_of(message: str, exc_info: Exception | None = None, **extra: object) -> str:
    """Return the line as a stream gets it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    record = logging.makeLogRecord({"name": "test", "levelname": "WARNING", "msg": message} | extra)
    if exc_info is not None:
        record.exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    handler.emit(record)
    return stream.getvalue()


def test_a_line_holds_time_level_event_and_fields() -> None:
    told = json.loads(line_of("object refused", status="0xC000"))
    assert (told["level"], told["event"], told["status"]) == ("WARNING", "object refused", "0xC000")
    assert told["at"].endswith("+00:00")


def test_control_characters_cannot_forge_a_line() -> None:
    line = line_of("x", calling_ae_title='A\r\n{"event": "forged"}\x1b[2J\u2028\x00')
    assert line.count("\n") == 1
    assert line.isascii()
    assert all(c.isprintable() for c in line[:-1])


def test_what_json_does_not_know_is_written_as_text() -> None:
    assert json.loads(line_of("x", why=ValueError("no")))["why"] == "no"


def test_an_exception_is_one_line_with_its_traceback() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        line = line_of("failed", exc_info=error)
    assert line.count("\n") == 1
    assert "ZeroDivisionError" in json.loads(line)["traceback"]


def raised_by(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001 - whatever it is
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid literal for int(): {MARK!r}"),
        KeyError(MARK),
        UnicodeEncodeError("latin-1", MARK, 0, 1, "not in range"),
        IntegrityError("INSERT …", {"name": MARK}, Exception(f"Failing row contains ({MARK})")),
        ExceptionGroup(MARK, [ValueError(MARK)]),
    ],
)
def test_errors_that_quote_a_patient_are_told_by_type_and_place(error: Exception) -> None:
    error.add_note(MARK)
    behind = raised_by(NodeError("The object cannot be filed."), raised_by(error))
    for one in (raised_by(error), behind):
        told = line_of("failed", exc_info=one)
        assert MARK not in told
        assert type(error).__name__ in told
        assert "test_logs.py" in told
    assert "The object cannot be filed." in told


def test_a_warning_is_told_by_kind_and_place() -> None:
    program = (
        "import warnings\n"
        "from dicom_node.logs import configure_logs\n"
        "configure_logs('DEBUG')\n"
        f"warnings.warn('Invalid value: {MARK}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert MARK not in done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["kind"] == "UserWarning"


def test_libraries_that_quote_values_are_silent() -> None:
    program = (
        "import logging, warnings\n"
        "from dicom_node.logs import configure_logs\n"
        "configure_logs('DEBUG')\n"
        "for name in ('pydicom', 'pynetdicom.assoc', 'highdicom', 'httpx'):\n"
        "    logging.getLogger(name).warning('Doe^Jane')\n"
        "from pydicom.dataset import Dataset\n"
        "dataset = Dataset()\n"
        "dataset.StudyDate = 'Doe^Jane'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert "Doe" not in done.stdout + done.stderr
